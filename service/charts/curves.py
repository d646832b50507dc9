"""Curves for the report and the page: which signals, in which panels, as lines or bands.

Nothing is dropped: NaN counts as the worst value of a band, and infinity as what it is.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sickbay.service.query.engine import query
from sickbay.service.query.outcomes import HEALTHY
from sickbay.service.summary import questions as ask
from sickbay.service.summary.formatting import SIGNS, level, short_arm
from sickbay.service.summary.signals import Shown, label_of, reference_lines_of, shown_signals
from sickbay.service.summary.values import DISBELIEVE, TRAP, TrialLine, Values
from sickbay.trials.contract import Goal
from sickbay.trials.store import Store

Array = NDArray[np.float64]
Curve = tuple[Array, Array]  # epochs and values, both of shape (n,)

MOST_LINES_A_SWEEP = 200  # more trials are drawn as medians and bands
MOST_LINES_A_PANEL = 12
LEAST_IN_A_BAND = 3  # of fewer trials a median says nothing that their lines do not
MOST_ARMS = 24  # more arms are shown by factor level instead
MOST_LEVELS = 8
MOST_PANELS = 24
MOST_SIDE_PANELS = 12  # for a signal beside the objective
MOST_SEEDS = 12


@dataclass(frozen=True)
class CurveLine:
    """One trial's curve; `verdict` decides its colour and dashes, a marker shows the onset."""

    verdict: str
    onset_epoch: int | None
    epochs: Array
    values: Array


@dataclass(frozen=True)
class Spread:
    """Several curves by epoch, all of shape (epochs,): median, and 10 % to 90 % by nearest rank.

    `counts` are the curves that got that far, `not_finite` those of them that are NaN or infinite
    there. NaN counts as the worst value, so the quantiles may be infinite, but are never NaN.
    """

    epochs: Array
    counts: Array
    not_finite: Array
    low: Array
    middle: Array
    high: Array


@dataclass(frozen=True)
class Band:
    """The curves of one verdict in a panel."""

    verdict: str
    trials: int
    onsets: tuple[int, ...]
    spread: Spread


@dataclass(frozen=True)
class Reference:
    """A reference value; it spans `low` to `high` where the trials of a panel differ in it."""

    text: str
    low: float
    high: float


@dataclass(frozen=True)
class Panel:
    """One small chart. Its text is in the page, never in the picture."""

    title: str
    note: str
    group: str
    lines: tuple[CurveLine, ...]
    bands: tuple[Band, ...]
    references: tuple[Reference, ...]


@dataclass(frozen=True)
class CurveRow:
    """The panels of one signal, which share their axes."""

    shown: Shown
    panels: tuple[Panel, ...]
    left_out: int
    sql: str


@dataclass(frozen=True)
class Curves:
    """The curves of a sweep: the objective and what shows its causes, and the objective by seed."""

    rows: tuple[CurveRow, ...]
    by_seed: CurveRow | None


def curve_rows(store: Store, values: Values) -> Curves:
    """Read the objective and up to three signals that show the causes found."""
    sweep = values.record.sweep_id
    head = query(store, "SELECT * FROM epochs LIMIT 0", sweep_ids=[sweep])
    types = dict(zip(head.columns[6:], head.types[6:], strict=True))
    shown = shown_signals(values, types)
    if not shown:
        return Curves((), None)
    every = read_curves(store, sweep, {signal.signal: signal.expression for signal in shown})
    groups = _groups(values)
    rows, by_seed = [], None
    for shown_signal in shown:
        curves = every[shown_signal.signal]
        main = shown_signal.is_objective
        chosen = groups if main else _telling(_recorded(groups, curves), shown_signal.causes)
        limit = MOST_PANELS if main else MOST_SIDE_PANELS
        panels = tuple(
            _panel(values, shown_signal, title, some, curves) for title, some in chosen[:limit]
        )
        alone = ask.curves(sweep, {shown_signal.signal: shown_signal.expression})
        rows.append(CurveRow(shown_signal, panels, len(chosen) - len(panels), alone))
        if main:
            seeds = _seed_groups(values)
            panels = tuple(
                _panel(values, shown_signal, *some, curves, one_arm=False)
                for some in seeds[:MOST_SEEDS]
            )
            by_seed = CurveRow(shown_signal, panels, max(0, len(seeds) - MOST_SEEDS), alone)
    return Curves(tuple(rows), by_seed)


