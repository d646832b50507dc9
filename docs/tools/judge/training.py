"""From examples to a stored table: which statistics, which thresholds, and how well it does."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from docs.tools.judge.examples import Examples
from docs.tools.judge.fitting import Flags, Floats, as_table, balance, fit, line, out_of_task
from sickbay.trials.diagnosis.judge_statistics import CURVE

FALSE_ALARMS = 0.015  # of healthy runs: under the goal of 2 %, as unseen tasks are harder
UNDECIDED = 0.045  # of healthy runs that are not under the threshold of health
FALSE_STOPS = 0.004  # of healthy runs, over all looks at each
FINISHED = (
    "skill_best",
    "skill_late",
    "skill_share",
    "skill_z",
    "train_gain_end",
    "gap",
    "gradient_ratio",
    "log_n_val",
)
MOVING = ("skill_slope", "train_slope", "train_trend", "log_evaluations", "done")
USED: Mapping[str, tuple[str, ...]] = {
    "skill": FINISHED,
    "skill_running": (*FINISHED, *MOVING),
    "curve": tuple(statistic.name for statistic in CURVE),
}


def train(examples: Examples) -> tuple[dict[str, object], str]:
    """Fit one table; return it as plain data, and its leave-one-task-out figures."""
    used = USED[examples.table]
    scores = out_of_task(examples, used)
    weighed = np.isin(examples.why, ("", "no_skill"))
    target = examples.why == "no_skill"
    weight = balance(examples.select(weighed), target[weighed])
    slope, intercept = line(scores[weighed], target[weighed], weight)
    scores = slope * scores + intercept
    high, low = thresholds(examples, scores)
    model = fit(examples, used).scaled(slope, intercept)
    table = as_table(
        model,
        {
            "pathological": round(high, 4),
            "healthy": round(low, 4),
        },
    )
    return table, report(examples, scores, high, low)


def thresholds(examples: Examples, scores: Floats) -> tuple[float, float]:
    """Log odds over which at most so many healthy runs lie, at whichever level is the worst."""
    if examples.table.endswith("_running"):
        healthy = examples.why == ""
        highest = np.array([scores[rows].max() for rows in looks(examples, healthy)])
        return over(highest, FALSE_STOPS), over(scores[healthy], UNDECIDED)
    rows = examples.whole & (examples.why == "")
    levels = [scores[rows & (examples.level == level)] for level in main_levels(examples)]
    high = max(over(found, FALSE_ALARMS) for found in levels)
    return high, min(high, max(over(found, UNDECIDED) for found in levels))


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


def report(examples: Examples, scores: Floats, high: float, low: float) -> str:
    """Leave-one-task-out figures, a line a level and a task."""
    lines = []
    if examples.table.endswith("_running"):
        return running_report(examples, scores, high)
    for level in main_levels(examples):
        for task in ("", *np.unique(examples.task)):
            rows = examples.whole & (examples.level == level)
            rows &= (examples.task == task) | (task == "")
            lines.append(
                f"{level:9s}{task or 'all':14s}" + figures(examples, scores, high, low, rows)
            )
    return "\n".join(lines)


def figures(examples: Examples, scores: Floats, high: float, low: float, rows: Flags) -> str:
    """Shares in per cent over some rows."""

    def share(hit: Flags, of: Flags) -> str:
        return f"{100.0 * hit[of].mean():5.1f} ({int(of.sum())})" if of.any() else "    -"

    well, ill = rows & (examples.why == ""), rows & (examples.why == "no_skill")
    worse, hard = rows & (examples.why == "worse"), rows & (examples.kind == "hard")
    called, cleared = scores >= high, scores <= low
    return (
        f"recall {share(called, ill)} false alarms {share(called, well)} "
        f"hard {share(called, well & hard)} open {share(~called & ~cleared, well)} "
        f"healthy but no skill {share(ill, rows & cleared & (worse | well | ill))} "
        f"worse found {share(called, worse)}"
    )


def running_report(examples: Examples, scores: Floats, high: float) -> str:
    """False stops, and the share of the plans of pathological runs that stops save."""
    lines = []
    for level in main_levels(examples):
        for task in ("", *np.unique(examples.task)):
            stops, saved = [], []
            for rows in looks(
                examples, (examples.level == level) & ((examples.task == task) | (task == ""))
            ):
                hit = np.flatnonzero(scores[rows] >= high)
                why = examples.why[rows[0]]
                if why == "":
                    stops.append(len(hit) > 0)
                elif why == "no_skill":
                    saved.append(1.0 - examples.done[rows[hit[0]]] if len(hit) else 0.0)
            lines.append(
                f"{level:9s}{task or 'all':14s}false stops {100 * np.mean(stops):.2f} "
                f"({len(stops)}) saved {100 * np.mean(saved):.1f} ({len(saved)})"
            )
    return "\n".join(lines)
