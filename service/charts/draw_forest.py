"""The forest plot: every level's difference to the baseline, and the health of both."""

import math
from collections.abc import Iterator

from sickbay.service.analysis.effects import EffectTable, LevelEffect
from sickbay.service.analysis.verdicts import headline
from sickbay.service.charts.drawing import (
    GRID,
    INK,
    NOTE,
    Dot,
    Drawing,
    Line,
    Mark,
    Scale,
    Text,
    marker,
    short,
    ticks,
)
from sickbay.service.charts.frame import effect_span
from sickbay.service.summary.formatting import level, signed, with_sign
from sickbay.trials.contract import Goal

MOST_ROWS = 60
_COLOURS = {"✓": "healthy", "✗": "pathological"}
_SHAPES = {"✓": "circle", "✗": "square", "≈": "plus", "=": "plus", "~": "diamond", "?": "cross"}
_WIDTH, _ROW, _HEAD, _FOOT, _LINE = 692.0, 19.5, 44.0, 40.0, 8.5
_EFFECTS, _HEALTH = (146.0, 360.0), (524.0, 613.0)  # the left and right of both charts
_FACTOR, _LEVEL, _DIFFERENCE, _VERDICT, _COUNTS = 4.0, 11.0, 367.0, 452.0, 620.0


def forest(table: EffectTable, signal: str) -> Drawing:
    """Draw every level as a row, below its factor and stratum, and what it is compared with."""
    effects = table.effects[:MOST_ROWS]
    blocks = list(dict.fromkeys((effect.where, level(effect.baseline)) for effect in effects))
    bottom = _HEAD + _ROW * (len(effects) + len(blocks))
    difference = Scale(*effect_span(effects), *_EFFECTS)
    share = Scale(-0.04, 1.04, *_HEALTH)
    better = "lower" if table.goal is Goal.MINIMIZE else "higher"
    known = any(math.isfinite(effect.difference.mean) for effect in effects)
    at = ticks(difference.low, difference.high) if known else [0.0]
    marks: list[Mark] = [
        *_axis(difference, bottom, [(value, f"{value:.3g}") for value in at]),
        *_axis(share, bottom, [(0.0, "0"), (0.5, "50 %"), (1.0, "100 %")]),
        _caption(difference, bottom, f"{signal}: level − baseline ({better} is better)"),
        _caption(share, bottom, "healthy trials"),
        Line([(difference.at(0.0), y) for y in (_HEAD, bottom)], NOTE),
        *_head(),
    ]
    y = _HEAD + _ROW / 2
    for where, baseline in blocks:
        block = [one for one in effects if (one.where, level(one.baseline)) == (where, baseline)]
        marks.append(Text(_FACTOR, y, short(where, 26), bold=True))
        marks.append(Text(_EFFECTS[0], y, short(f"(baseline {baseline})", 44), colour=NOTE))
        if y > _HEAD + _ROW:
            for left, right in (_EFFECTS, _HEALTH):
                marks.append(Line([(x, y - _ROW / 2) for x in (left, right)], GRID, 0.8))
        for effect in block:
            y += _ROW
            marks += [*_effect(difference, effect, y), *_health(share, effect, y)]
        y += _ROW
    return Drawing(_WIDTH, bottom + _FOOT, tuple(marks))


def _axis(scale: Scale, bottom: float, named: list[tuple[float, str]]) -> Iterator[Mark]:
    for value, name in named:
        x = scale.at(value)
        yield Line(((x, _HEAD), (x, bottom + 3)), GRID, 0.6)
        yield Text(x, bottom + 9, name, anchor="middle")
    yield Line(((scale.start, bottom), (scale.end, bottom)), GRID, 0.8)


def _caption(scale: Scale, bottom: float, words: str) -> Text:
    return Text((scale.start + scale.end) / 2, bottom + 24, words, 8, anchor="middle")


def _head() -> Iterator[Mark]:
    y = _HEAD - _ROW * 0.55
    for x, words in (
        (_FACTOR, "factor, level"),
        (_EFFECTS[0], "difference, 95 % interval"),
        (_DIFFERENCE, "n pairs: difference"),
        (_VERDICT, "verdict"),
        (_COUNTS, "healthy (baseline)"),
    ):
        yield Text(x, y, words, colour=NOTE)
    yield Dot(_HEALTH[0] + 3, y, 2.2, INK)
    yield Text(_HEALTH[0] + 8, y, "level", colour=NOTE)
    yield Dot(_HEALTH[0] + 36, y, 2.2, "none", NOTE)
    yield Text(_HEALTH[0] + 41, y, "baseline", colour=NOTE)


def _effect(scale: Scale, effect: LevelEffect, y: float) -> Iterator[Mark]:
    sign = with_sign(effect.conclusion)[0]
    colour = _COLOURS.get(sign, NOTE)
    yield Text(_LEVEL, y, short(level(effect.level), 30))
    mean, low, high = effect.difference.mean, effect.difference.low, effect.difference.high
    if math.isfinite(mean):
        if math.isfinite(low):
            ends = [min(max(end, scale.low), scale.high) for end in (low, high)]
            yield Line([(scale.at(end), y) for end in ends], colour, 1.8)
        shape = "right" if mean > scale.high else "left" if mean < scale.low else _SHAPES[sign]
        yield from marker(shape, scale.at(min(max(mean, scale.low), scale.high)), y, colour, 2.8)
    yield Text(_DIFFERENCE, y, _difference(effect))
    lines = headline(effect.conclusion).split(", ", 1)
    for place, line in enumerate(lines):
        at = y + _LINE * (place - (len(lines) - 1) / 2)
        yield Text(_VERDICT, at, short(line, 17), colour=colour if sign in _COLOURS else INK)


def _health(scale: Scale, effect: LevelEffect, y: float) -> Iterator[Mark]:
    for side, shift, tint in ((effect.of_baseline, -3.3, NOTE), (effect.of_level, 3.3, INK)):
        if side.trials:
            ends = [(scale.at(end), y + shift) for end in (side.low, side.high)]
            yield Line(ends, tint, 1.3)
            at = scale.at(side.healthy / side.trials)
            filled = tint if side is effect.of_level else "page"
            yield Dot(at, y + shift, 2.0, filled, tint)
    of_level, of_baseline = effect.of_level, effect.of_baseline
    counts = f"{of_level.healthy}/{of_level.trials} ({of_baseline.healthy}/{of_baseline.trials})"
    yield Text(_COUNTS, y, counts)


def _difference(effect: LevelEffect) -> str:
    if not math.isfinite(effect.difference.mean):
        return f"0 of {effect.pairs}: none"
    some = f"{effect.sound_pairs} of " if effect.sound_pairs < effect.pairs else ""
    return f"{some}{effect.pairs}: {signed(effect.difference.mean)}"
