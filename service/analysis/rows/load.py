"""Reads the ended trials of a stored sweep, its factors and their levels."""

import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sickbay.service.analysis.rows.pairs import Levels, TrialRow, level_key
from sickbay.service.query.engine import query
from sickbay.service.query.lookup import SweepError, stored_spec
from sickbay.service.query.sqltext import text
from sickbay.trials.contract import Goal, Scalar
from sickbay.trials.search.sequential import Progress, progress_of_sweep
from sickbay.trials.store import Store


@dataclass(frozen=True)
class SweepRows:
    """The ended trials of a stored sweep, ready for computing effects.

    `levels` are the factors with their levels, the baseline first; `skipped` those without, with
    the reason; `ranges` those of them that are ranges. `columns` are the factors that any stored
    trial has. `spec` is the stored one. `source` is the query that SQL about these rows selects
    from, empty for the view `outcomes`. `notes` say how the rows were made comparable; `progress`
    is a sequential sweep's.
    """

    sweep_id: str
    signal: str
    goal: Goal
    rows: tuple[TrialRow, ...]
    levels: Levels
    skipped: Mapping[str, str]
    ranges: Mapping[str, Mapping[str, Any]]
    columns: frozenset[str]
    problems: tuple[str, ...] = ()
    spec: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""
    notes: tuple[str, ...] = ()
    progress: Progress | None = None

    @property
    def contexts(self) -> Levels:
        """All factors: one that cannot be compared is still part of every context."""
        return {**self.levels, **dict.fromkeys(self.skipped, ())}

    @property
    def stored(self) -> tuple[Levels, list[str]]:
        """Return the factors that SQL can name: those with levels, and the others."""
        known = {factor: some for factor, some in self.levels.items() if factor in self.columns}
        return known, [factor for factor in self.skipped if factor in self.columns]


def trials_sql(sweep_id: str) -> str:
    """List the ended trials with all that their effects are computed from."""
    return (
        "SELECT trial_id, seed, config, changed, state, label, pathology, objective, facts\n"
        f"FROM outcomes WHERE sweep_id = {text(sweep_id)}\nORDER BY seed, trial_id"
    )


def load_rows(store: Store, sweep_id: str) -> SweepRows:
    """Read a sweep's ended trials and its factors.

    Raises SweepError if there is no such sweep, or if its spec names no objective; StoreError or
    QueryError if the store cannot be read.
    """
    spec = stored_spec(store, sweep_id)
    objective = spec.get("objective")
    if not objective:
        raise SweepError(
            f"the stored spec of {sweep_id} does not say which signal its trials are compared by: "
            "set `objective` in the spec and run it again, which only rewrites the spec"
        )
    result = query(store, trials_sql(sweep_id), sweep_ids=[sweep_id])
    records = [dict(zip(result.columns, row, strict=True)) for row in result.rows]
    configs = [json.loads(record.pop("config") or "{}") for record in records]
    changed = [record.pop("changed") or [] for record in records]
    facts = [json.loads(record.pop("facts") or "{}") for record in records]
    levels, skipped = known_levels(spec, configs, changed)
    signal = objective["signal"]
    rows = [
        TrialRow(
            levels={factor: config.get(factor) for factor in [*levels, *skipped]},
            floor=_floor(known, signal),
            **record,
        )
        for record, config, known in zip(records, configs, facts, strict=True)
    ]
    factors = spec.get("factors", {})
    return SweepRows(
        sweep_id=sweep_id,
        signal=signal,
        goal=Goal(objective["goal"]),
        rows=tuple(rows),
        levels=levels,
        skipped=skipped,
        ranges={
            factor: factors[factor]
            for factor in skipped
            if isinstance(factors.get(factor), Mapping)
        },
        columns=frozenset(factor for config in configs for factor in config),
        problems=tuple(map(str, result.problems)),
        spec=spec,
        progress=progress_of_sweep(store, sweep_id, spec),
    )


def known_levels(
    spec: Mapping[str, Any],
    configs: Sequence[Mapping[str, Scalar]],
    changed: Sequence[Sequence[str]],
) -> tuple[Levels, dict[str, str]]:
    """Find the levels of every factor, baseline first, and the factors that have no levels.

    Besides the spec's these are factors and levels of earlier specs of the same sweep. Of a factor
    that the spec no longer varies, the baseline is what trials have that did not change it.
    """
    levels: dict[str, list[Scalar]] = {}
    skipped: dict[str, str] = {}
    for factor, listed in spec.get("factors", {}).items():
        if isinstance(listed, Mapping):
            skipped[factor] = "is a range: it has no levels to compare"
        else:
            first = spec.get("baseline", {}).get(factor, listed[0])
            levels[factor] = _distinct([first, *listed])
    for factor in sorted(
        {one for changed_names in changed for one in changed_names} - {*levels, *skipped}
    ):
        plain = [
            config[factor]
            for config, changed_names in zip(configs, changed, strict=True)
            if factor in config and factor not in changed_names
        ]
        if len(_distinct(plain)) == 1:
            levels[factor] = plain[:1]
        else:
            skipped[factor] = "comes from an earlier spec, and its baseline is unknown"
    for factor, known in levels.items():
        seen = _distinct([config[factor] for config in configs if factor in config])
        more = sorted(seen, key=lambda level: (str(type(level)), level))
        levels[factor] = _distinct([*known, *more])
    return levels, skipped


def _distinct(levels: Sequence[Scalar]) -> list[Scalar]:
    distinct: dict[Hashable, Scalar] = {}
    for level in levels:
        distinct.setdefault(level_key(level), level)
    return list(distinct.values())


def _floor(facts: Mapping[str, Any], signal: str) -> float | None:
    floor = facts.get("floors", {}).get(signal)
    return None if floor is None else float(floor)
