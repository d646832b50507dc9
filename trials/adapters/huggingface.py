"""A callback for the Hugging Face Trainer: judges the run after every evaluation.

    from sickbay.trials.adapters.huggingface import huggingface_callback

    sickbay = huggingface_callback(TaskFacts(floors={"val_loss": 0.69}), path="history.jsonl")
    Trainer(model=…, callbacks=[sickbay], …).train()
    print(sickbay.diary.label)

A row's epoch counts evaluations, which may lie anywhere in an epoch. Gradient norms before clipping
are those that the Trainer logs (`logging_steps`).
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, quantiles, stdev
from typing import Any

from sickbay.trials.adapters.callback_log import Diary
from sickbay.trials.contract import SignalValue, TaskFacts

AFTER_CLIPPING = ("grad_norm_p50", "grad_norm_p90", "grad_norm_max", "clipped_share")
OF_THE_LOSS = ("train_loss", "train_loss_se", "nonfinite_loss_steps")


def huggingface_callback(
    facts: TaskFacts | None = None,
    *,
    path: str | Path | None = None,
    stop: bool = False,
    groups: Mapping[str, Sequence[Any]] | None = None,
    batch: Any = None,
    **diary_options: Any,
) -> Any:
    """Make a `transformers.TrainerCallback`; it needs the packages transformers and accelerate.

    `stop` ends the training once a pathology is certain. `groups` and `batch` go to the `Probe`,
    `diary_options` (tell, names, planned) to the `Diary`, the callback's attribute `diary`.
    """
    from transformers import TrainerCallback  # noqa: PLC0415  only who uses it must have it

    from sickbay.trials.probes import Probe  # noqa: PLC0415  brings torch

    class SickbayCallback(TrainerCallback):  # type: ignore[misc,unused-ignore]
        """Collects what the Trainer logs and what the probe measures, and judges it."""

        def __init__(self) -> None:
            self.diary = Diary(facts, path=path, stop=stop, **diary_options)
            self._losses: list[float] = []
            self._norms: list[float] = []

        def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            del control
            self._probe = Probe(more["model"], groups, batch=batch)
            each = getattr(state, "eval_steps", None) if args.eval_strategy == "steps" else None
            planned = state.max_steps // each if each else math.ceil(args.num_train_epochs)
            self.diary.watch(self._probe.groups, int(planned))

        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            del args, state, control, more
            self._probe.step(math.nan)

        def on_log(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            del args, state, control
            logs = more.get("logs") or {}
            if "loss" in logs:
                self._losses.append(float(logs["loss"]))
            if "grad_norm" in logs:
                self._norms.append(float(logs["grad_norm"]))

        def on_evaluate(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            del args
            measured = self._probe.evaluation()
            known = {k: v for k, v in measured.items() if k not in (*AFTER_CLIPPING, *OF_THE_LOSS)}
            logged = {**_of_losses(self._losses), **_of_norms(self._norms)}
            self._losses, self._norms = [], []
            metrics = {k: v for k, v in (more.get("metrics") or {}).items() if k != "epoch"}
            epoch = len(self.diary.rows) + 1
            self.diary.add(
                epoch, state.global_step, {**known, **logged, **self.diary.signals(metrics)}
            )
            control.should_training_stop = control.should_training_stop or self.diary.stopping

        def on_train_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            del args, state, control, more
            self.diary.finish()

    return SickbayCallback()


def _of_losses(losses: Sequence[float]) -> dict[str, SignalValue]:
    """The training loss from the means that were logged since the last evaluation."""
    if not losses:
        return {}
    signals: dict[str, SignalValue] = {"train_loss": fmean(losses)}
    if len(losses) > 1 and all(map(math.isfinite, losses)):
        signals["train_loss_se"] = stdev(losses) / math.sqrt(len(losses))
    signals["nonfinite_loss_steps"] = float(sum(not math.isfinite(loss) for loss in losses))
    return signals


def _of_norms(norms: Sequence[float]) -> dict[str, SignalValue]:
    """Quantiles of the logged norms."""
    finite = [norm for norm in norms if math.isfinite(norm)]
    if not finite:
        return {}
    tenths = quantiles(finite, n=10, method="inclusive") if len(finite) > 1 else finite * 9
    return {"grad_norm_p50": tenths[4], "grad_norm_p90": tenths[8], "grad_norm_max": max(finite)}