def read_curves(
    store: Store, sweep_id: str, signals: Mapping[str, str], only: Sequence[str] = ()
) -> dict[str, dict[str, Curve]]:
    """Read signals, each a name and its SQL: the recorded values by signal and trial.

    `only` are the ids of the trials to read; all of the sweep if there are none.
    """
    table = query(store, ask.curves(sweep_id, signals, only), sweep_ids=[sweep_id]).table
    epochs = _numbers(table["epoch"])
    spans = _spans(table["trial_id"].to_pylist())
    by_signal: dict[str, dict[str, Curve]] = {}
    for index, signal in enumerate(signals):
        column = table.column(2 + index)
        recorded = _numbers(column.is_valid()) > 0
        numbers = np.full(len(epochs), np.nan)
        numbers[recorded] = _numbers(column.drop_null())
        by_signal[signal] = {
            trial: (epochs[span][recorded[span]], numbers[span][recorded[span]])
            for trial, span in spans.items()
            if recorded[span].any()
        }
    return by_signal


def _numbers(column: Any) -> Array:
    """A column of an Arrow table without nulls, as floats: its own `to_numpy` loads pandas."""
    chunks = column.cast("double").chunks
    return np.concatenate([np.empty(0), *(np.from_dlpack(chunk) for chunk in chunks)])


def spread_of(curves: Sequence[Curve], worst: float) -> Spread:
    """Summarise curves by epoch; NaN counts as `worst`, which is infinite."""
    when, values = (np.concatenate([curve[k] for curve in curves]) for k in (0, 1))
    rows = np.repeat(np.arange(len(curves)), [len(curve[0]) for curve in curves])
    epochs, places = np.unique(when, return_inverse=True)
    table = np.full((len(curves), len(epochs)), np.nan)
    table[rows, places] = np.where(np.isnan(values), worst, values)
    counts = (~np.isnan(table)).sum(axis=0)
    ordered = np.sort(table, axis=0)  # NaN goes to the end: curves that did not get so far
    low, middle, high = (
        ordered[np.rint(share * (counts - 1)).astype(np.int64), np.arange(len(epochs))]
        for share in (0.1, 0.5, 0.9)
    )
    return Spread(epochs, counts, np.isinf(table).sum(axis=0), low, middle, high)


def worst_value(values: Values, signal: str) -> float:
    """The infinity that is the worst value of a signal, by the objective's goal."""
    objective = values.objective
    maximize = objective is not None and objective.goal is Goal.MAXIMIZE
    return -np.inf if maximize and objective and objective.signal == signal else np.inf


def _seed_groups(values: Values) -> tuple["Group", ...]:
    by_seed: dict[int, list[TrialLine]] = {seed: [] for seed in values.seeds}
    for trial in values.trials:
        by_seed[trial.seed].append(trial)
    return tuple((f"seed {seed}", tuple(some)) for seed, some in by_seed.items())


def verdicts_of(panels: Sequence[Panel]) -> set[str]:
    """The verdicts that occur in these panels."""
    return {line.verdict for panel in panels for line in panel.lines} | {
        band.verdict for panel in panels for band in panel.bands
    }


def _spans(ids: Sequence[str]) -> dict[str, slice]:
    """The slice of each trial's rows in a column that is sorted by trial."""
    starts = [k for k, trial_id in enumerate(ids) if k == 0 or ids[k - 1] != trial_id]
    return {
        ids[start]: slice(start, end)
        for start, end in zip(starts, [*starts[1:], len(ids)], strict=True)
    }


Group = tuple[str, tuple[TrialLine, ...]]


def _groups(values: Values) -> tuple[Group, ...]:
    """Split the trials into panels: one per arm, or one per level where there are too many arms."""
    if len(values.arms) <= MOST_ARMS:
        by_arm: dict[object, list[TrialLine]] = {arm.key: [] for arm in values.arms}
        for trial in values.trials:
            by_arm[trial.key].append(trial)
        return tuple((short_arm(some[0].arm), tuple(some)) for some in by_arm.values())
    groups: list[Group] = []
    for index, factor in enumerate(values.factors):
        by_level: dict[str, list[TrialLine]] = {}
        for trial in values.trials:
            by_level.setdefault(level(trial.key[1 + index]), []).append(trial)
        if len(by_level) <= MOST_LEVELS:
            groups += [
                (f"{factor}={level_name}", tuple(some)) for level_name, some in by_level.items()
            ]
    return tuple(groups) or (("all trials", values.trials),)


