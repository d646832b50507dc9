"""Two packages that diagnose training logs, on the same histories at the `ordinary` level.

    runmedic 0.1.1, training-doctor 0.1.0

They are no dependency of the project. `python -m docs.tools.corpus.report.peers`, where either can
be imported, writes what it counted to `peers.json`; the page shows that file. An alarm is a finding
of severity warning or worse. Both read a row an evaluation, under names that they know.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from docs.tools.corpus.corpus import CORPUS, Case, read
from docs.tools.corpus.faults import TASKS
from docs.tools.corpus.telemetry import Level, at_level
from docs.tools.corpus.truth import Truth, truths
from sickbay.trials.history import History

STORED = Path(__file__).with_name("peers.json")
GROUPS = ("no_skill", "non_finite", "worse", "healthy", "hard", "cause")
# Which of our causes a peer's check means.
MEANT: Mapping[str, tuple[str, ...]] = {
    "non_finite": ("non_finite", "divergence", "exploding_gradient"),
    "divergence": ("divergence", "exploding_gradient", "late_collapse"),
    "loss_spikes": ("divergence", "exploding_gradient", "late_collapse"),
    "grad_spikes": ("divergence", "exploding_gradient", "late_collapse"),
    "no_learning": ("no_skill", "constant_output", "no_parameter_update", "vanishing_gradient"),
    "constant_lr_plateau": ("no_skill", "constant_output"),
    "overfitting": ("overfitting", "memorisation_without_generalisation"),
    "val_below_train": ("metric_inconsistency",),
    "lr_too_high": ("divergence", "exploding_gradient", "non_finite"),
    "lr_too_low": ("no_skill", "no_parameter_update", "vanishing_gradient"),
    "gradient_instability": ("divergence", "exploding_gradient", "vanishing_gradient"),
    "mixed_precision_instability": ("non_finite", "divergence", "late_collapse"),
    "early_plateau": ("no_skill", "constant_output"),
    "train_eval_mismatch": ("overfitting", "memorisation_without_generalisation"),
    "plateau": ("no_skill", "constant_output"),
}
Said = tuple[bool, tuple[str, ...]]  # whether it raised an alarm, and the checks that did


def columns(history: History, names: Mapping[str, str]) -> dict[str, np.ndarray]:
    """The history's columns under a peer's names."""
    return {ours: history.column(name) for name, ours in names.items() if history.has(name)}


def runmedic(history: History) -> Said:
    """Its thirteen checks over a table of epochs."""
    from runmedic.checks import run_checks
    from runmedic.model import Run
    from runmedic.roles import detect

    run = Run("run", "csv", "log.csv")
    names = {"train_loss": "train_loss", "val_loss": "val_loss", "grad_norm_p50": "grad_norm"}
    for name, values in columns(history, names).items():
        for epoch, value in zip(history.epochs, values, strict=True):
            run.get(name).add(float(epoch), float(value))
    run.finalize()
    issues = run_checks(run, detect(run))
    serious = tuple(issue.check for issue in issues if issue.severity in ("critical", "warning"))
    return bool(serious), serious


def training_doctor(history: History) -> Said:
    """Its detectors, which look at every row as it is logged."""
    from training_doctor import Doctor

    doctor = Doctor()
    names = {"train_loss": "loss", "val_loss": "eval_loss", "grad_norm_p50": "grad_norm"}
    logged = columns(history, names)
    for row, epoch in enumerate(history.epochs):
        doctor.log(int(epoch), **{name: float(values[row]) for name, values in logged.items()})
    serious = [
        diagnosis
        for diagnosis in doctor.diagnoses
        if diagnosis.severity.value in ("critical", "warning")
    ]
    return bool(serious), tuple(diagnosis.detector_name for diagnosis in serious)


PEERS: Mapping[str, Callable[[History], Said]] = {
    "runmedic": runmedic,
    "training-doctor": training_doctor,
}


def group(case: Case, truth: Truth) -> str | None:
    """Which recall or false alarm a case counts for; None for a healthy run gone wrong."""
    if truth.pathological:
        return truth.why if case.kind == "fault" else None
    return "hard" if case.kind == "hard" else "healthy"


def counted(cases: Sequence[Case], peer: Callable[[History], Said]) -> dict[str, list[int]]:
    """Alarms and cases of each group; of the cause, those named rightly and those found."""
    known = truths(cases)
    hits: Counter[str] = Counter()
    many: Counter[str] = Counter()
    for case in cases:
        place = group(case, known[case.key])
        if place is None:
            continue
        alarm, checks = peer(at_level(case.history, Level.ORDINARY))
        many[place] += 1
        hits[place] += alarm
        if alarm and known[case.key].pathological:
            operator = case.operator
            assert operator is not None, case.key
            meant = {cause for check in checks for cause in MEANT.get(check, ())}
            many["cause"] += 1
            hits["cause"] += any(operator[0].may_cause(cause) for cause in meant)
    return {place: [hits[place], many[place]] for place in GROUPS if many[place]}


def stored(path: Path = STORED) -> dict[str, dict[str, dict[str, list[int]]]]:
    """What was counted: peer with its version, task, group; empty if nothing was yet."""
    return json.loads(path.read_text()) if path.exists() else {}


def main() -> None:
    """Run those peers that can be imported, and store what they came to."""
    by_peer = stored()
    for name, peer in PEERS.items():
        if find_spec(name.replace("-", "_")) is None:
            print(f"{name} cannot be imported: its figures stay as they are")
            continue
        title = f"{name} {version(name)}"
        by_peer[title] = {task: counted(list(read(CORPUS, [task])), peer) for task in TASKS}
        print(title)
    STORED.write_text(json.dumps(by_peer, indent=1) + "\n")


if __name__ == "__main__":
    main()
