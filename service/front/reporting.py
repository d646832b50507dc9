"""`sickbay.start`: a training script reports its evaluations from inside.

    run = sickbay.start(task="multiclass", classes=[50, 50], floor="cross_entropy", val_n=100)
    run.watch(model)                                         # optional: gradients, layers, updates
    for epoch in range(1, epochs + 1):
        ...
        run.log(epoch=epoch, train_loss=…, val_loss=…)
    label = run.finish()

Under a sweep the reports go to the script's trial. Alone the run is stored as a trial of a sweep
that bears the script's name, with its label.
"""

import atexit
import hashlib
import json
import sys
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from sickbay.service.settings import settings
from sickbay.trials.adapters.callback_log import SPELLINGS
from sickbay.trials.contract import (
    Goal,
    Label,
    Objective,
    Row,
    Scalar,
    SignalValue,
    TaskFacts,
    TrialConfig,
    TrialState,
)
from sickbay.trials.diagnosis.diagnose import Diagnosis, diagnose
from sickbay.trials.execution.machine.loader import Batch, LoaderClock
from sickbay.trials.execution.recorder import TrialLog, check_row
from sickbay.trials.execution.trial import detectors, objectives
from sickbay.trials.history import History, facts_to_json
from sickbay.trials.log_files.trial_folder import REPORTED
from sickbay.trials.logs.facts import stated_facts
from sickbay.trials.source import command_code, library_versions
from sickbay.trials.spec import SweepSpec, spec_to_json
from sickbay.trials.store import (
    SweepRecord,
    TrialRecord,
    open_store,
    start_attempt,
    write_sweep,
    write_trial,
)
from sickbay.trials.store.merge import consolidate

if TYPE_CHECKING:  # it brings torch, which not every script has
    from sickbay.trials.probes.watch import ModelWatch

OBJECTIVE = Objective("val_loss", Goal.MINIMIZE)
FACTS = ("task", "kind", "classes", "floor", "val_n", "components")


class _Sink(Protocol):
    """Destination of a run's evaluations."""

    def facts(self, facts: TaskFacts) -> None: ...

    def row(self, row: Row) -> Row: ...  # with what was measured beside it

    def end(self, run: "Run", diagnosis: Diagnosis, error: str | None) -> None: ...


def start(
    *,
    facts: TaskFacts | None = None,
    config: Mapping[str, Scalar] | None = None,
    epochs: int = 0,
    name: str | None = None,
    store: str | None = None,
    **known: Any,
) -> "Run":
    """Start reporting; `known` states the task's facts: task, classes, floor, val_n, ….

    `facts` is the same as a value (`TaskFacts.of`). `config` are the run's settings, which become
    columns; `epochs` is how many are planned; `name` and `store` apply outside a sweep. Raises
    TypeError for an unknown fact.
    """
    wrong = sorted(set(known) - set(FACTS))
    if wrong:
        raise TypeError(f"start: no fact is called {wrong[0]!r}; there are {', '.join(FACTS)}")
    if "kind" in known:
        known["task"] = known.pop("kind")
    chosen = settings()
    if chosen.rank > 0:
        sink: _Sink = _Nowhere()
    elif chosen.trial_dir is not None:
        sink = _ToTrial(Path(chosen.trial_dir) / REPORTED)
    else:
        sink = _ToStore(name or _script_name(), store or chosen.store, dict(config or {}))
    return Run(facts or stated_facts(known), epochs, sink)


class Run:
    """A training run that reports itself; as a context manager, it finishes on exit."""

    def __init__(self, facts: TaskFacts, planned: int, sink: _Sink) -> None:
        """Begin; a run without `finish` is finished when Python exits."""
        self.facts, self.planned = facts, planned
        self.rows: list[Row] = []
        self.label: Label | None = None
        self._sink = sink
        self._watch: ModelWatch | None = None
        self._loader = LoaderClock()
        self._sink.facts(facts)
        atexit.register(self._at_exit)

    def watch(self, model: Any, optimizer: Any = None) -> None:
        """Watch a torch model by hooks: gradients, update sizes, layers. Does not alter it."""
        from sickbay.trials.probes.watch import ModelWatch  # noqa: PLC0415  brings torch

        self._watch = ModelWatch(model, optimizer)
        self.facts = replace(self.facts, groups=self._watch.groups)
        self._sink.facts(self.facts)

    def batches(self, loader: Iterable[Batch]) -> Iterator[Batch]:
        """Yield a loader's batches, and report the share of time spent waiting for them."""
        return self._loader.batches(loader)

    def log(
        self,
        *,
        epoch: int | None = None,
        step: int | None = None,
        outputs: Any = None,
        targets: Any = None,
        **signals: Any,
    ) -> None:
        """Report an evaluation: numbers by name, and the watched model's signals since the last.

        Without an `epoch` evaluations are counted. With the validation set's `outputs` (logits) and
        `targets` (classes), the confusion table and more are derived. Raises RowError for what is
        no number.
        """
        number = epoch if epoch is not None else (self.rows[-1].epoch + 1 if self.rows else 1)
        measured: dict[str, SignalValue] = dict(self._watch.signals()) if self._watch else {}
        measured |= self._loader.finish()
        if outputs is not None and targets is not None:
            from sickbay.trials.probes.watch import class_signals  # noqa: PLC0415

            measured |= class_signals(outputs, targets)
        measured |= {SPELLINGS.get(name, name): value for name, value in signals.items()}
        last = self.rows[-1].epoch if self.rows else None
        row = check_row(Row(number, number if step is None else step, measured), last)
        self.rows.append(self._sink.row(row))

    def finish(self) -> Label:
        """End the run and judge it."""
        return self._end(None)

    def __enter__(self) -> Self:
        """Use the run in a `with`."""
        return self

    def __exit__(self, kind: object, error: BaseException | None, at: object) -> None:
        """Finish; an exception marks the trial as failed."""
        self._end("".join(traceback.format_exception(error)) if error else None)

    def _end(self, error: str | None) -> Label:
        if self.label is None:
            atexit.unregister(self._at_exit)
            if self._watch is not None:
                self._watch.close()
            last = self.rows[-1].epoch if self.rows else 0
            planned = max(self.planned, last)
            history = History(self.rows, self.facts, planned, finished=error is None)
            diagnosis = diagnose(history, detectors())
            self.label = diagnosis.label
            self._sink.end(self, diagnosis, error)
        return self.label

    def _at_exit(self) -> None:
        error = getattr(sys, "last_value", None)  # of the exception that ended the script
        self._end("".join(traceback.format_exception(error)) if error is not None else None)


