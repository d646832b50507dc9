"""Races between schedulers on simulated sweeps whose pathological half looks best at first.

A toy is a set of curves: half of its trials learn, to a final loss of their own; the other half
shows a lower loss at first and is pathological. The histories have the signals that real trials
have and are judged by the real detectors after every evaluation; trials run on four slots, an epoch
a tick, until the epochs of the race are used up.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
from ray.tune.schedulers import TrialScheduler
from ray.tune.schedulers.async_hyperband import _Bracket

from sickbay.trials.contract import Goal, Row, TaskFacts, TaskKind
from sickbay.trials.diagnosis.diagnose import look, online_stop, under_suspicion
from sickbay.trials.execution.trial import detectors
from sickbay.trials.history import History
from sickbay.trials.search.schedulers import Hyperband, Report, Rule, rule_of, score_of
from sickbay.trials.spec.model import EarlyStopSpec

EPOCHS, SLOTS, BUDGET = 24, 4, 240  # epochs of a trial, trials at once, epochs of a race
FLOOR, CLASSES, VAL_N = float(np.log(2.0)), (1000, 1000), 2000


@dataclass(frozen=True)
class Curve:
    """A trial's true validation loss and AUROC, each (epochs,), and its own floor."""

    loss: np.ndarray
    auroc: np.ndarray
    floor: float = FLOOR
    signals: Mapping[str, np.ndarray] = field(default_factory=dict)
    pathological: bool = False


def healthy(rng: np.random.Generator) -> Curve:
    """Learns slowly or quickly from the floor down to a final gain of 15 to 60 %."""
    gain, pace = rng.uniform(0.15, 0.6), rng.uniform(3.0, 9.0)
    share = gain * (1 - np.exp(-np.arange(1, EPOCHS + 1) / pace))
    noise = rng.normal(scale=0.004, size=EPOCHS)
    return Curve(FLOOR * (1 - share) + noise, 0.5 + 0.5 * np.sqrt(share))


def late_blow_up(rng: np.random.Generator) -> Curve:
    """Far too large a rate: fast at first, then the loss explodes."""
    fast = FLOOR * (1 - 0.5 * (1 - np.exp(-np.arange(1, EPOCHS + 1) / 1.5)))
    turn = int(rng.integers(9, 16))
    growth = np.where(np.arange(EPOCHS) < turn, 0.0, 2.0 ** (np.arange(EPOCHS) - turn))
    return Curve(fast + growth, np.where(growth > 0, 0.5, 0.8), pathological=True)


def turns_nan(rng: np.random.Generator) -> Curve:
    """Fast at first, then NaN for good."""
    made = late_blow_up(rng)
    turn = int(rng.integers(12, 18))
    loss = np.where(np.arange(EPOCHS) < turn, np.minimum(made.loss, 0.45), np.nan)
    return Curve(loss, np.where(np.isnan(loss), np.nan, 0.8), pathological=True)


def overfits(rng: np.random.Generator) -> Curve:
    """Memorises: best of all after three epochs, worse than a constant after ten."""
    epochs = np.arange(1, EPOCHS + 1)
    fall = 0.45 * (1 - np.exp(-epochs / 1.2))
    rise = rng.uniform(0.07, 0.1) * np.maximum(0, epochs - 3)
    return Curve(FLOOR * (1 - fall + rise), 0.75 - 0.01 * epochs, pathological=True)


def other_loss(rng: np.random.Generator) -> Curve:
    """A tenth of the class weight: a tenth of the loss at its own floor, and nothing learnt."""
    floor = 0.1 * FLOOR
    noise = rng.normal(scale=0.0005, size=EPOCHS)
    return Curve(floor + np.abs(noise), np.full(EPOCHS, 0.5), floor, pathological=True)


def shrinking_outputs(rng: np.random.Generator) -> Curve:
    """A calibrated start at the prior, just under the floor, and a constant output from there."""
    loss = FLOOR * 0.985 + rng.normal(scale=0.0005, size=EPOCHS)
    made = {"output_variance_ratio": np.full(EPOCHS, 1e-5)}
    return Curve(loss, np.full(EPOCHS, 0.5), signals=made, pathological=True)


def slow_start(rng: np.random.Generator) -> Curve:
    """Learns, but stands above the floor during a warm-up of three epochs."""
    made = healthy(rng)
    warm = np.array([0.25, 0.15, 0.08])
    return Curve(made.loss + np.pad(warm, (0, EPOCHS - 3)), made.auroc)


TOYS: Mapping[str, tuple[Callable, Callable]] = {
    "explodes late": (healthy, late_blow_up),
    "NaN late": (healthy, turns_nan),
    "memorises": (healthy, overfits),
    "another loss": (healthy, other_loss),
    "constant output": (slow_start, shrinking_outputs),
}


