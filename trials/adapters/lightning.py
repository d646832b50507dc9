"""A callback for PyTorch Lightning: judges the run after every epoch that was validated.

    from sickbay.trials.adapters.lightning import lightning_callback

    sickbay = lightning_callback(TaskFacts(floors={"val_loss": 0.69}), path="history.jsonl")
    Trainer(callbacks=[sickbay], …).fit(model, data)
    print(sickbay.diary.label)

Log `val_loss` (and what else you measure) in `validation_step`; the numerics of the steps and of
the parameter groups come from a probe.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sickbay.trials.adapters.callback_log import Diary
from sickbay.trials.contract import TaskFacts


def lightning_callback(
    facts: TaskFacts | None = None,
    *,
    path: str | Path | None = None,
    stop: bool = False,
    groups: Mapping[str, Sequence[Any]] | None = None,
    batch: Any = None,
    **diary_options: Any,
) -> Any:
    """Make a `pytorch_lightning.Callback`; it needs the package pytorch-lightning (or lightning).

    `stop` ends the training once a pathology is certain. `groups` and `batch` go to the `Probe`,
    `diary_options` (tell, names, planned) to the `Diary`, the callback's attribute `diary`.
    """
    try:
        from pytorch_lightning import Callback  # noqa: PLC0415  only who uses it must have it
    except ImportError:
        from lightning.pytorch import Callback  # type: ignore[import-not-found,no-redef,unused-ignore]  # noqa: PLC0415

    from sickbay.trials.probes import Probe  # noqa: PLC0415  brings torch

    class SickbayCallback(Callback):  # type: ignore[misc,unused-ignore]
        """Collects what Lightning logs and what the probe measures, and judges it."""

        def __init__(self) -> None:
            super().__init__()
            self.diary = Diary(facts, path=path, stop=stop, **diary_options)
            self._validated = False
            self._loss: Any = float("nan")

        def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
            clip = trainer.gradient_clip_val or float("inf")
            self._probe = Probe(pl_module, groups, batch=batch, clip=clip)
            self.diary.watch(self._probe.groups, trainer.max_epochs or 0)

        def on_before_backward(self, trainer: Any, pl_module: Any, loss: Any) -> None:
            del trainer, pl_module
            self._loss = loss.detach()

        def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
            del trainer, pl_module, optimizer  # gradients are unscaled and not clipped yet
            self._probe.step(self._loss)

        def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
            del pl_module
            self._validated = not trainer.sanity_checking

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            del pl_module
            if not self._validated and trainer.val_dataloaders is not None:
                return
            self._validated = False
            measured = self._probe.evaluation()
            logged = self.diary.signals(trainer.callback_metrics)
            self.diary.add(trainer.current_epoch + 1, trainer.global_step, {**measured, **logged})
            trainer.should_stop = trainer.should_stop or self.diary.stopping

        def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
            del trainer, pl_module
            self.diary.finish()

    return SickbayCallback()
