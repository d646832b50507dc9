"""The forest plot: every level's difference to the baseline, and the health of both."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from sickbay.service.analysis.effects import EffectTable, LevelEffect
from sickbay.service.analysis.verdicts import Verdict
from sickbay.service.charts.frame import effect_span
from sickbay.service.charts.style import STYLES, grid, ink, note, short
from sickbay.service.summary.formatting import level, number
from sickbay.trials.contract import Goal

MOST_ROWS = 60
_COLOURS = {
    Verdict.BETTER: STYLES["healthy"][0],
    Verdict.WORSE: STYLES["pathological"][0],
}
_MARKERS = {
    Verdict.BETTER: "o",
    Verdict.WORSE: "s",
    Verdict.EQUIVALENT: "P",
    Verdict.SAME: "P",
    Verdict.UNCLEAR: "D",
    Verdict.UNKNOWN: "x",
}
_ROW, _HEAD, _FOOT = 0.27, 0.62, 0.55  # inches


def forest(table: EffectTable, signal: str) -> Figure:
    """Draw every level as a row; the rows of a factor are grouped below its baseline."""
    effects = table.effects[:MOST_ROWS]
    factors = list(dict.fromkeys(effect.factor for effect in effects))
    rows = len(effects) + len(factors)
    height = _HEAD + _FOOT + _ROW * rows
    figure = Figure(figsize=(9.6, height))
    bottom, top = _FOOT / height, 1.0 - _HEAD / height
    left = figure.add_axes((0.21, bottom, 0.31, top - bottom))
    right = figure.add_axes((0.755, bottom, 0.13, top - bottom))
    low, high = effect_span(effects)
    _dress(left, rows)
    _dress(right, rows)
    left.set_xlim(low, high)
    right.set_xlim(-0.04, 1.04)
    right.set_xticks([0.0, 0.5, 1.0], ["0", "50 %", "100 %"])
    if any(math.isfinite(effect.difference.mean) for effect in effects):
        left.xaxis.set_major_locator(MaxNLocator(5))
        left.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    else:
        left.set_xticks([0.0], ["0"])
    left.axvline(0.0, color=note(), lw=1.0, zorder=1)
    better = "lower" if table.goal is Goal.MINIMIZE else "higher"
    left.set_xlabel(f"{signal}: level − baseline ({better} is better)")
    right.set_xlabel("healthy trials")
    _head(left, right)
    place = 0
    for factor in factors:
        some = [effect for effect in effects if effect.factor == factor]
        baseline = f"(baseline {level(some[0].baseline)})"
        _words(left, -0.665, place, short(factor, 26), weight="bold")
        _words(left, 0.0, place, short(baseline, 44), colour=note())
        if place:
            for axes in (left, right):
                axes.axhline(place - 0.5, color=grid(), lw=0.8)
        for offset, effect in enumerate(some, start=1):
            _row(left, right, effect, place + offset)
        place += 1 + len(some)
    return figure


def _row(left: Axes, right: Axes, effect: LevelEffect, place: int) -> None:
    colour = _COLOURS.get(effect.verdict, note())
    low, high = left.get_xlim()
    _words(left, -0.63, place, short(level(effect.level), 30))
    mean, marker = effect.difference.mean, _MARKERS[effect.verdict]
    if math.isfinite(mean):
        if math.isfinite(effect.difference.low):
            ends = np.clip([effect.difference.low, effect.difference.high], low, high)
            left.plot(ends, [place, place], color=colour, lw=1.8, solid_capstyle="butt")
        beyond = not low <= mean <= high
        at = min(max(mean, low), high)
        shape = (">" if mean > high else "<") if beyond else marker
        left.plot([at], [place], shape, color=colour, ms=5.5, mew=1.6, clip_on=False)
    _words(left, 1.03, place, _difference(effect))
    _words(
        left,
        1.535,
        place,
        f"{effect.verdict}",
        colour=colour if effect.verdict in _COLOURS else ink(),
    )
    for side, shift, tint in ((effect.of_baseline, -0.17, note()), (effect.of_level, 0.17, ink())):
        if side.trials:
            share, y = side.healthy / side.trials, place + shift
            right.plot([side.low, side.high], [y, y], color=tint, lw=1.3, solid_capstyle="butt")
            filled = tint if side is effect.of_level else "none"
            right.plot([share], [y], "o", ms=4, mec=tint, mfc=filled, mew=1.1, clip_on=False)
    fraction = f"{effect.of_level.healthy}/{effect.of_level.trials}"
    base = f" ({effect.of_baseline.healthy}/{effect.of_baseline.trials})"
    _words(right, 1.07, place, fraction + base)


def _head(left: Axes, right: Axes) -> None:
    for axes, x, caption in (
        (left, -0.665, "factor, level"),
        (left, 0.0, "difference, 95 % interval"),
        (left, 1.03, "n pairs: difference"),
        (left, 1.535, "verdict"),
        (right, 0.0, "● level  ○ baseline"),
        (right, 1.07, "healthy (baseline)"),
    ):
        _words(axes, x, -1.05, caption, colour=note())


def _difference(effect: LevelEffect) -> str:
    if not math.isfinite(effect.difference.mean):
        return f"0 of {effect.pairs}: none"
    pairs = (
        f"{effect.sound_pairs} of {effect.pairs}: "
        if effect.sound_pairs < effect.pairs
        else f"{effect.pairs}: "
    )
    return f"{pairs}{'+' if effect.difference.mean > 0 else ''}{number(effect.difference.mean)}"


def _dress(axes: Axes, rows: int) -> None:
    axes.set_ylim(rows - 0.5, -0.5)
    axes.set_yticks([])
    axes.tick_params(labelsize=7.5, length=3, pad=2)
    axes.grid(visible=True, axis="x", color=grid(), lw=0.6)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")


def _words(
    axes: Axes, x: float, place: float, text: str, *, colour: str = "", weight: str = "normal"
) -> None:
    """Write next to a row: `x` in widths of the axes, `place` in rows."""
    axes.text(
        x,
        place,
        text,
        transform=axes.get_yaxis_transform(),
        va="center",
        fontsize=7.5,
        color=colour or ink(),
        weight=weight,
    )
