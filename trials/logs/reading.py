"""From records to evaluations: vectors, names, derived signals, and positions in the log."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from sickbay.trials.logs.derived import completed, prepared
from sickbay.trials.logs.evaluations import Evaluations, evaluations_of
from sickbay.trials.logs.log import Record
from sickbay.trials.logs.records import with_vectors
from sickbay.trials.logs.signal_names import Matched, match_names

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
    mapping = dict(mine) | _mixture_weights(vectors, mine)
    matched = match_names(names, mapping, signals, counts)
    kept, used, notes = prepared(vectors, matched)
    made = evaluations_of(kept, used, growing=growing)
    rows, more = completed(made.rows)
    made = replace(made, rows=tuple(rows))
    folded = [f"{n} columns {base!r}_0, _1, … are one vector" for base, n in lengths.items()]
    remarks = (*matched.remarks, *folded, *notes, *made.remarks, *more)
    return Reading(names, matched, tuple(kept), used, made, remarks)


def _mixture_weights(records: Sequence[Record], mine: Mapping[str, str]) -> dict[str, str]:
    """A vector that is named like weights and sums to one is a mixture's."""
    if "mixture_weights" in mine.values():
        return {}
    for name in MIXTURE_NAMES:
        values = [record[name] for record in records if name in record]
        if values and all(isinstance(v, tuple) and abs(sum(v) - 1.0) < SUM_SLACK for v in values):
            return {name: "mixture_weights"}
    return {}
