"""From examples to a stored table: which statistics, which thresholds, and how well it does."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from docs.tools.judge.examples import Examples
from docs.tools.judge.fitting import Flags, Floats, as_table, balance, fit, line, out_of_task
from sickbay.trials.diagnosis.judge_statistics import CURVE

FALSE_ALARMS = 0.018  # of healthy runs that are not hard: under the goal of 2 %
HARD_ALARMS = 0.03  # of hard but healthy runs
UNDECIDED = 0.045  # of healthy runs that are not under the threshold of health
SHARES = (0.1, 0.2, 0.3, 0.45, 0.6, 0.8)  # of the plan, at which the online threshold may fall
BANDS = len(SHARES) + 1
SLACK = 1e-3  # over the score of a healthy run
FINISHED = (
    "skill_best",
    "skill_late",
    "skill_share",
    "skill_z",
    "train_gain_end",
    "rise",
    "gap",
    "gradient_ratio",
    "log_n_val",
)
MOVING = ("skill_slope", "train_slope", "train_trend")
# how many samples or evaluations there are says nothing more: the threshold knows the share done
RUNNING = tuple(name for name in FINISHED if name != "log_n_val") + MOVING
USED: Mapping[str, tuple[str, ...]] = {
    "skill": FINISHED,
    "skill_running": RUNNING,
    "curve": tuple(statistic.name for statistic in CURVE),
}


@dataclass(frozen=True)
class Thresholds:
    """Log odds that part the verdicts; `pathological` holds a value up to each share, one more."""

    shares: tuple[float, ...]
    pathological: Floats
    healthy: float

    def at(self, done: Floats) -> Floats:
        """Threshold of being pathological at shares of the plan, (m,)."""
        return self.pathological[np.searchsorted(self.shares, done, side="left")]


def train(examples: Examples) -> tuple[dict[str, object], str]:
    """Fit one table; return it as plain data, and its leave-one-task-out figures."""
    used = USED[examples.table]
    scores = out_of_task(examples, used)
    weighed = np.isin(examples.why, ("", "no_skill"))
    target = examples.why == "no_skill"
    weight = balance(examples.select(weighed), target[weighed])
    slope, intercept = line(scores[weighed], target[weighed], weight)
    scores = slope * scores + intercept
    chosen = thresholds(examples, scores)
    called, cleared = elsewhere(examples, scores)
    model = fit(examples, used).scaled(slope, intercept)
    table = as_table(
        model,
        {
            "pathological": {
                "shares": list(chosen.shares),
                "log_odds": [round(float(one), 4) for one in chosen.pathological],
            },
            "healthy": round(chosen.healthy, 4),
        },
    )
    return table, report(examples, called, cleared)


def elsewhere(examples: Examples, scores: Floats) -> tuple[Flags, Flags]:
    """Which rows are called pathological, and healthy, by thresholds chosen on the other tasks.

    A threshold chosen on the very runs that are counted flatters itself: it halves false stops.
    """
    called, cleared = np.zeros((2, len(scores)), dtype=np.bool_)
    for task in np.unique(examples.task):
        rows = examples.task == task
        chosen = thresholds(examples.select(~rows), scores[~rows])
        called[rows] = scores[rows] >= chosen.at(examples.done[rows])
        cleared[rows] = scores[rows] <= chosen.healthy
    return called, cleared


def thresholds(examples: Examples, scores: Floats) -> Thresholds:
    """Log odds over which at most so many healthy runs lie, at whichever level is the worst."""
    if examples.table.endswith("_running"):
        healthy = scores[examples.why == ""]
        return Thresholds(SHARES, falling(examples, scores), over(healthy, UNDECIDED))
    well, hard = examples.whole & (examples.why == ""), examples.kind == "hard"
    found = []
    for level in main_levels(examples):
        rows = well & (examples.level == level)
        found.append(
            (
                max(
                    over(scores[rows & ~hard], FALSE_ALARMS), over(scores[rows & hard], HARD_ALARMS)
                ),
                over(scores[rows], UNDECIDED),
            )
        )
    high, low = (max(column) for column in zip(*found, strict=True))
    return Thresholds((), np.array([high]), min(high, low))


def falling(examples: Examples, scores: Floats) -> Floats:
    """Lowest thresholds that fall with the share done and stop no healthy run, (shares + 1,).

    To allow even one run in 500 saves 2 % more of the epochs and doubles the false stops on tasks
    that took no part in the choice.
    """
    place = np.searchsorted(SHARES, examples.done, side="left")
    well = examples.why == ""
    highest = [scores[well & (place == part)].max(initial=-np.inf) for part in range(BANDS)]
    return np.maximum.accumulate(highest[::-1])[::-1] + SLACK


def _saved(examples: Examples, called: Flags, rows: NDArray[np.intp]) -> float:
    """Share of a run's plan that the first stop spares."""
    hit = np.flatnonzero(called[rows])
    return float(1.0 - examples.done[rows[hit[0]]]) if len(hit) else 0.0


