"""The best of a sweep, by one metric or several; how a search found it, and whose code made it."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sickbay.service.query.engine import QueryError, query
from sickbay.service.query.outcomes import CUT_SHORT, FAILED, HEALTHY
from sickbay.service.summary.formatting import as_float, number, plural, short_arm
from sickbay.trials.contract import Goal, Health, Objective, TrialState
from sickbay.trials.errors import nearest
from sickbay.trials.store import Store

if TYPE_CHECKING:
    from sickbay.service.summary.table import Table

Row = Mapping[str, Any]
Array = NDArray[np.float64]
ENDED = (TrialState.COMPLETED, TrialState.STOPPED)
OBJECTIVES = "objectives"  # in place of a metric: all of the spec's objectives
COSTS = ("wall_seconds", "gpu_seconds", "epochs_run")  # columns of `trials`: less is better
WAYS = {"min": "minimize", "max": "maximize"}
NUMBERS = ("DOUBLE", "FLOAT", "BIGINT", "INTEGER", "HUGEINT")  # DuckDB's
PARETO_LEGEND = """\
On the front: no competing trial is at least as good in every metric and better in one.
A row is one trial with one seed, so luck has its share: look at the other seeds of its arm."""


@dataclass(frozen=True)
class Best:
    """The best of its kind: a trial, or an arm by the median of its `n` trials (no `trial_id`).

    `healthy` of an arm's trials are healthy.
    """

    what: str
    arm: str
    value: float
    trial_id: str | None = None
    seed: int | None = None
    label: str | None = None
    n: int = 1
    healthy: int = 0


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
    best = []
    for what, chosen in (("best trial", finite), ("best healthy", healthy)):
        if chosen:
            row = min(chosen, key=lambda trial: sign * _value(trial))
            trial = (row["trial_id"], row["seed"], row["label"])
            best.append(Best(what, row["arm"], _value(row), *trial))
    arms: dict[str, list[float]] = {}
    for row in ended:
        arms.setdefault(row["arm"], []).append(_value(row))
    whole = {arm: median(values) for arm, values in arms.items() if all(map(math.isfinite, values))}
    if len(arms) > 1 and whole:
        arm = min(whole, key=lambda name: sign * whole[name])
        sound = sum(row["arm"] == arm and row["label"] == Health.HEALTHY for row in ended)
        best.append(Best("best arm", arm, whole[arm], n=len(arms[arm]), healthy=sound))
    return tuple(best)


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
    front = objectives_front(store, sweep_id, spec)
    remarks = {
        "pareto": front.line if front else "",
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


def best_words(best: Best, signal: str) -> str:
    """The best trial or arm with its objective, as text."""
    value = f"{signal} {number(best.value)}"
    if best.trial_id is None:
        health = "" if best.healthy == best.n else f", {best.healthy} healthy"
        return f"{short_arm(best.arm)}: median {value} over {plural(best.n, 'trial')}{health}"
    label = "" if best.label == Health.HEALTHY else f", {best.label or 'no label'}"
    return f"{best.trial_id[:8]} ({short_arm(best.arm)}, seed {best.seed}): {value}{label}"


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


@dataclass(frozen=True)
class Candidate:
    """One trial with its values of several metrics."""

    trial_id: str
    arm: str
    seed: int
    label: str | None
    outcome: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class ParetoFront:
    """The trials that no other competing trial dominates, by the first metric, the best first.

    `left_out` counts the trials that do not compete, by reason. `pathological` are those among them
    that would be on the front if they could be believed.
    """

    metrics: tuple[Objective, ...]
    front: tuple[Candidate, ...]
    competing: int
    left_out: Mapping[str, int]
    pathological: tuple[Candidate, ...]
    sql: str

    @property
    def line(self) -> str:
        """The size of the front, in one line."""
        metrics = ", ".join(f"{metric.signal} ({metric.goal})" for metric in self.metrics)
        verb = "is" if len(self.front) == 1 else "are"
        return f"{len(self.front)} of {self.competing} trials {verb} on the front of {metrics}"

    def as_data(self) -> dict[str, Any]:
        """The front as plain data."""

        def plain(trial: Candidate) -> dict[str, Any]:
            named = zip((metric.signal for metric in self.metrics), trial.values, strict=True)
            return {**vars(trial), "values": dict(named)}

        return {
            "metrics": [
                {"signal": metric.signal, "goal": metric.goal.value} for metric in self.metrics
            ],
            "front": [plain(trial) for trial in self.front],
            "competing": self.competing,
            "left_out": dict(self.left_out),
            "pathological": [plain(trial) for trial in self.pathological],
            "sql": self.sql,
        }


def metrics_of(words: Sequence[str], spec: Mapping[str, Any]) -> tuple[Objective, ...]:
    """Read metrics: `val_loss`, `wall_seconds`, `val_accuracy:max`; `objectives` are the spec's.

    Which way is better is known of the spec's objectives and of costs; QueryError where it is not,
    or where fewer than two metrics are given.
    """
    first = spec.get("objective") or {}
    declared = {goal["signal"]: goal["goal"] for goal in (first, *first.get("also", ())) if goal}
    known = dict.fromkeys(COSTS, Goal.MINIMIZE.value) | declared
    names = [name for word in words for name in word.split(",")]
    names = [name for word in names for name in (declared if word == OBJECTIVES else [word])]
    metrics = {}
    for word in names:
        name, colon, way = word.partition(":")
        goal = WAYS.get(way) if colon else known.get(name)
        if goal is None:
            raise QueryError(f"--pareto {word}: say which is better, {name}:min or {name}:max")
        metrics[name] = Objective(name, Goal(goal))
    if len(metrics) < 2:
        raise QueryError(
            f"--pareto {','.join(words)}: a front needs two metrics or more, such as val_loss:min "
            f"and wall_seconds; objectives in this spec: {', '.join(declared) or 'none'}"
        )
    return tuple(metrics.values())


def pareto_front(
    store: Store, sweep_id: str, metrics: Sequence[Objective], *, any_label: bool = False
) -> ParetoFront:
    """Compare the trials of a sweep by several metrics: columns of `trials`, or recorded signals.

    Of a signal the last value of a trial counts. Healthy trials with a finite value of every metric
    compete; with `any_label` all that came to an end with finite values do. NaN and infinity are
    neither better nor worse than a number: such trials are left out, and counted. Raises QueryError
    for a metric that was never recorded.
    """
    sql = _pareto_sql(store, sweep_id, [metric.signal for metric in metrics])
    signs = [1.0 if metric.goal is Goal.MINIMIZE else -1.0 for metric in metrics]
    competing: list[Candidate] = []
    doubtful: list[Candidate] = []
    left_out: Counter[str] = Counter()
    for trial in _candidates(store, sweep_id, sql, len(metrics)):
        values, outcome = trial.values, trial.outcome
        pairs = zip(metrics, values, strict=True)
        lacking = [metric.signal for metric, value in pairs if not isfinite(value)]
        is_pathological = trial.label == Health.PATHOLOGICAL
        may = outcome == HEALTHY or (any_label and outcome not in (FAILED, *CUT_SHORT))
        if may and not lacking:
            competing.append(trial)
        elif may:
            left_out[f"without a finite {lacking[0]}"] += 1
        else:
            left_out[f"pathological ({outcome})" if is_pathological else outcome] += 1
            if is_pathological and not lacking:
                doubtful.append(trial)
    front = _front(competing, signs)
    hidden = [trial for trial in _front([*front, *doubtful], signs) if trial in doubtful]
    return ParetoFront(
        tuple(metrics), tuple(front), len(competing), dict(left_out), tuple(hidden), sql
    )


def non_dominated(points: Array) -> NDArray[np.bool_]:
    """Which of the points (n, metrics) no other dominates, as (n,); smaller is better.

    One point dominates another if it is nowhere larger and somewhere smaller; equal points do not
    dominate each other. All values are finite.
    """
    assert np.isfinite(points).all()
    kept = np.zeros(len(points), dtype=bool)
    # No point dominates one that comes before it in the order of the columns.
    for row in np.lexsort(points.T[::-1]):
        front, point = points[kept], points[row]
        dominates = (front <= point).all(axis=1) & (front < point).any(axis=1)
        kept[row] = not dominates.any()
    return kept


def pareto_table(front: ParetoFront) -> "Table":
    """One row per trial on the front; what does not compete is counted and named in the notes."""
    from sickbay.service.summary.table import Table  # noqa: PLC0415  loads scipy

    signals = [metric.signal for metric in front.metrics]
    notes = [front.line]
    if front.left_out:
        counts = ", ".join(f"{n} {reason}" for reason, n in front.left_out.items())
        notes.append(f"not competing: {counts}")
    if front.pathological:
        named = "; ".join(
            f"{trial.trial_id[:8]} ({short_arm(trial.arm)}, seed {trial.seed}: {trial.outcome})"
            for trial in front.pathological
        )
        notes.append(f"pathological, would be on the front if they could be believed: {named}")
    return Table(
        columns=("trial", "arm", "seed", "outcome", *signals),
        rows=tuple(
            (
                trial.trial_id[:8],
                short_arm(trial.arm),
                str(trial.seed),
                trial.outcome,
                *map(number, trial.values),
            )
            for trial in front.front
        ),
        words=frozenset({"trial", "arm", "outcome"}),
        notes=tuple(notes),
        legend=PARETO_LEGEND,
        sql={"pareto": front.sql},
    )


def objectives_front(store: Store, sweep_id: str, spec: Mapping[str, Any]) -> ParetoFront | None:
    """The front of a sweep with several objectives; None before a trial has recorded them all."""
    if not (spec.get("objective") or {}).get("also"):
        return None
    try:
        return pareto_front(store, sweep_id, metrics_of([OBJECTIVES], spec))
    except QueryError:
        return None


def _front(trials: Sequence[Candidate], signs: Sequence[float]) -> list[Candidate]:
    points = np.array([trial.values for trial in trials]).reshape(len(trials), len(signs)) * signs
    kept = [trial for trial, keep in zip(trials, non_dominated(points), strict=True) if keep]
    return sorted(kept, key=lambda trial: (signs[0] * trial.values[0], trial.trial_id))


def _pareto_sql(store: Store, sweep_id: str, names: Sequence[str]) -> str:
    """The query that gives each ended trial of a sweep its values of these metrics."""

    def numbers(table: str) -> set[str]:
        result = query(store, f"SELECT * FROM {table} LIMIT 0", sweep_ids=[sweep_id])  # noqa: S608
        kinds = zip(result.columns, result.types, strict=True)
        return {column for column, kind in kinds if kind in NUMBERS}

    columns, signals = numbers("trials"), numbers("epochs")
    for name in names:
        if name not in columns | signals:
            meant = nearest(name, columns | signals)
            hint = f"did you mean {meant}? " if meant else ""
            recorded = ", ".join(sorted(signals - columns))
            raise QueryError(f"--pareto {name}: never recorded; {hint}Signals: {recorded}")
    quoted = {name: '"' + name.replace('"', '""') + '"' for name in names}
    last = "".join(
        f", arg_max({quoted[name]}, epoch) AS {quoted[name]}"
        for name in names
        if name not in columns
    )
    chosen = ", ".join(f"{'t' if name in columns else 'e'}.{quoted[name]}" for name in names)
    where = f"WHERE sweep_id = '{sweep_id}'"
    return (
        f"WITH e AS (SELECT trial_id{last} FROM epochs {where} GROUP BY trial_id)\n"  # noqa: S608
        f"SELECT t.trial_id, t.arm, t.seed, t.label, t.outcome, {chosen}\n"
        f"FROM (SELECT * FROM outcomes {where}) t LEFT JOIN e USING (trial_id)\n"
        "ORDER BY t.seed, t.arm, t.trial_id"
    )


def _candidates(store: Store, sweep_id: str, sql: str, metrics: int) -> Iterator[Candidate]:
    """The ended trials of a sweep; a metric that a trial never recorded is NaN."""
    for row in query(store, sql, sweep_ids=[sweep_id]).rows:
        trial_id, arm, seed, label, outcome = row[:-metrics]
        values = (math.nan if value is None else float(value) for value in row[-metrics:])
        yield Candidate(trial_id, arm, seed, label, outcome, tuple(values))


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
