"""Data for the page's charts, aggregated here so that ten thousand trials are a small response.

curves     per arm the median and the middle 80 % by epoch, and a sample of single trials
map        health by two factors       parallel   a sample of trials over all factors
causes     how the trials of every level ended
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response

from sickbay.service.analysis.effects import LevelEffect
from sickbay.service.analysis.verdicts import headline
from sickbay.service.api.auth import need
from sickbay.service.api.cache import StoreCache
from sickbay.service.api.routes_read import SweepName, cache_of, find_known, in_thread, json_answer
from sickbay.service.charts.axes import FactorAxis, axis_of
from sickbay.service.charts.curves import (
    Array,
    Curve,
    Reference,
    Spread,
    read_curves,
    references_of,
    spread_of,
    worst_value,
)
from sickbay.service.charts.frame import effect_span, frame_of
from sickbay.service.query.engine import query
from sickbay.service.query.lookup import find_sweep, state_of
from sickbay.service.query.sqltext import name
from sickbay.service.server.errors import ApiError
from sickbay.service.server.tokens import Role
from sickbay.service.server.workers import Work, in_pool
from sickbay.service.summary import questions as ask
from sickbay.service.summary.collect import collect
from sickbay.service.summary.formatting import estimate, level, with_sign
from sickbay.service.summary.table import Table
from sickbay.service.summary.values import TrialLine, Values, sample
from sickbay.trials.store import Store
from sickbay.trials.store.reader import RunningTrial, running_trials

MOST_LINES = 120  # single trials that are drawn
MOST_ARMS = 12  # arms that get a band
MOST_PARALLEL = 1500
MOST_REFERENCES = 4
MOST_ARM_ROWS = 400
FIXED = ("sweep_id", "trial_id", "attempt", "epoch", "step", "seconds")

router = APIRouter(
    prefix="/api/sweeps/{sweep}", tags=["charts"], dependencies=[Depends(need(Role.READ))]
)


@router.get("/curves")
async def curves(
    request: Request,
    sweep: SweepName,
    signal: Annotated[str | None, Query(description="default: the objective")] = None,
    trial: Annotated[list[str] | None, Query(description="whole ids; default: a sample")] = None,
) -> Response:
    """A signal by epoch: bands of the arms, a sample of trials, onsets and reference lines."""
    chosen_trials = tuple(trial or ())[:MOST_LINES]
    cache = cache_of(request)

    def work() -> dict[str, Any]:
        sweep_id = find_known(cache, sweep)
        names = cache.live(sweep_id, "signals", lambda: _signals(cache.store, sweep_id))
        values = _values(cache, sweep_id)
        default = values.objective.signal if values.objective else "val_loss"
        chosen = signal or (default if default in names else (names or [""])[0])
        if signal is not None and signal not in names:
            raise ApiError(404, f"no signal {signal!r}: there are {', '.join(names)}")
        if not names:
            return {"signal": "", "signals": []}
        state = state_of(cache.store, find_sweep(cache.store, sweep_id))
        return cache.live(
            sweep_id,
            f"curves {chosen} {chosen_trials} {state}",
            lambda: {
                "signals": names,
                **_curves(cache.store, replace(values, state=state), chosen, chosen_trials),
            },
        )

    return json_answer(await in_thread(work))


@router.get("/summary")
async def summary(request: Request, sweep: SweepName) -> Response:
    """Summary: the best trials and arm, every arm by its health, and classes of failure."""
    store = cache_of(request).store
    return await _from_values(request, sweep, "summary", lambda values: _summary(store, values))


@router.get("/forest")
async def forest(request: Request, sweep: SweepName) -> Response:
    """The effects of every level for a forest plot, and their table as the report shows it."""
    cache = cache_of(request)

    def work() -> dict[str, Any]:
        sweep_id = find_known(cache, sweep)
        return cache.derived(sweep_id, "forest", lambda: _forest(cache.store, sweep_id))

    return json_answer(await in_pool(Work.REPORT, work))


@router.get("/map")
async def health_map(
    request: Request,
    sweep: SweepName,
    x: Annotated[
        str | None,
        Query(description="a factor; default: the one with the largest differences in health"),
    ] = None,
    y: Annotated[str | None, Query(description="another factor")] = None,
) -> Response:
    """How many trials are healthy by the places of two factors, and the SQL that counts them."""
    store = cache_of(request).store
    return await _from_values(
        request, sweep, f"map {x} {y}", lambda values: _map(store, values, [x, y])
    )


@router.get("/parallel")
async def parallel(request: Request, sweep: SweepName) -> Response:
    """A sample of trials: the level of each factor, the objective and the label."""
    return await _from_values(request, sweep, "parallel", _parallel)


@router.get("/causes")
async def causes(request: Request, sweep: SweepName) -> Response:
    """How the trials of every level of every factor ended: counts by outcome."""
    return await _from_values(request, sweep, "causes", _causes)


async def _from_values(
    request: Request, sweep: str, what: str, draw: Callable[[Values], dict[str, Any]]
) -> Response:
    """A chart drawn from a sweep's values, cached until the sweep's files change."""
    cache = cache_of(request)

    def work() -> dict[str, Any]:
        sweep_id = find_known(cache, sweep)
        values = _values(cache, sweep_id)
        return cache.derived(sweep_id, what, lambda: draw(values))

    return json_answer(await in_thread(work))


def _values(cache: StoreCache, sweep_id: str) -> Values:
    def work() -> Values:
        record = find_sweep(cache.store, sweep_id)
        return collect(cache.store, record, state_of(cache.store, record))

    return cache.derived(sweep_id, "values", work)


def _signals(store: Store, sweep_id: str) -> list[str]:
    """The recorded scalar signals."""
    result = query(store, "SELECT * FROM epochs LIMIT 0", sweep_ids=[sweep_id])
    kinds = zip(result.columns, result.types, strict=True)
    return sorted(column for column, kind in kinds if kind == "DOUBLE" and column not in FIXED)


def _summary(store: Store, values: Values) -> dict[str, Any]:
    from sickbay.service.reports.best import best_of, objectives_front, pareto_table, search_remarks  # noqa: PLC0415  reports are slow to load
    from sickbay.service.reports.trial_tables import UNDER_HEADINGS, arms_table, failures_table  # noqa: PLC0415

    sql = ask.arms(values.record.sweep_id, values.factors)
    spec = json.loads(values.record.spec)
    front = objectives_front(store, values.record.sweep_id, spec)
    arms = arms_table(values, sql, MOST_ARM_ROWS).pick(*UNDER_HEADINGS)
    objective = values.objective
    rows = [{**vars(trial), "arm": trial.arm} for trial in values.trials]
    return {
        "signal": objective.signal if objective else None,
        "best": [vars(best) for best in best_of(rows, vars(objective) if objective else None)],
        "pareto": pareto_table(front).as_data() if front else None,
        "search": search_remarks(store, values.record.sweep_id, rows, spec),
        "arms": arms.as_data(),
        "failures": failures_table(values).as_data(),
        "advice": [
            {
                name: str(getattr(finding, name))
                for name in ("detector", "severity", "reason", "remedy")
            }
            for finding in values.advice
        ],
    }


def _forest(store: Store, sweep_id: str) -> dict[str, Any]:
    from sickbay.service.analysis.study import load_effects  # noqa: PLC0415  scipy is slow
    from sickbay.service.reports.tables import effects_table  # noqa: PLC0415

    loaded = load_effects(store, sweep_id)
    low, high = effect_span(loaded.table.effects)
    return {
        "signal": loaded.signal,
        "goal": loaded.table.goal.value,
        "low": low,
        "high": high,
        "rows": [_forest_row(effect) for effect in loaded.table.effects],
        "table": _effect_columns(effects_table(loaded.table)).as_data(),
        "sql": loaded.sql,
    }


def _effect_columns(table: Table) -> Table:
    """Put the verdict next to the level, where a phone shows it; new columns come last."""
    first = (
        *(("factor", "level", "baseline"), "verdict", "healthy pairs"),
        *(("difference [95 %]", "bootstrap"), ("p", "Holm"), ("P(better) [95 %]", "of pairs")),
        *("healthy [95 %]", "baseline healthy [95 %]"),
    )
    named = {part for group in first for part in ((group,) if isinstance(group, str) else group)}
    left_out = {"nr", "IQM", "p of P(better)", "Holm of P(better)", "p, Holm"}
    left_out |= {"p, Holm of P(better)", "p, Holm of healthy"}
    rest = [name for name in table.columns if name not in named | left_out]
    return table.pick(*first, *rest)


def _forest_row(effect: LevelEffect) -> dict[str, Any]:
    health = f"{effect.of_level.healthy}/{effect.of_level.trials}"
    difference = effect.difference
    baseline = f"{effect.of_baseline.healthy}/{effect.of_baseline.trials}"
    return {
        "name": f"{effect.factor} {level(effect.level)}",
        "mean": difference.mean if math.isfinite(difference.mean) else None,
        "low": difference.low if math.isfinite(difference.low) else None,
        "high": difference.high if math.isfinite(difference.high) else None,
        "verdict": headline(effect.conclusion),
        "sign": with_sign(effect.conclusion)[0],
        "healthy": health,
        "words": f"{effect.factor} {level(effect.level)} against {level(effect.baseline)}: "
        f"{effect.conclusion}\n"
        f"{estimate(difference.mean, difference.low, difference.high)}\n"
        f"{effect.sound_pairs} of {effect.pairs} pairs are healthy; "
        f"healthy {health} against {baseline}",
    }


def _curves(store: Store, values: Values, signal: str, only: Sequence[str]) -> dict[str, Any]:
    """Bands of the arms and a sample of single trials, as the report summarises and frames them.

    Running trials are among them, with the evaluations that they have stored. With `only` it is
    about those trials, by their ids.
    """
    sweep_id, signals = values.record.sweep_id, {signal: f"CAST({name(signal)} AS DOUBLE)"}
    by_trial = read_curves(store, sweep_id, signals, only)[signal]
    running = [one for one in running_trials(store, sweep_id) if one.trial_id in by_trial]
    ended = [one for one in values.trials if one.trial_id in by_trial]
    of_arm: dict[str, list[Curve]] = {arm.arm: [] for arm in values.arms}
    both: list[TrialLine | RunningTrial] = [*ended, *running]
    for trial in both:
        of_arm.setdefault(trial.arm, []).append(by_trial[trial.trial_id])
    arms = {arm: curves for arm, curves in of_arm.items() if curves}
    lines = [
        *(_ended_line(line) for line in sample(ended, MOST_LINES)),
        *(_open_line(one, values.state) for one in running[:MOST_LINES]),
    ]
    drawn = [(line["verdict"], *by_trial[line["trial_id"]]) for line in lines]
    references = references_of(values.trials, signal)[:MOST_REFERENCES]
    worst = worst_value(values, signal)
    return {
        "signal": signal,
        "sql": ask.curves(sweep_id, signals, only),
        "frames": _frames(drawn, references),
        "arms": [
            _arm_band(arm, spread_of(curves, worst))
            for arm, curves in list(arms.items())[:MOST_ARMS]
        ],
        "arms_in_all": len(arms),
        "lines": [
            line | {"epochs": epochs.astype(int).tolist(), "values": numbers.tolist()}
            for line, (_, epochs, numbers) in zip(lines, drawn, strict=True)
        ],
        "trials_in_all": len(ended) + len(running),
        "references": [vars(reference) for reference in references],
    }


def _ended_line(line: TrialLine) -> dict[str, Any]:
    names = ("trial_id", "arm", "seed", "verdict", "pathology", "onset_epoch")
    return {name: getattr(line, name) for name in names}


def _open_line(trial: RunningTrial, state: str) -> dict[str, Any]:
    """State of a trial that has not ended: running while its sweep is, else interrupted."""
    verdict = "running" if state == "running" else "interrupted"
    about = {"trial_id": trial.trial_id, "arm": trial.arm, "seed": trial.seed, "verdict": verdict}
    return {**about, "pathology": None, "onset_epoch": None}


def _frames(
    drawn: Sequence[tuple[str, Array, Array]], references: Sequence[Reference]
) -> dict[str, Any]:
    """The axes as the report would choose them, and of either kind; None where impossible."""
    chosen = frame_of(drawn, references)
    linear, log = (frame_of(drawn, references, log=is_log) for is_log in (False, True))
    return {
        "log_chosen": chosen is not None and chosen.log,
        "linear": vars(linear) if linear else None,
        "log": vars(log) if log and log.log else None,
    }


def _arm_band(arm: str, spread: Spread) -> dict[str, Any]:
    return {
        "arm": arm,
        "epochs": spread.epochs.astype(int).tolist(),
        "n": spread.counts.tolist(),
        "not_finite": spread.not_finite.tolist(),
        "middle": spread.middle.tolist(),
        "low": spread.low.tolist(),
        "high": spread.high.tolist(),
    }


def _map(store: Store, values: Values, asked: Sequence[str | None]) -> dict[str, Any]:
    from sickbay.service.charts.health import HealthMap, health_map_of, health_maps  # noqa: PLC0415  scikit-learn is slow

    known = [factor for factor in asked if factor is not None]
    for factor in known:
        if factor not in values.factors:
            raise ApiError(404, f"no factor {factor!r}: there are {', '.join(values.factors)}")
    if len(known) == 2:
        axes = [axis_of(values, factor) for factor in known]
        flat = [factor for factor, axis in zip(known, axes, strict=True) if axis is None]
        if flat or known[0] == known[1]:
            raise ApiError(
                422, f"these are not two different factors with levels; the factors are: {known}"
            )
        maps: tuple[HealthMap, ...] = (
            health_map_of(store, values, *[axis for axis in axes if axis is not None]),
        )
    else:
        maps = health_maps(store, values)
    return {
        "factors": list(values.factors),
        "maps": [
            {
                "x": _axis(pair_map.x),
                "y": _axis(pair_map.y),
                "cells": [[a, b, *counts] for (a, b), counts in sorted(pair_map.cells.items())],
                "sql": pair_map.sql,
            }
            for pair_map in maps
        ],
    }


def _axis(axis: FactorAxis) -> dict[str, Any]:
    return {"factor": axis.factor, "names": list(axis.names)}


def _parallel(values: Values) -> dict[str, Any]:
    drawn = sample(values.trials, MOST_PARALLEL)
    axes = [
        axis for axis in (axis_of(values, factor) for factor in values.factors) if axis is not None
    ]
    columns = {axis.factor: 1 + values.factors.index(axis.factor) for axis in axes}
    return {
        "axes": [_axis(axis) for axis in axes],
        "objective": values.objective.signal if values.objective else None,
        "trials": [
            {
                "trial_id": trial.trial_id,
                "seed": trial.seed,
                "places": [axis.find(trial.key[columns[axis.factor]]) for axis in axes],
                "objective": trial.objective,
                "verdict": trial.verdict,
                "pathology": trial.pathology,
            }
            for trial in drawn
        ],
        "trials_in_all": len(values.trials),
    }


def _causes(values: Values) -> dict[str, Any]:
    counts: dict[tuple[str, str], dict[str, int]] = {}
    axes = [
        axis for axis in (axis_of(values, factor) for factor in values.factors) if axis is not None
    ]
    for axis in axes:
        column = 1 + values.factors.index(axis.factor)
        counts |= {(axis.factor, level): {} for level in axis.names}
        for trial in values.trials:
            mine = counts[axis.factor, axis.names[axis.find(trial.key[column])]]
            outcome = trial.pathology or trial.verdict
            mine[outcome] = mine.get(outcome, 0) + 1
    return {
        "levels": [
            {"factor": factor, "level": level, "outcomes": outcomes}
            for (factor, level), outcomes in counts.items()
            if outcomes
        ]
    }