class Trial:
    """A trial as a scheduler meets it; the detectors look at each evaluation once, if asked."""

    def __init__(self, curve: Curve) -> None:
        """Nothing has been looked at."""
        self.curve = curve
        self._looks: dict[int, tuple[bool, bool]] = {}

    def look(self, epoch: int) -> tuple[bool, bool]:
        """Whether it is under suspicion after an epoch, and whether its pathology ends it."""
        if epoch not in self._looks:
            diagnosis = look(history(self.curve, epoch), detectors())
            self._looks[epoch] = under_suspicion(diagnosis), online_stop(diagnosis, detectors())
        return self._looks[epoch]


def history(curve: Curve, epochs: int) -> History:
    """What a trial has recorded after so many epochs."""
    rows = []
    for i in range(epochs):
        signals = {
            "val_loss": float(curve.loss[i]),
            "val_loss_se": 0.004 * curve.floor / FLOOR,
            "train_loss": float(curve.loss[i]),
            "val_auroc": float(curve.auroc[i]),
            "val_n": float(VAL_N),
            **{name: float(values[i]) for name, values in curve.signals.items()},
        }
        rows.append(Row(i + 1, 50 * (i + 1), signals))
    facts = TaskFacts(
        kind=TaskKind.BINARY,
        floors={"val_loss": curve.floor},
        class_counts=CLASSES,
        n={"val": VAL_N, "train": VAL_N},
        loss_minimum=0.0,
    )
    return History(rows, facts, EPOCHS, finished=False)


def stream(toy: str, seed: int) -> list[Trial]:
    """More trials than a race can use up, in a random order."""
    rng = np.random.default_rng([seed, sorted(TOYS).index(toy)])
    good, bad = TOYS[toy]
    return [Trial((good, bad)[i](rng)) for i in rng.permutation([0, 1] * (BUDGET // 2))]


@dataclass(frozen=True)
class Finish:
    """How a race ended: the best gain of a healthy trial, and how many were begun and pruned."""

    best: float
    begun: int
    pruned: int


def health_aware(kind: str) -> Rule:
    """The rule as a sweep makes it."""
    return rule_of(EarlyStopSpec(scheduler=kind), EPOCHS)


def plain(kind: str) -> Rule:
    """The rule that knows nothing of health."""
    if kind == "median":
        return rule_of(EarlyStopSpec(scheduler=kind, grace=EPOCHS // 4), EPOCHS)
    ladders = [RayHalving(place) for place in range(3 if kind == "hyperband" else 1)]
    return Hyperband(ladders) if kind == "hyperband" else ladders[0]


class RayHalving:
    """A bracket of Ray Tune's AsyncHyperBandScheduler, which ASHA has one of."""

    def __init__(self, place: int) -> None:
        """The first rung is after 3^place epochs."""
        self._bracket = _Bracket(1, EPOCHS, 3, place, stop_last_trials=False)

    def prunes(self, trial_id: str, report: Report) -> bool:
        """Ask Ray."""
        trial = SimpleNamespace(trial_id=trial_id)
        advice = self._bracket.on_result(trial, report.evaluation, report.score)
        return advice == TrialScheduler.STOP


def race(trials: list[Trial], kind: str, *, aware: bool) -> Finish:
    """Run trials under a scheduler until the epochs are used up.

    Without `aware` the rule looks at the objective as it is, whatever the detectors say: the rungs
    are Ray Tune's own, from the first epoch on; `median` waits for a quarter of the epochs.
    """
    rule = None if kind == "none" else health_aware(kind) if aware else plain(kind)
    best, begun, pruned = 0.0, 0, 0
    slots: list[tuple[int, int]] = []  # trials that run, with the epochs that they have done
    for _ in range(BUDGET):
        while len(slots) < SLOTS:
            slots.append((begun, 0))
            begun += 1
        place, done = slots.pop(0)
        trial, done = trials[place], done + 1
        suspect, stopped = trial.look(done)
        curve, value = trial.curve, float(trial.curve.loss[done - 1])
        score, over_floor = score_of(value, curve.floor if aware else None, Goal.MINIMIZE)
        prunes = rule and rule.prunes(
            str(place), Report(done, score, over_floor, suspect=aware and suspect)
        )
        if done == EPOCHS:
            best = max(best, 0.0 if curve.pathological else 1 - value / curve.floor)
        elif prunes:
            pruned += not curve.pathological
        elif not stopped:
            slots.append((place, done))
    return Finish(best, begun, pruned)
