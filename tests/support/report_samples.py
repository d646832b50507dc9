"""Sweeps for the report's tests: hand-written stores, small or large, with every kind of trial."""

import itertools
import json
import math
from dataclasses import dataclass, field

from sickbay.trials.contract import (
    Finding,
    FindingState,
    Health,
    Label,
    ReferenceLine,
    Row,
    Severity,
    TaskFacts,
    TaskKind,
    TrialConfig,
    TrialState,
)
from sickbay.trials.store import (
    EpochRecord,
    SweepRecord,
    TrialRecord,
    open_store,
    start_attempt,
    write_epochs,
    write_sweep,
    write_trial,
)
from sickbay.trials.store.merge import consolidate

START = 1_760_000_000.0
FACTS = TaskFacts(
    kind=TaskKind.REGRESSION,
    floors={"val_loss": 1.0},
    groups=("trunk", "head"),
    reference_lines=(ReferenceLine("val_loss", 0.05, "the <noise> & nothing else"),),
)


@dataclass(frozen=True)
class SampleTrial:
    """What one trial of a sample shall look like."""

    levels: dict
    seed: int
    values: tuple
    pathology: str | None = None
    onset: int | None = None
    state: TrialState = TrialState.COMPLETED
    label: Health | None = Health.HEALTHY
    error: str | None = None
    reason: str = "skill is proven"
    remedy: str = ""
    signals: dict = field(default_factory=dict)


def write_sample(
    folder, trials, *, sweep_id="sample-abc123", spec=None, planned=None, goal="minimize"
):
    """Write a sweep and merge it; gives back the store."""
    store = open_store(str(folder))
    factors = sorted({name for trial in trials for name in trial.levels})
    levels = {name: sorted({trial.levels[name] for trial in trials}, key=str) for name in factors}
    spec = spec or {"factors": levels, "name": "sample", "objective": None}
    write_sweep(
        store,
        SweepRecord(
            sweep_id,
            "sample",
            "toy_quadratic",
            "grid",
            json.dumps(spec),
            "finished",
            START,
            START + 60,
            planned or len(trials),
            "c0de",
            "0.1.0",
        ),
    )
    for number, trial in enumerate(trials):
        _write_trial(store, sweep_id, f"{number:016x}", trial, goal)
    assert consolidate(store, sweep_id) == ()
    return store


def _write_trial(store, sweep_id, trial_id, trial, goal):
    attempt = start_attempt(store, sweep_id, trial_id, device="cpu", started_at=START)
    records = [
        EpochRecord(
            attempt,
            float(epoch),
            Row(
                epoch,
                4 * epoch,
                {"val_loss": value} | {key: some[epoch - 1] for key, some in trial.signals.items()},
            ),
        )
        for epoch, value in enumerate(trial.values, start=1)
    ]
    write_epochs(store, sweep_id, trial_id, records)
    finite = [value for value in trial.values if math.isfinite(value)]
    arm = ", ".join(f"{name}={value}" for name, value in trial.levels.items())
    label = trial.label and Label(
        trial.label, trial.reason, trial.pathology, trial.onset, trial.remedy, labeller_version="v1"
    )
    best = (min if goal == "minimize" else max)(finite, default=None)
    record = TrialRecord(
        sweep_id,
        TrialConfig(
            trial_id,
            "toy_quadratic",
            trial.levels,
            trial.seed,
            max(4, len(records)),
            tuple(trial.levels),
        ),
        "1",
        arm,
        trial.state,
        attempt,
        label=label,
        facts=FACTS,
        objective=trial.values[-1] if trial.values else None,
        best_objective=best,
        epochs_run=len(records),
        wall_seconds=1.5,
        device="cpu",
        started_at=START,
        finished_at=START + 2,
        error=trial.error,
    )
    findings = []
    if trial.pathology:
        findings = [
            _finding(trial.pathology, FindingState.FIRED, trial.onset),
            _finding("no_skill", FindingState.SUSPECT, 1),
            _finding("overfitting", FindingState.CLEAR, None),
        ]
    write_trial(store, record, findings)


def _finding(detector, state, onset):
    return Finding(detector, "1.0", state, Severity.FATAL, "words & numbers", onset)