class _Nowhere:
    """In a data-parallel run only the first process reports."""

    def facts(self, facts: TaskFacts) -> None:
        pass

    def row(self, row: Row) -> Row:
        return row

    def end(self, run: Run, diagnosis: Diagnosis, error: str | None) -> None:
        pass


class _ToTrial:
    """Reports to a file in the trial's folder, which the sweep's worker reads as it grows."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def facts(self, facts: TaskFacts) -> None:
        self._say({"facts": json.loads(facts_to_json(facts))})

    def row(self, row: Row) -> Row:
        self._say({"epoch": row.epoch, "step": row.step, **row.signals})
        return row

    def end(self, run: Run, diagnosis: Diagnosis, error: str | None) -> None:
        """Do nothing: the worker sees how the script ends, and judges it."""

    def _say(self, line: dict[str, Any]) -> None:
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


class _ToStore:
    """A trial of its own in the store, in the sweep of all runs of this script and code."""

    def __init__(self, name: str, store: str, config: Mapping[str, Scalar]) -> None:
        self._store = open_store(store)
        self._name, self._config = name, config
        self._code = command_code([Path(sys.argv[0]).name], Path(sys.argv[0]).resolve().parent)
        self._sweep = f"{name}-{self._code[:6]}"
        self._started, self._clock = time.time(), time.monotonic()
        what = json.dumps([name, self._code, dict(config), time.time_ns()], default=str)
        self._trial = hashlib.sha256(what.encode()).hexdigest()[:16]
        attempt = start_attempt(
            self._store, self._sweep, self._trial, device="", started_at=self._started
        )
        self._log = TrialLog(self._store, self._sweep, self._trial, attempt, 2.0, 30.0)
        self._log.begin()

    def facts(self, facts: TaskFacts) -> None:
        """Do nothing: facts are stored with the trial."""

    def row(self, row: Row) -> Row:
        self._log.take(row)
        return self._log.records[-1].observed

    def end(self, run: Run, diagnosis: Diagnosis, error: str | None) -> None:
        self._log.flush()
        last, best = objectives(run.rows, OBJECTIVE)
        planned = max(run.planned, self._log.last_epoch or 0)
        seed = self._config.get("seed", 0)
        record = TrialRecord(
            sweep_id=self._sweep,
            trial=TrialConfig(
                self._trial, SCRIPT, self._config, seed if isinstance(seed, int) else 0, planned
            ),
            workload_version="",
            arm=", ".join(f"{k}={v}" for k, v in self._config.items() if k != "seed") or "baseline",
            state=TrialState.FAILED if error else TrialState.COMPLETED,
            attempt=self._log.attempt,
            label=None if error else diagnosis.label,
            facts=run.facts,
            objective=last,
            best_objective=best,
            epochs_run=self._log.last_epoch or 0,
            wall_seconds=time.monotonic() - self._clock,
            started_at=self._started,
            finished_at=time.time(),
            error=error,
            code=self._code,
        )
        write_trial(self._store, record, diagnosis.findings)
        write_sweep(self._store, self._row())
        consolidate(self._store, self._sweep)
        label = diagnosis.label
        verdict = "failed" if error else f"{label.health}: {label.reason}"
        sys.stderr.write(
            f"sickbay: {verdict}\nsickbay: stored as trial {self._trial[:8]} of {self._sweep} in "
            f"{self._store.shown}\n"
        )

    def _row(self) -> SweepRecord:
        goal = {"signal": OBJECTIVE.signal, "goal": OBJECTIVE.goal.value}
        spec = SweepSpec.model_validate(
            {"name": self._name, "workload": SCRIPT, "objective": goal, "code": self._code}
        )
        return SweepRecord(
            sweep_id=self._sweep,
            name=self._name,
            workload=SCRIPT,
            design=spec.design,
            spec=spec_to_json(spec),
            state="finished",
            submitted_at=self._started,
            finished_at=time.time(),
            trials_planned=1,
            sickbay_version=version("sickbay"),
            libraries=library_versions(),
        )


SCRIPT = "script"  # the workload of runs that no sweep began


def _script_name() -> str:
    """The script's name as a sweep's: small letters, digits and dashes."""
    stem = Path(sys.argv[0]).stem.lower() if sys.argv and sys.argv[0] else ""
    kept = "".join(sign if sign.isascii() and sign.isalnum() else "-" for sign in stem).strip("-")
    return kept[:63] or "script"