def looks(examples: Examples, rows: Flags) -> list[NDArray[np.intp]]:
    """Group rows by run and level: the looks at one running trial, in order."""
    places = np.flatnonzero(rows)
    keys = examples.run[places] * 10 + np.unique(examples.level, return_inverse=True)[1][places]
    order = np.argsort(keys, kind="stable")
    cuts = np.flatnonzero(np.diff(keys[order])) + 1
    return np.split(places[order], cuts)


def main_levels(examples: Examples) -> list[str]:
    """Levels that most of a table's rows come from: a run without any number counts as bare."""
    names, counts = np.unique(examples.level, return_counts=True)
    return [
        str(name) for name, count in zip(names, counts, strict=True) if count * 10 >= counts.max()
    ]


def over(values: Floats, share: float) -> float:
    """Return the least threshold that at most this share of the values reaches."""
    ordered = np.sort(values)[::-1]
    return float(ordered[int(share * len(ordered))]) + 1e-4


def report(examples: Examples, called: Flags, cleared: Flags) -> str:
    """Leave-one-task-out figures, a line a level and a task."""
    lines = []
    if examples.table.endswith("_running"):
        return running_report(examples, called)
    for level in main_levels(examples):
        for task in ("", *np.unique(examples.task)):
            rows = examples.whole & (examples.level == level)
            rows &= (examples.task == task) | (task == "")
            lines.append(
                f"{level:9s}{task or 'all':14s}" + figures(examples, called, cleared, rows)
            )
    return "\n".join(lines)


def figures(examples: Examples, called: Flags, cleared: Flags, rows: Flags) -> str:
    """Shares in per cent over some rows."""

    def share(hit: Flags, of: Flags) -> str:
        return f"{100.0 * hit[of].mean():5.1f} ({int(of.sum())})" if of.any() else "    -"

    well, ill = rows & (examples.why == ""), rows & (examples.why == "no_skill")
    worse, hard = rows & (examples.why == "worse"), rows & (examples.kind == "hard")
    return (
        f"recall {share(called, ill)} false alarms {share(called, well)} "
        f"hard {share(called, well & hard)} open {share(~called & ~cleared, well)} "
        f"healthy but no skill {share(ill, rows & cleared & (worse | well | ill))} "
        f"worse found {share(called, worse)}"
    )


def running_report(examples: Examples, called: Flags) -> str:
    """False stops, and the share of the plans of pathological runs that stops save."""
    lines = []
    for level in main_levels(examples):
        for task in ("", *np.unique(examples.task)):
            rows = (examples.level == level) & ((examples.task == task) | (task == ""))
            stops = [called[run].any() for run in looks(examples, rows & (examples.why == ""))]
            lost = looks(examples, rows & (examples.why == "no_skill"))
            saved = [_saved(examples, called, run) for run in lost]
            lines.append(
                f"{level:9s}{task or 'all':14s}false stops {100 * np.mean(stops):.2f} "
                f"({len(stops)}) saved {100 * np.mean(saved):.1f} ({len(saved)})"
            )
    return "\n".join(lines)
