"""A callback for Keras, on any of its backends: judges the run after every epoch.

    from sickbay.trials.adapters.keras import keras_callback

    sickbay = keras_callback(TaskFacts(floors={"val_loss": 0.69}), path="history.jsonl")
    model.fit(x, y, validation_data=…, callbacks=[sickbay])
    print(sickbay.diary.label)

Keras shows a callback no gradients: recorded are its logs, and how far each layer's weights moved.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np

from sickbay.trials.adapters.callback_log import Diary
from sickbay.trials.contract import SignalValue, TaskFacts


def keras_callback(
    facts: TaskFacts | None = None,
    *,
    path: str | Path | None = None,
    stop: bool = False,
    **diary_options: Any,
) -> Any:
    """Make a `keras.callbacks.Callback`; it needs the package keras and one of its backends.

    `stop` ends the training once a pathology is certain. `diary_options` (tell, names, planned) go
    to the `Diary`, the callback's attribute `diary`.
    """
    import keras  # noqa: PLC0415  only who uses it must have it

    class SickbayCallback(keras.callbacks.Callback):  # type: ignore[misc,unused-ignore]
        """Collects what Keras logs and how the layers' weights move, and judges it."""

        def __init__(self) -> None:
            super().__init__()
            self.diary = Diary(facts, path=path, stop=stop, **diary_options)
            self._steps = 0
            self._total = 0

        def on_train_begin(self, logs: Any = None) -> None:
            del logs
            self._layers = [layer for layer in self.model.layers if layer.trainable_weights]
            self._before = self._weights()
            names = tuple(str(layer.name) for layer in self._layers)
            self.diary.watch(names, int(self.params.get("epochs") or 0))

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            del batch, logs
            self._steps += 1

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            now = self._weights()
            moved: dict[str, SignalValue] = {
                "train_steps": float(self._steps),
                "group_update_norm": [_norm(b, a) for a, b in zip(self._before, now, strict=True)],
                "group_weight_norm": [_norm(weights) for weights in now],
                "nonfinite_params": float(
                    sum(int((~np.isfinite(part)).sum()) for weights in now for part in weights)
                ),
            }
            self._total += self._steps
            self._before, self._steps = now, 0
            self.diary.add(epoch + 1, self._total, {**moved, **self.diary.signals(logs or {})})
            self.model.stop_training = self.model.stop_training or self.diary.stopping

        def on_train_end(self, logs: Any = None) -> None:
            del logs
            self.diary.finish()

        def _weights(self) -> list[list[np.ndarray[Any, Any]]]:
            convert = keras.ops.convert_to_numpy
            return [
                [np.array(convert(weight)) for weight in layer.trainable_weights]
                for layer in self._layers
            ]

    return SickbayCallback()


def _norm(
    parts: list[np.ndarray[Any, Any]], before: list[np.ndarray[Any, Any]] | None = None
) -> float:
    """Norm of a layer's weights, or of their change."""
    old = [0.0] * len(parts) if before is None else before
    return math.sqrt(
        sum(
            float(np.square(part - other, dtype=np.float64).sum())
            for part, other in zip(parts, old, strict=True)
        )
    )