def small():
    """Two sound trials, two celebrated ones, a NaN, a failure, an inconclusive one, a cancelled."""
    sick = {"label": Health.PATHOLOGICAL, "remedy": "Lower the <lr>."}
    gradients = {"group_grad_max": [[0.5, 0.0], [0.5, 0.0], [0.5, 0.0], [0.5, 0.0]]}
    trap = {**sick, "pathology": "no_parameter_update", "onset": 2, "signals": gradients}
    traceback = (
        "Traceback (most recent call last):\n  File x\nRuntimeError: <b>planted</b> & done\n"
    )
    failed = {"state": TrialState.FAILED, "label": None, "error": traceback}
    return [
        SampleTrial({"lr": 0.1}, 0, (0.9, 0.5, 0.3, 0.2)),
        SampleTrial({"lr": 0.1}, 1, (0.9, 0.6, 0.4, 0.25)),
        SampleTrial({"lr": 0.2}, 0, (0.9, 0.2, 0.1, 0.02), reason="0 of 2 <groups>", **trap),
        SampleTrial({"lr": 0.2}, 1, (0.9, 0.2, 0.1, 0.03), reason="0 of 2 <groups>", **trap),
        SampleTrial({"lr": 5.0}, 0, (0.9, 1e30, math.inf, math.nan), "non_finite", 3, **sick),
        SampleTrial({"lr": 5.0}, 1, (0.9, 2.0, math.nan, math.nan), "non_finite", 3, **sick),
        SampleTrial({"lr": 7.0}, 0, (0.9,), **failed),
        SampleTrial({"lr": 7.0}, 1, (), **failed),
        SampleTrial({"lr": 0.01}, 0, (1.0, 0.99, 0.99, 0.98), label=Health.INCONCLUSIVE),
        SampleTrial({"lr": 0.01}, 1, (1.0,), state=TrialState.CANCELLED, label=None),
    ]


def large(trials=1000, epochs=50):
    """Four factors over seeds: every third trial is pathological."""
    grid = itertools.product((1, 2, 3, 4, 5), ("a", "b"), (0.1, 0.2, 0.4, 0.8), (False, True))
    arms = [dict(zip(("f1", "f2", "f3", "f4"), levels, strict=True)) for levels in grid]
    sampled = []
    for number in range(trials):
        ill = number % 3 == 0
        speed = 0.02 if ill else 0.1 + 0.001 * (number % 17)
        values = tuple(math.exp(-speed * epoch) + 1e-3 * (number % 7) for epoch in range(epochs))
        extra = {"label": Health.PATHOLOGICAL, "pathology": "no_skill", "onset": 5} if ill else {}
        signals = {"train_loss": values, "grad_norm_p50": values}
        sampled.append(
            SampleTrial(
                arms[number % len(arms)], number // len(arms), values, signals=signals, **extra
            )
        )
    return sampled


EVIL = "a_b $x^2$ & 50% {c} \\d #1 ~ [e] <f>"


def uneven():
    """Two factors with holes: a missing seed, ill, failed, cancelled, levels of odd text."""
    trials = []
    for number, (lr, init, seed) in enumerate(
        itertools.product((0.1, 0.2, 0.4), ("random", EVIL), range(5))
    ):
        last = 1.0 + lr + 0.1 * (init == EVIL) + 0.05 * math.sin(7 * number)
        kind = {}
        if number % 7 == 3:
            kind = {"label": Health.PATHOLOGICAL, "pathology": "no_skill", "onset": 2}
        if number == 8:
            kind = {"label": None, "state": TrialState.FAILED}
        if number == 16:
            kind = {"label": None, "state": TrialState.CANCELLED}
        if number == 24:
            last = math.nan
        if number != 11:
            trials.append(SampleTrial({"lr": lr, "init": init}, seed, (2.0, 1.5, last), **kind))
    return trials


def write_compared(folder, trials):
    """Write a sweep whose spec names its objective, so that its levels can be compared."""
    factors = {}
    for trial in trials:
        for name, level in trial.levels.items():
            factors.setdefault(name, {})[level] = None
    spec = {
        "name": "sample",
        "factors": {name: list(levels) for name, levels in factors.items()},
        "objective": {"signal": "val_loss", "goal": "minimize"},
    }
    return write_sample(folder, trials, spec=spec)
