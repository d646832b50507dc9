"""Two-level fractional factorials: a subset of all combinations that estimates most effects.

pydoe provides the generators; resolution and aliases are computed here from the runs themselves.
The baseline is pydoe's +1, whose run is always in the fraction.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOST_FACTORS = 20
LONGEST_WORD = 6  # words that are looked for; a resolution above this is "above"
SEVERAL = 2  # the most factors of an effect whose aliases are listed


@dataclass(frozen=True)
class Aliasing:
    """The effects that are confounded in a fraction.

    `resolution` is the length of the shortest word of the defining relation, None if above 6;
    `words` are those words. `aliases` maps each main effect and two-factor interaction to those it
    is aliased with; `-` marks opposite signs, the baseline counting -1 and the change +1.
    """

    resolution: int | None
    words: tuple[str, ...]
    aliases: Mapping[str, tuple[str, ...]]


def fraction(factors: int, resolution: int) -> NDArray[np.bool_]:
    """The smallest fraction of at least this resolution, (runs, factors): true where changed.

    The full factorial if there is none; the baseline is the first run. At most 20 factors.
    """
    assert factors <= MOST_FACTORS, factors
    if factors <= 2:
        return np.array(list(itertools.product((False, True), repeat=factors)), dtype=bool).reshape(
            2**factors, factors
        )
    from pydoe import fracfact_by_res  # noqa: PLC0415 - seconds that other designs need not wait

    changed = np.asarray(fracfact_by_res(factors, resolution)) < 0
    order = np.lexsort([*changed.T[::-1], changed.sum(axis=1)])
    runs: NDArray[np.bool_] = changed[order]
    assert not runs[0].any(), "the baseline is in every principal fraction"
    return runs


def aliasing(names: Sequence[str], runs: NDArray[np.bool_]) -> Aliasing:
    """The confounded effects of a two-level design; `runs` is (runs, factors)."""
    signs = np.where(runs, 1, -1).astype(np.int8)
    resolution, defining_words = _shortest_words(names, signs)
    groups: dict[bytes, list[tuple[str, int]]] = {}
    for chosen in _effects(len(names)):
        column = signs[:, chosen].prod(axis=1)
        sign = int(column[0])
        name = ":".join(names[index] for index in chosen)
        groups.setdefault((column * sign).tobytes(), []).append((name, sign))
    aliases = {
        name: tuple(
            other if sign == other_sign else f"-{other}"
            for other, other_sign in group
            if other != name
        )
        for group in groups.values()
        for name, sign in group
    }
    order = [":".join(names[index] for index in chosen) for chosen in _effects(len(names))]
    return Aliasing(
        resolution, defining_words, {name: aliases[name] for name in order if aliases[name]}
    )


def _shortest_words(
    names: Sequence[str], signs: NDArray[np.int8]
) -> tuple[int | None, tuple[str, ...]]:
    """Find the shortest products of factors that are constant over all runs."""
    for length in range(1, min(LONGEST_WORD, len(names)) + 1):
        products = []
        for chosen in itertools.combinations(range(len(names)), length):
            column = signs[:, chosen].prod(axis=1)
            if (column == column[0]).all():
                word = "".join(("-" if column[0] < 0 else "", ":".join(names[i] for i in chosen)))
                products.append(word)
        if products:
            return length, tuple(products)
    return None, ()


def _effects(factors: int) -> list[tuple[int, ...]]:
    return [
        chosen
        for size in range(1, SEVERAL + 1)
        for chosen in itertools.combinations(range(factors), size)
    ]
