"""From records to evaluations: vectors, names, derived signals, and positions in the log."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from sickbay.trials.logs.cells import total
from sickbay.trials.logs.derived import completed, prepared
from sickbay.trials.logs.evaluations import Evaluations, evaluations_of
from sickbay.trials.logs.log import Record
from sickbay.trials.logs.records import with_vectors
from sickbay.trials.logs.signal_names import Matched, is_split, match_names

MIXTURE_NAMES = ("mixture_weights", "mixture_weight", "weights", "weight", "w", "pi", "alpha")
SUM_SLACK = 0.02  # of weights that were rounded


@dataclass(frozen=True)
class Reading:
    """A log's evaluations and how they came about.

    `matched` is what the names mean; `records` are those that were summed up, under the names of
    `used`: terms added, losses that may rise left out.
    """

    names: tuple[str, ...]
    matched: Matched
    records: tuple[Record, ...]
    used: Matched
    made: Evaluations
    remarks: tuple[str, ...]


def read_records(
    records: Sequence[Record],
    mine: Mapping[str, str],
    signals: Collection[str],
    *,
    growing: bool = False,
) -> Reading:
    """Match a log's names to signals, and make its evaluations.

    `mine` maps names of the log to signals, `signals` are those that detectors read. With `growing`
    the log is still written, and evaluations are counted so that later records change no earlier
    one. Raises ValueError for a name that the log lacks, or a signal that does not exist.
    """
    vectors, lengths = with_vectors(records, [*signals, *mine, *MIXTURE_NAMES])
    counts = Counter(name for record in vectors for name in record)
    names = tuple(counts)
    unclear = _unclear(vectors, mine)
    mapping = dict(mine) | _mixture_weights(vectors, mine) | dict.fromkeys(unclear, "-")
    matched = match_names(names, mapping, signals, counts)
    kept, used, notes = prepared(vectors, matched)
    made = evaluations_of(kept, used, growing=growing)
    rows, more = completed(made.rows)
    made = replace(made, rows=tuple(rows))
    folded = [f"{n} columns {base!r}_0, _1, … are one vector" for base, n in lengths.items()]
    asked = [
        f"{n!r} names a split only and rises: left out; --map says what it is" for n in unclear
    ]
    remarks = (*matched.remarks, *asked, *folded, *notes, *made.remarks, *more)
    return Reading(names, matched, tuple(kept), used, made, remarks)


def _unclear(records: Sequence[Record], mine: Mapping[str, str]) -> list[str]:
    """Columns called `train` or `val` alone, if all of them rise as accuracies do."""
    columns = [
        (name, [value for record in records if isinstance(value := record.get(name), float)])
        for name in dict.fromkeys(name for record in records for name in record)
        if name not in mine and is_split(name)
    ]
    return [name for name, _ in columns] if all(_rises(values) for _, values in columns) else []


def _rises(values: Sequence[float]) -> bool:
    """Whether shares, or per cent, are larger in the last third than in the first."""
    third = len(values) // 3
    rising = third > 0 and total(values[-third:]) > total(values[:third])
    return rising and all(0.0 <= value <= 100.0 for value in values)


def _mixture_weights(records: Sequence[Record], mine: Mapping[str, str]) -> dict[str, str]:
    """A vector that is named like weights and sums to one is a mixture's."""
    if "mixture_weights" in mine.values():
        return {}
    for name in MIXTURE_NAMES:
        values = [record[name] for record in records if name in record]
        if values and all(isinstance(v, tuple) and abs(sum(v) - 1.0) < SUM_SLACK for v in values):
            return {name: "mixture_weights"}
    return {}
