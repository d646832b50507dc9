"""What the page draws of a sweep, worked out here so that ten thousand trials are one small answer.

curves     per arm the median and the middle 80 % by epoch, and a sample of single trials
map        health by two factors       parallel   a sample of trials over all factors
causes     how the trials of every level ended
"""

import math
from collections.abc import Sequence
from statistics import median
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response

from sickbay.service.api.auth import need
from sickbay.service.api.cache import Shelf
from sickbay.service.api.routes_read import SweepName, find_known, in_thread, json_answer, shelf_of
from sickbay.service.charts.axes import FactorAxis, axis_of
from sickbay.service.charts.curves import Curve, Spread, read_curves, spread_of, worst_value
from sickbay.service.query.engine import query
from sickbay.service.query.lookup import find_sweep, state_of
from sickbay.service.query.sqltext import name
from sickbay.service.server.errors import ApiError
from sickbay.service.server.tokens import Role
from sickbay.service.summary import questions as ask
from sickbay.service.summary.collect import collect
from sickbay.service.summary.signals import label_of, reference_lines_of
from sickbay.service.summary.values import Values, sample
from sickbay.trials.store import Store

MOST_LINES = 120  # single trials that are drawn
MOST_ARMS = 12  # arms that get a band
MOST_PARALLEL = 1500
MOST_REFERENCES = 4
FIXED = ("sweep_id", "trial_id", "attempt", "epoch", "step", "seconds")

router = APIRouter(
    prefix="/api/sweeps/{sweep}", tags=["charts"], dependencies=[Depends(need(Role.READ))]
)


@router.get("/curves")
async def curves(
    request: Request,
    sweep: SweepName,
    signal: Annotated[str | None, Query(description="none: the objective's")] = None,
) -> Response:
    """A signal by epoch: bands of the arms, a sample of trials, onsets and reference lines."""
    shelf = shelf_of(request)

    def work() -> dict[str, Any]:
        sweep_id = find_known(shelf, sweep)
        names = shelf.derived(sweep_id, "signals", lambda: _signals(shelf.store, sweep_id))
        values = _values(shelf, sweep_id)
        default = values.objective.signal if values.objective else "val_loss"
        chosen = signal or (default if default in names else (names or [""])[0])
        if signal is not None and signal not in names:
            raise ApiError(404, f"no signal {signal!r}: there are {', '.join(names)}")
        if not names:
            return {"signal": "", "signals": [], "arms": [], "lines": [], "references": []}
        return shelf.derived(
            sweep_id,
            f"curves {chosen}",
            lambda: {"signals": names, **_curves(shelf.store, values, chosen)},
        )

    return json_answer(await in_thread(work))


@router.get("/map")
async def health_map(
    request: Request,
    sweep: SweepName,
    x: Annotated[str | None, Query(description="a factor; none: the most telling")] = None,
    y: Annotated[str | None, Query(description="another factor")] = None,
) -> Response:
    """How many trials are healthy by the places of two factors, and the SQL that counts them."""
    shelf = shelf_of(request)

    def work() -> dict[str, Any]:
        sweep_id = find_known(shelf, sweep)
        values = _values(shelf, sweep_id)
        return shelf.derived(sweep_id, f"map {x} {y}", lambda: _map(shelf.store, values, [x, y]))

    return json_answer(await in_thread(work))


@router.get("/parallel")
async def parallel(request: Request, sweep: SweepName) -> Response:
    """A sample of trials: each factor's level, the objective and the label."""
    shelf = shelf_of(request)

    def work() -> dict[str, Any]:
        sweep_id = find_known(shelf, sweep)
        values = _values(shelf, sweep_id)
        return shelf.derived(sweep_id, "parallel", lambda: _parallel(values))

    return json_answer(await in_thread(work))


@router.get("/causes")
async def causes(request: Request, sweep: SweepName) -> Response:
    """How the trials of every level of every factor ended: counts by outcome."""
    shelf = shelf_of(request)

    def work() -> dict[str, Any]:
        sweep_id = find_known(shelf, sweep)
        values = _values(shelf, sweep_id)
        return shelf.derived(sweep_id, "causes", lambda: _causes(values))

    return json_answer(await in_thread(work))


def _values(shelf: Shelf, sweep_id: str) -> Values:
    def work() -> Values:
        record = find_sweep(shelf.store, sweep_id)
        return collect(shelf.store, record, state_of(shelf.store, record))

    return shelf.derived(sweep_id, "values", work)


def _signals(store: Store, sweep_id: str) -> list[str]:
    """The scalar signals that were recorded."""
    found = query(store, "SELECT * FROM epochs LIMIT 0", sweep_ids=[sweep_id])
    kinds = zip(found.columns, found.types, strict=True)
    return sorted(one for one, kind in kinds if kind == "DOUBLE" and one not in FIXED)


