"""The configurations that a search may suggest: new ones that every constraint allows.

Samplers do not know the constraints. A proposal that is not allowed or not new is replaced by the
nearest configuration that is: in a finite space of all allowed ones; among ranges, of some allowed
draws moved towards the proposal as far as the constraints allow. Draws are uniform; where the
constraints leave little of the space, they lie on lines through known configurations.
"""

import math
import random
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from sickbay.trials.contract import Scalar, Workload
from sickbay.trials.spec.arms import same, settled
from sickbay.trials.spec.expression import Expression
from sickbay.trials.spec.model import SweepSpec
from sickbay.trials.spec.plan import baseline_choice, expressions, settings_of

MOST_LISTED = 20_000  # configurations of a finite space up to which all of them are listed
DRAWS, POOL = 1000, 64  # uniform draws at most, and allowed ones that are enough
CUTS = 30  # of one line until a point on it is allowed
STEPS = 12  # of the search for the point nearest to a proposal

Params = Mapping[str, Scalar]


@dataclass(frozen=True)
class Domain:
    """The space of a search and what is allowed in it."""

    spec: SweepSpec
    workload: Workload
    space: Mapping[str, BaseDistribution]

    @cached_property
    def baseline(self) -> dict[str, Scalar]:
        """Every factor's level in the baseline."""
        return baseline_choice(self.spec, self.workload)

    @cached_property
    def _rules(self) -> tuple[Expression, ...]:
        return expressions(self.spec)

    def choice(self, params: Params) -> dict[str, Scalar]:
        """Give what is run for these parameters: factors that do not matter at their baseline."""
        return settled({**self.baseline, **params}, self.baseline, self.spec.conditions)

    def fitted(self, name: str, value: Scalar) -> Scalar | None:
        """Give a value as this space writes it: one of its levels, or a number in its range."""
        distribution = self.space[name]
        if isinstance(distribution, CategoricalDistribution):
            return next((level for level in distribution.choices if same(level, value)), None)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return value if number and distribution.low <= value <= distribution.high else None

    def key(self, params: Params) -> Hashable:
        """Name a configuration: parameters that come to the same have the same key."""
        choice = self.choice(params)
        return tuple((isinstance(choice[name], bool), choice[name]) for name in self.space)

    def broken(self, params: Params) -> str | None:
        """Give the first constraint that a configuration breaks, or that has no answer for it."""
        if not self._rules:
            return None
        config = settings_of(self.spec, self.workload, self.choice(params))
        return next((rule.text for rule in self._rules if not rule.allows(config)), None)

    def nearest(
        self, proposal: Params, known: Collection[Hashable], rng: random.Random, *, pull: bool
    ) -> dict[str, Scalar] | None:
        """Return the allowed configuration nearest to a proposal whose key is not known.

        Among ranges it is a random one unless `pull`. None if the space is used up, or the
        constraints leave next to nothing.
        """
        if self.listed is not None:
            new = [params for key, params in self.listed.items() if key not in known]
            return min(new, key=lambda params: self._distance(params, proposal), default=None)
        drawn = list(self._drawn(rng))
        if pull:
            drawn.sort(key=lambda params: self._distance(params, proposal))
        moved = (self._moved(params, proposal) if pull else params for params in drawn)
        return next((params for params in (*moved, *drawn) if self.key(params) not in known), None)

    @cached_property
    def listed(self) -> dict[Hashable, dict[str, Scalar]] | None:
        """Every allowed configuration by its key; None for a space of ranges, or a large one."""
        levels = [_levels(distribution) for distribution in self.space.values()]
        finite = [choices for choices in levels if choices is not None]
        if len(finite) < len(levels) or math.prod(map(len, finite)) > MOST_LISTED:
            return None
        points = product(*finite)
        every = (dict(zip(self.space, point, strict=True)) for point in points)
        return {self.key(params): params for params in every if self.broken(params) is None}

    def _drawn(self, rng: random.Random) -> Iterator[dict[str, Scalar]]:
        """Draw allowed configurations: uniformly, and where that finds few, on lines."""
        anchors: list[dict[str, Scalar]] = [dict(self.baseline)]
        for _ in range(DRAWS):
            params = self._uniform(rng)
            if self.broken(params) is None:
                anchors.append(params)
                yield params
                if len(anchors) > POOL:
                    return
        for _ in range(POOL):
            point = self._on_a_line(rng.choice(anchors), rng)
            if point is not None:
                anchors.append(point)
                yield point

    def _uniform(self, rng: random.Random) -> dict[str, Scalar]:
        return {name: value_at(span, rng.random()) for name, span in self.space.items()}

    def _on_a_line(self, anchor: Params, rng: random.Random) -> dict[str, Scalar] | None:
        """Give an allowed point between an allowed one and a random one, or no such point."""
        target = self._uniform(rng)
        share = 1.0
        for _ in range(CUTS):
            point = self._between(anchor, target, share)
            if self.broken(point) is None:
                return point
            share *= rng.random()
        return None

    def _moved(self, start: Params, proposal: Params) -> dict[str, Scalar]:
        """Move an allowed configuration towards a proposal, as far as the constraints allow."""
        low, high = 0.0, 1.0
        nearest = dict(start)
        for _ in range(STEPS):
            point = self._between(start, proposal, (low + high) / 2)
            if self.broken(point) is None:
                low, nearest = (low + high) / 2, point
            else:
                high = (low + high) / 2
        return nearest

    def _between(self, start: Params, end: Params, share: float) -> dict[str, Scalar]:
        """Give the point at a share of the way between two; levels stay those of the start."""
        point = dict(start)
        for name, span in self.space.items():
            if not isinstance(span, CategoricalDistribution):
                first, last = share_of(span, start[name]), share_of(span, end[name])
                point[name] = value_at(span, first + share * (last - first))
        return point

    def _distance(self, params: Params, other: Params) -> float:
        return sum(
            float(not same(params[name], other[name]))
            if isinstance(distribution, CategoricalDistribution)
            else (share_of(distribution, params[name]) - share_of(distribution, other[name])) ** 2
            for name, distribution in self.space.items()
        )


def known_keys(domain: Domain, tried: Sequence[Params]) -> set[Hashable]:
    """Name the configurations of complete suggestions."""
    return {domain.key(params) for params in tried if params.keys() >= domain.space.keys()}


def _levels(span: BaseDistribution) -> Sequence[Scalar] | None:
    if isinstance(span, CategoricalDistribution):
        choices: Sequence[Scalar] = span.choices
        return choices
    return range(span.low, span.high + 1) if isinstance(span, IntDistribution) else None


def share_of(span: BaseDistribution, value: Scalar) -> float:
    """Bring a value of a range to [0, 1], in the logarithm where the range is logarithmic."""
    low, high, number = float(span.low), float(span.high), float(value)
    if span.log:
        return math.log(number / low) / math.log(high / low)
    return (number - low) / (high - low)


def value_at(span: BaseDistribution, share: float) -> Scalar:
    """Give the value at a share of a distribution: of a range, or of the levels in their order."""
    if isinstance(span, CategoricalDistribution):
        choices: Sequence[Scalar] = span.choices
        return choices[min(int(share * len(choices)), len(choices) - 1)]
    low, high = float(span.low), float(span.high)
    value = low * (high / low) ** share if span.log else low + (high - low) * share
    inside = min(max(value, low), high)
    return round(inside) if isinstance(span, IntDistribution) else inside
