"""The best of a sweep, how a search found it, and the code versions behind it."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from sickbay.service.summary.formatting import as_float, number, short_arm
from sickbay.trials.contract import Goal, Health, TrialState
from sickbay.trials.store import Store

Row = Mapping[str, Any]
ENDED = (TrialState.COMPLETED, TrialState.STOPPED)


@dataclass(frozen=True)
class Best:
    """The best of its kind: a trial, or an arm by the median of its `n` trials (no `trial_id`)."""

    what: str
    arm: str
    value: float
    trial_id: str | None = None
    seed: int | None = None
    label: str | None = None
    n: int = 1


def best_of(rows: Sequence[Row], objective: Mapping[str, Any] | None) -> tuple[Best, ...]:
    """The best trial, the best healthy one and the arm with the best median, those that exist.

    `objective` is the spec's {signal, goal}; nothing without one. Trials count that came to an end
    with a finite objective; an arm counts if no trial of it ended without one.
    """
    if not objective:
        return ()
    sign = 1 if objective["goal"] == Goal.MINIMIZE else -1
    ended = [row for row in rows if row["state"] in ENDED]
    finite = [row for row in ended if math.isfinite(_value(row))]
    healthy = [row for row in finite if row["label"] == Health.HEALTHY]
    found = []
    for what, chosen in (("best trial", finite), ("best healthy", healthy)):
        if chosen:
            row = min(chosen, key=lambda one: sign * _value(one))
            trial = (row["trial_id"], row["seed"], row["label"])
            found.append(Best(what, row["arm"], _value(row), *trial))
    arms: dict[str, list[float]] = {}
    for row in ended:
        arms.setdefault(row["arm"], []).append(_value(row))
    whole = {arm: median(values) for arm, values in arms.items() if all(map(math.isfinite, values))}
    if len(arms) > 1 and whole:
        arm = min(whole, key=lambda one: sign * whole[one])
        found.append(Best("best arm", arm, whole[arm], n=len(arms[arm])))
    return tuple(found)


def headlines(
    store: Store, sweep_id: str, rows: Sequence[Row], spec: Mapping[str, Any]
) -> list[tuple[str, str]]:
    """What to know of a sweep first, each with its name: the best, and how a search found it.

    `rows` are those of `trials`. A text may have several lines.
    """
    objective = spec.get("objective") or {}
    best = best_of(rows, objective)
    return [
        *((entry.what, best_words(entry, objective["signal"])) for entry in best),
        *search_remarks(store, sweep_id, rows, spec),
    ]


def search_remarks(
    store: Store, sweep_id: str, rows: Sequence[Row], spec: Mapping[str, Any]
) -> list[tuple[str, str]]:
    """How a search chose its best, and what it began with; nothing for a design."""
    remarks = {
        "selection": "\n".join(selection_lines(rows, spec)),
        "warm start": warm_start_line(store, sweep_id, spec),
    }
    return [(name, text) for name, text in remarks.items() if text]


def headline_rows(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Headlines as lines of a terminal, the texts one below the other."""
    indent = "\n" + " " * 13
    return [f"{name:<13}{text.replace(chr(10), indent)}" for name, text in pairs]


def warm_start_line(store: Store, sweep_id: str, spec: Mapping[str, Any]) -> str:
    """What a search took over from earlier sweeps; empty where it took none."""
    if not spec.get("warm_start") or not store.is_local:
        return ""
    from sickbay.trials.search.study import study_file  # noqa: PLC0415  Optuna is slow
    from sickbay.trials.search.warm_start import stored_warm_start  # noqa: PLC0415

    stored = stored_warm_start(study_file(store, sweep_id))
    return str(stored["line"]) if stored else ""


def best_words(one: Best, signal: str) -> str:
    """The best trial or arm with its objective, as text."""
    value = f"{signal} {number(one.value)}"
    if one.trial_id is None:
        return f"{short_arm(one.arm)}: median {value} over {one.n} trials"
    label = "" if one.label == Health.HEALTHY else f", {one.label or 'no label'}"
    return f"{one.trial_id[:8]} ({short_arm(one.arm)}, seed {one.seed}): {value}{label}"


def selection_lines(rows: Sequence[Row], spec: Mapping[str, Any]) -> list[str]:
    """How the winners of a search were chosen, and their results on fresh seeds.

    Nothing for a sweep without `seeds: {search, confirm, top}`, or before anything is confirmed.
    """
    seeds, objective = spec.get("seeds"), spec.get("objective")
    if not isinstance(seeds, Mapping) or "confirm" not in seeds or not objective:
        return []
    fresh = [row for row in rows if row["seed"] >= seeds["search"] and row["state"] in ENDED]
    arms = dict.fromkeys(row["arm"] for row in fresh)
    tried = len({row["arm"] for row in rows})
    if not arms:
        return [f"the best {seeds['top']} are confirmed after the search"]
    how = f"chosen among {tried} configurations by {seeds['search']} of their seeds"
    lines = [f"{how}; confirmed with {seeds['confirm']} fresh seeds:"]
    for name in arms:
        mine = [row for row in fresh if row["arm"] == name]
        chosen_by = [_value(r) for r in rows if r["arm"] == name and r["seed"] < seeds["search"]]
        healthy = [_value(row) for row in mine if row["label"] == Health.HEALTHY]
        value = number(median(healthy)) if healthy else "none"
        lines.append(
            f"{short_arm(name)}: median {objective['signal']} {value} over "
            f"{len(healthy)} of {len(mine)} healthy (searching: {number(median(chosen_by))})"
        )
    return lines


def code_lines(rows: Sequence[Row]) -> list[str]:
    """How many trials each version of the training code made, one line per version."""
    counts = Counter((row.get("code"), row.get("git_commit")) for row in rows if row.get("code"))
    lines = [
        f"{'code':<13}{code}{f' (git {commit})' if commit else ''}: {n} trials"
        for (code, commit), n in counts.items()
    ]
    if len({code for code, _ in counts}) > 1:
        lines.append("these trials ran different code, which may explain their differences")
    return lines


def _value(row: Row) -> float:
    value = as_float(row["objective"])
    return math.nan if value is None else value
