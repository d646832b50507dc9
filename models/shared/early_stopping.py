"""Early stopping: a run ends once its validation loss has not fallen for some epochs."""

import math
from typing import Any


class Patience:
    """Counts the epochs since the least validation loss so far; 0 epochs of patience never end."""

    def __init__(self, epochs: int) -> None:
        """Take how many epochs may pass without a new least loss. Raises ValueError below 0."""
        if epochs < 0:
            raise ValueError(f"patience: {epochs} is below 0; 0 turns early stopping off")
        self.epochs, self.least, self.waited = epochs, math.inf, 0

    @property
    def over(self) -> bool:
        """Whether training should end."""
        return 0 < self.epochs <= self.waited

    def step(self, loss: float) -> None:
        """Look at the validation loss of an epoch; NaN is no new least."""
        better = loss < self.least
        self.least, self.waited = (loss, 0) if better else (self.least, self.waited + 1)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint must hold."""
        return {"least": self.least, "waited": self.waited}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` has returned."""
        self.least, self.waited = state_dict["least"], state_dict["waited"]
