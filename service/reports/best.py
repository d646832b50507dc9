"""The best trial, the best healthy trial and the best arm of a sweep; and whose code made them."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from sickbay.service.summary.formatting import as_float, number
from sickbay.trials.contract import Goal, Health, TrialState

Row = Mapping[str, Any]
ENDED = (TrialState.COMPLETED, TrialState.STOPPED)


def best_lines(rows: Sequence[Row], objective: Mapping[str, Any] | None) -> list[str]:
    """One line each: the best trial, the best healthy one, the arm with the best median.

    `objective` is the spec's {signal, goal}; nothing without one. Trials count that came to an end
    with a finite objective; an arm counts if no trial of it ended without one.
    """
    if not objective:
        return []
    signal, sign = objective["signal"], 1 if objective["goal"] == Goal.MINIMIZE else -1
    ended = [row for row in rows if row["state"] in ENDED]
    finite = [row for row in ended if math.isfinite(_value(row))]
    healthy = [row for row in finite if row["label"] == Health.HEALTHY]
    lines = []
    for name, chosen in (("best trial", finite), ("best healthy", healthy)):
        if chosen:
            row = min(chosen, key=lambda one: sign * _value(one))
            label = "" if chosen is healthy else f", {row['label'] or 'no label'}"
            value = number(_value(row))
            lines.append(f"{name:<13}{row['trial_id'][:8]} ({_what(row)}): {signal} {value}{label}")
    arms = {row["arm"]: [_value(one) for one in ended if one["arm"] == row["arm"]] for row in ended}
    whole = {arm: median(values) for arm, values in arms.items() if all(map(math.isfinite, values))}
    if len(arms) > 1 and whole:
        arm = min(whole, key=lambda one: sign * whole[one])
        value, n = number(whole[arm]), len(arms[arm])
        lines.append(f"{'best arm':<13}{arm}: median {signal} {value} over {n} trials")
    return lines


def code_lines(rows: Sequence[Row]) -> list[str]:
    """Which training code made how many trials: one line, or one for each of several codes."""
    counts = Counter((row.get("code"), row.get("git_commit")) for row in rows if row.get("code"))
    lines = [
        f"{'code':<13}{code}{f' (git {commit})' if commit else ''}: {n} trials"
        for (code, commit), n in counts.items()
    ]
    if len({code for code, _ in counts}) > 1:
        lines.append("these trials were made by different code: their differences may be its doing")
    return lines


def _value(row: Row) -> float:
    value = as_float(row["objective"])
    return math.nan if value is None else value


def _what(row: Row) -> str:
    return f"{row['arm']}, seed {row['seed']}"