def _curves(store: Store, values: Values, signal: str) -> dict[str, Any]:
    """Bands of the arms and a sample of single trials, as the report summarises and reads them."""
    sweep_id, signals = values.record.sweep_id, {signal: f"CAST({name(signal)} AS DOUBLE)"}
    found = read_curves(store, sweep_id, signals)[signal]
    by_arm: dict[object, list[Curve]] = {arm.key: [] for arm in values.arms[:MOST_ARMS]}
    for trial in values.trials:
        if trial.trial_id in found and trial.key in by_arm:
            by_arm[trial.key].append(found[trial.trial_id])
    worst = worst_value(values, signal)
    return {
        "signal": signal,
        "sql": ask.curves(sweep_id, signals),
        "arms": [
            _arm_band(arm.arm, spread_of(by_arm[arm.key], worst))
            for arm in values.arms[:MOST_ARMS]
            if by_arm[arm.key]
        ],
        "arms_in_all": len(values.arms),
        "lines": [
            {
                "trial_id": one.trial_id,
                "arm": one.arm,
                "seed": one.seed,
                "verdict": one.verdict,
                "pathology": one.pathology,
                "onset_epoch": one.onset_epoch,
                "epochs": found[one.trial_id][0].astype(int).tolist(),
                "values": found[one.trial_id][1].tolist(),
            }
            for one in sample(values.trials, MOST_LINES)
            if one.trial_id in found
        ],
        "trials_in_all": len(values.trials),
        "references": _references(values, signal),
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


def _references(values: Values, signal: str) -> list[dict[str, Any]]:
    """The lines that most trials share; of one that differs between trials, its middle and ends."""
    found: dict[str, list[float]] = {}
    for trial in values.trials:
        for line in reference_lines_of(trial.facts, signal):
            if math.isfinite(line.value):
                found.setdefault(label_of(line), []).append(line.value)
    frequent = sorted(found.items(), key=lambda one: -len(one[1]))[:MOST_REFERENCES]
    return [
        {"value": median(known), "low": min(known), "high": max(known), "text": text}
        for text, known in frequent
    ]


def _map(store: Store, values: Values, asked: Sequence[str | None]) -> dict[str, Any]:
    from sickbay.service.charts.health import (  # noqa: PLC0415  scikit-learn is slow
        HealthMap,
        health_map_of,
        health_maps,
    )

    known = [one for one in asked if one is not None]
    for one in known:
        if one not in values.factors:
            raise ApiError(404, f"no factor {one!r}: there are {', '.join(values.factors)}")
    if len(known) == 2:
        axes = [axis_of(values, one) for one in known]
        flat = [one for one, axis in zip(known, axes, strict=True) if axis is None]
        if flat or known[0] == known[1]:
            raise ApiError(422, f"these are no two factors with levels to tell apart: {known}")
        maps: tuple[HealthMap, ...] = (
            health_map_of(store, values, *[axis for axis in axes if axis is not None]),
        )
    else:
        maps = health_maps(store, values)
    return {
        "factors": list(values.factors),
        "maps": [
            {
                "x": _axis(one.x),
                "y": _axis(one.y),
                "cells": [[a, b, *counts] for (a, b), counts in sorted(one.cells.items())],
                "sql": one.sql,
            }
            for one in maps
        ],
    }


def _axis(axis: FactorAxis) -> dict[str, Any]:
    return {"factor": axis.factor, "names": list(axis.names)}


def _parallel(values: Values) -> dict[str, Any]:
    drawn = sample(values.trials, MOST_PARALLEL)
    axes = [axis for axis in (axis_of(values, one) for one in values.factors) if axis is not None]
    columns = {axis.factor: 1 + values.factors.index(axis.factor) for axis in axes}
    return {
        "axes": [_axis(axis) for axis in axes],
        "objective": values.objective.signal if values.objective else None,
        "trials": [
            {
                "trial_id": one.trial_id,
                "seed": one.seed,
                "places": [axis.find(one.key[columns[axis.factor]]) for axis in axes],
                "objective": one.objective,
                "verdict": one.verdict,
                "pathology": one.pathology,
            }
            for one in drawn
        ],
        "trials_in_all": len(values.trials),
    }


def _causes(values: Values) -> dict[str, Any]:
    counts: dict[tuple[str, str], dict[str, int]] = {}
    axes = [axis for axis in (axis_of(values, one) for one in values.factors) if axis is not None]
    for axis in axes:
        column = 1 + values.factors.index(axis.factor)
        counts |= {(axis.factor, level): {} for level in axis.names}
        for one in values.trials:
            mine = counts[axis.factor, axis.names[axis.find(one.key[column])]]
            outcome = one.pathology or one.verdict
            mine[outcome] = mine.get(outcome, 0) + 1
    return {
        "levels": [
            {"factor": factor, "level": level, "outcomes": outcomes}
            for (factor, level), outcomes in counts.items()
            if outcomes
        ]
    }