def _recorded(groups: Sequence[Group], curves: Mapping[str, Curve]) -> tuple[Group, ...]:
    """Drop the panels in which no trial recorded the signal."""
    return tuple(group for group in groups if any(trial.trial_id in curves for trial in group[1]))


def _telling(groups: Sequence[Group], causes: Sequence[str]) -> tuple[Group, ...]:
    """Sort the panels: those with these causes first, then the healthiest for comparison."""

    def rank(group: Group) -> tuple[float, float]:
        trials = group[1]
        pathological = sum(trial.pathology in causes for trial in trials) / len(trials)
        healthy = sum(trial.outcome == HEALTHY for trial in trials) / len(trials)
        return (-pathological, -healthy)

    order = sorted(groups, key=rank)
    sound = [group for group in order if any(trial.outcome == HEALTHY for trial in group[1])]
    if len(order) > MOST_SIDE_PANELS and sound:  # whatever else is cut, one sound panel stays
        best = max(sound, key=lambda group: -rank(group)[1])
        order = [group for group in order if group is not best]
        order.insert(MOST_SIDE_PANELS - 1, best)
    return tuple(order)


def _panel(
    values: Values,
    shown: Shown,
    title: str,
    trials: Sequence[TrialLine],
    curves: Mapping[str, Curve],
    *,
    one_arm: bool = True,
) -> Panel:
    drawn = [(trial, curves[trial.trial_id]) for trial in trials if trial.trial_id in curves]
    as_bands = len(values.trials) > MOST_LINES_A_SWEEP or len(drawn) > MOST_LINES_A_PANEL
    worst = worst_value(values, shown.signal)
    verdicts = Counter(trial.verdict for trial, _ in drawn)
    by_key = {arm.key: arm.group for arm in values.arms}
    group = {by_key[trial.key] for trial in trials}
    return Panel(
        title=title,
        note=_note(trials, len(drawn)),
        group=next((arm_group for arm_group in (TRAP, DISBELIEVE) if group == {arm_group}), ""),
        lines=()
        if as_bands
        else tuple(CurveLine(trial.verdict, _onset(trial), *curve) for trial, curve in drawn),
        bands=tuple(
            _band(verdict, [pair for pair in drawn if pair[0].verdict == verdict], worst)
            for verdict, trials_of_it in verdicts.items()
            if as_bands or (one_arm and trials_of_it >= LEAST_IN_A_BAND)
        ),
        references=references_of(trials, shown.signal),
    )


def _onset(trial: TrialLine) -> int | None:
    return trial.onset_epoch if trial.label == "pathological" else None


def _note(trials: Sequence[TrialLine], drawn: int) -> str:
    counts = Counter(trial.verdict for trial in trials)
    verdicts = ", ".join(f"{counts[verdict]} {verdict}" for verdict in SIGNS if counts[verdict])
    lacking = len(trials) - drawn
    return f"{verdicts}; {lacking} recorded no value" if lacking else verdicts


def _band(verdict: str, pairs: Sequence[tuple[TrialLine, Curve]], worst: float) -> Band:
    onsets = {onset for trial, _ in pairs if (onset := _onset(trial)) is not None}
    spread = spread_of([curve for _, curve in pairs], worst)
    return Band(verdict, len(pairs), tuple(sorted(onsets)), spread)


def references_of(trials: Sequence[TrialLine], signal: str) -> tuple[Reference, ...]:
    """The reference values that trials declare for a signal, the most common first."""
    spans_by_text: dict[str, list[float]] = {}
    counts: Counter[str] = Counter()
    # Trials of one task share their facts: each is asked once.
    trials_with = Counter(id(trial.facts) for trial in trials)
    for key, facts in {id(trial.facts): trial.facts for trial in trials}.items():
        for line in reference_lines_of(facts, signal):
            spans_by_text.setdefault(label_of(line), []).append(line.value)
            counts[label_of(line)] += trials_with[key]
    spans = [Reference(text, min(some), max(some)) for text, some in spans_by_text.items()]
    finite = [
        reference for reference in spans if np.isfinite([reference.low, reference.high]).all()
    ]
    return tuple(sorted(finite, key=lambda reference: -counts[reference.text]))
