"""The combinations of levels in a design: the axes of a sweep, and iteration over them.

An axis is a factor, or several that change together (`zip`). A factor whose condition does not
hold stays at its baseline.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sickbay.trials.contract import Scalar
from sickbay.trials.spec.fractional import fraction
from sickbay.trials.spec.model import RangeSpec, SweepSpec

Levels = Mapping[str, tuple[Scalar, ...]]  # by factor, in order; the first is the baseline
Choice = dict[str, Scalar]  # one level of every factor
Conditions = Mapping[str, Mapping[str, tuple[Scalar, ...]]]


@dataclass(frozen=True)
class DesignAxis:
    """One thing that is changed: its name, and its points; the first is the baseline's."""

    name: str
    points: tuple[Mapping[str, Scalar], ...]


@dataclass(frozen=True)
class Space:
    """The axes of a sweep in order, its baseline, and the conditions on factors."""

    axes: tuple[DesignAxis, ...]
    baseline: Choice
    conditions: Conditions

    def runs(self, resolution: int) -> NDArray[np.bool_]:
        """The runs of a fraction over the axes, (runs, axes): true where an axis is changed."""
        return fraction(len(self.axes), resolution)

    def settled(self, choice: Choice) -> Choice:
        """Set every factor whose condition does not hold to its baseline."""
        return settled(choice, self.baseline, self.conditions)

    def woken(self, choice: Choice) -> Choice:
        """Change other factors so that the conditions of the changed ones hold."""
        woken = dict(choice)
        for _ in self.conditions:
            for name, needs in self.conditions.items():
                if not same(woken[name], self.baseline[name]):
                    for parent, levels in needs.items():
                        if not _among(woken[parent], levels):
                            woken[parent] = levels[0]
        return woken


def space_of(spec: SweepSpec, levels: Levels) -> Space:
    """Group the factors of a sweep into axes, in the order of `levels`."""
    group_of = {name: group for group in spec.zip for name in group}
    axes: dict[tuple[str, ...], DesignAxis] = {}
    for name, values in levels.items():
        group = group_of.get(name)
        if group is None:
            axes[name,] = DesignAxis(name, tuple({name: value} for value in values))
        elif group not in axes:
            axes[group] = _zipped(spec, group, levels)
    baseline = {name: values[0] for name, values in levels.items()}
    return Space(tuple(axes.values()), baseline, spec.conditions)


def settled(choice: Choice, baseline: Mapping[str, Scalar], conditions: Conditions) -> Choice:
    """Set every factor whose condition fails for the others' levels to its baseline."""
    adjusted = dict(choice)
    for _ in conditions:  # one that is put back may be what another hangs on
        for name, needs in conditions.items():
            if not all(_among(adjusted[parent], levels) for parent, levels in needs.items()):
                adjusted[name] = baseline[name]
    return adjusted


def zipped_rows(spec: SweepSpec, group: Sequence[str]) -> list[dict[str, Scalar]]:
    """Return the levels of a group row by row, in the spec's order."""
    columns = []
    for name in group:
        values = spec.factors[name]
        assert not isinstance(values, RangeSpec), name
        columns.append(values)
    return [dict(zip(group, row, strict=True)) for row in zip(*columns, strict=True)]


def same(level: Scalar, other: Scalar) -> bool:
    """Equality of settings: 1 equals 1.0, but true and 1 differ."""
    return level == other and isinstance(level, bool) == isinstance(other, bool)


def arm_count(design: str, space: Space, k: int, resolution: int) -> int:
    """Count the configurations of a design without listing them; equal ones count twice."""
    sizes = [len(axis.points) for axis in space.axes]
    if design == "grid":
        return math.prod(sizes)
    if design == "one_factor":
        return 1 + sum(size - 1 for size in sizes)
    if design == "leave_k_out":
        return 2 + math.comb(len(sizes), k)
    if design == "fractional":
        return len(space.runs(resolution))
    return 2 + len(sizes)


def choices(design: str, space: Space, k: int, resolution: int) -> Iterator[Choice]:
    """Walk over the configurations of a design; the baseline may be among them."""
    if design == "leave_k_out":
        walk = _leave_out(space, k)
    elif design == "fractional":
        walk = _fractional(space, resolution)
    else:
        walk = _DESIGNS[design](space)
    return map(space.settled, walk) if space.conditions else walk


def _grid(space: Space) -> Iterator[Choice]:
    # Laid over the baseline so that the order of the factors is that of the levels, zipped or not.
    for points in itertools.product(*(axis.points for axis in space.axes)):
        yield _laid(space, points)


def _one_factor(space: Space) -> Iterator[Choice]:
    for axis in space.axes:
        for point in axis.points[1:]:
            woken = space.woken({**space.baseline, **point})
            if space.conditions:  # what had to be changed beside it is what it is compared with
                yield {**woken, **axis.points[0]}
            yield woken


def _leave_one_out(space: Space) -> Iterator[Choice]:
    return _leave_out(space, 1)


def _leave_out(space: Space, k: int) -> Iterator[Choice]:
    full = [axis.points[-1] for axis in space.axes]
    yield _laid(space, full)
    for left_out in itertools.combinations(space.axes, k):
        yield {**_laid(space, full), **_laid({}, [axis.points[0] for axis in left_out])}


def _add_one_in(space: Space) -> Iterator[Choice]:
    for axis in space.axes:
        woken = space.woken({**space.baseline, **axis.points[-1]})
        if space.conditions:
            yield {**woken, **axis.points[0]}
        yield woken
    yield _laid(space, [axis.points[-1] for axis in space.axes])


def _fractional(space: Space, resolution: int) -> Iterator[Choice]:
    for run in space.runs(resolution):
        pairs = zip(space.axes, run, strict=True)
        yield _laid(space, [axis.points[int(changed)] for axis, changed in pairs])


_DESIGNS: Mapping[str, Callable[[Space], Iterator[Choice]]] = {
    "grid": _grid,
    "one_factor": _one_factor,
    "leave_one_out": _leave_one_out,
    "add_one_in": _add_one_in,
}


def _laid(space: "Space | Mapping[str, Scalar]", points: Sequence[Mapping[str, Scalar]]) -> Choice:
    choice = dict(space.baseline if isinstance(space, Space) else space)
    for point in points:
        choice.update(point)
    return choice


def _zipped(spec: SweepSpec, group: tuple[str, ...], levels: Levels) -> DesignAxis:
    rows = zipped_rows(spec, group)
    first = {name: levels[name][0] for name in group}
    rest = [row for row in rows if any(not same(row[name], first[name]) for name in group)]
    return DesignAxis("+".join(group), (first, *rest))


def _among(value: Scalar, levels: Sequence[Scalar]) -> bool:
    return any(same(value, level) for level in levels)
