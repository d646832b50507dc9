"""Patience counts epochs since the least loss, and survives a checkpoint."""

import math

import pytest

from sickbay.models.shared.early_stopping import Patience


def ends(losses, epochs):
    """After how many losses training ends, None if it does not."""
    patience = Patience(epochs)
    for number, loss in enumerate(losses, start=1):
        patience.step(loss)
        restored = Patience(epochs)
        restored.load_state_dict(patience.state_dict())
        patience = restored
        if patience.over:
            return number
    return None


@pytest.mark.parametrize(
    ("losses", "epochs", "end"),
    [
        ([3, 2, 2.5, 2.4, 1], 2, 4),
        ([3, 2, 2.5, 1.9, 2.0], 2, None),
        ([3, 3, 3], 1, 2),  # an equal loss is no lower one
        ([math.nan, math.nan], 2, 2),
        ([3, 4, 5, 6], 0, None),
    ],
)
def test_training_ends_so_many_epochs_after_the_least_loss(losses, epochs, end):
    assert ends(losses, epochs) == end
