"""Shared by all callbacks: collects rows, judges after every evaluation, and writes a file.

    diary = Diary(facts, planned=20, path="history.jsonl")
    label = diary.add(epoch, step, {"train_loss": 0.4, "val_loss": 0.5})
    ...
    label = diary.finish()

The file has one JSON object an evaluation, which `sickbay diagnose FILE` reads.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from sickbay.trials import registry
from sickbay.trials.contract import Label, Row, SignalValue, TaskFacts
from sickbay.trials.diagnosis.diagnose import diagnose, online_stop
from sickbay.trials.history import History

# How libraries call what the detectors read; `names` of a callback goes before it.
SPELLINGS = {
    "loss": "train_loss",
    "train_loss_epoch": "train_loss",
    "eval_loss": "val_loss",
    "val_acc": "val_accuracy",
    "accuracy": "train_accuracy",
    "acc": "train_accuracy",
    "train_acc": "train_accuracy",
    "eval_accuracy": "val_accuracy",
    "val_auc": "val_auroc",
    "eval_auc": "val_auroc",
    "eval_auroc": "val_auroc",
    "auc": "train_auroc",
}


class Diary:
    """The evaluations of one training run and the verdict on them so far.

    `facts` describe the task (a floor of `val_loss` lets skill be proven), `planned` is the number
    of epochs, `path` a file to write. `stop` asks to end the training when a pathology is certain;
    `tell` is called with a line whenever the verdict changes. Without a recorded `val_n` the facts'
    counts.
    """

    def __init__(
        self,
        facts: TaskFacts | None = None,
        *,
        planned: int = 0,
        path: str | Path | None = None,
        stop: bool = False,
        tell: Callable[[str], None] | None = print,
        names: Mapping[str, str] | None = None,
    ) -> None:
        """Begin an empty log; an existing file at `path` is overwritten."""
        self.facts = facts or TaskFacts()
        self.planned = planned
        self.label: Label | None = None
        self.rows: list[Row] = []
        self._path = Path(path) if path is not None else None
        self._stop, self._tell = stop, tell
        self._names = {**SPELLINGS, **(names or {})}
        self._detectors = registry.all_detectors()
        self._told = ""
        self.stopping = False

    def watch(self, groups: tuple[str, ...], planned: int) -> None:
        """Set the names of the parameter groups, and the planned epochs if not given before."""
        self.facts = replace(self.facts, groups=groups)
        self.planned = self.planned or planned

    def signals(self, metrics: Mapping[str, object]) -> dict[str, SignalValue]:
        """Map a library's metrics to signals; non-numbers are left out."""
        signals: dict[str, SignalValue] = {}
        for name, value in metrics.items():
            try:
                signals[self._names.get(name, name)] = float(value)  # type: ignore[arg-type]
            except (TypeError, ValueError, RuntimeError):
                continue
        return signals

    def add(self, epoch: int, step: int, signals: Mapping[str, SignalValue]) -> Label:
        """Add an evaluation and judge the run so far; `stopping` says whether to end it."""
        self.rows.append(Row(epoch, step, dict(signals)))
        self._write()
        label = self._judge(finished=False)
        self.stopping = self.stopping or (self._stop and self._certain)
        return label

    def finish(self) -> Label:
        """Judge the whole run; finished, unless it was asked to stop."""
        return self._judge(finished=not self.stopping)

    def history(self, *, finished: bool = True) -> History:
        """The run as detectors see it."""
        planned = self.planned or len(self.rows)
        return History(self.rows, self.facts, planned, finished=finished)

    def _judge(self, *, finished: bool) -> Label:
        diagnosis = diagnose(self.history(finished=finished), self._detectors)
        self._certain = online_stop(diagnosis, self._detectors)
        self.label = diagnosis.label
        cause = f" ({diagnosis.label.pathology})" if diagnosis.label.pathology else ""
        verdict = f"{diagnosis.label.health}{cause}"
        if self._tell is not None and self.rows and (verdict != self._told or finished):
            where = f"epoch {self.rows[-1].epoch}"
            advice = f"{diagnosis.label.reason} {diagnosis.label.remedy}".strip()
            self._tell(f"sickbay, {where}: {verdict}. {advice}")
        self._told = verdict
        return diagnosis.label

    def _write(self) -> None:
        if self._path is None:
            return
        row = self.rows[-1]
        mode = "w" if len(self.rows) == 1 else "a"
        line = json.dumps({"epoch": row.epoch, "step": row.step, **row.signals})
        with self._path.open(mode) as file:
            file.write(line + "\n")
