"""Derived signals: a loss from its terms or from a perplexity; filled gaps."""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from sickbay.trials.contract import Row, SignalValue
from sickbay.trials.logs.cells import total
from sickbay.trials.logs.evaluations import finite
from sickbay.trials.logs.log import Record
from sickbay.trials.logs.signal_names import Matched

WORKING = ("train_error_rate", "val_error_rate", "train_perplexity", "val_perplexity")


def prepared(
    records: Sequence[Record], matched: Matched
) -> tuple[list[Record], Matched, tuple[str, ...]]:
    """Records with the losses that have no column of their own, and what was assumed.

    A loss that may rise while training goes well (two adversaries; a policy whose reward rises) is
    looked at for NaN alone: it is recorded where it is not finite. Zeros before a loss sets in are
    left out.
    """
    remarks: list[str] = []
    kept = _without_fillers(records, matched, remarks)
    rising = _may_rise(kept, matched)
    made: list[Record] = []
    if rising:
        remarks.append(f"{rising}: its losses may rise, so they are only checked for NaN")
        losses = set(matched.losses)
        for record in kept:
            broken = not finite(record, matched.losses)
            seen = {"nonfinite_loss_steps": float(broken)} if record.keys() & losses else {}
            made.append({**record, **seen, **({"train_loss": math.nan} if broken else {})})
        taken = {s: n for s, n in matched.taken.items() if s != "train_loss"}
        taken["nonfinite_loss_steps"] = "nonfinite_loss_steps"
        return made, replace(matched, taken=taken, parts={"train_loss": ()}), tuple(remarks)
    for record in kept:
        sums = {
            signal: total(values) if finite(record, names) else math.nan
            for signal, names in matched.parts.items()
            if (values := [v for n in names if isinstance(v := record.get(n), float)])
            and len(values) == len(names)
        }
        made.append({**record, **sums} if sums else record)
    return _without_first_zeros(made, matched, remarks), matched, tuple(remarks)


def completed(rows: Sequence[Row]) -> tuple[list[Row], tuple[str, ...]]:
    """Rows with accuracies and losses derived from error rates and perplexities."""
    remarks: dict[str, None] = {}
    made = []
    for row in rows:
        signals = dict(row.signals)
        for split in ("train", "val"):
            _from_error_rate(signals, split)
            _from_perplexity(signals, split, remarks)
        kept = {name: value for name, value in signals.items() if name not in WORKING}
        made.append(Row(row.epoch, row.step, kept))
    return made, tuple(remarks)


def _may_rise(records: Sequence[Record], matched: Matched) -> str:
    if matched.adversarial:
        return "the log has the losses of two adversaries"
    for name in matched.rewards:
        values = [v for r in records if isinstance(v := r.get(name), float) and math.isfinite(v)]
        third = len(values) // 3
        if third and sum(values[-third:]) > sum(values[:third]):
            return f"a reward is logged ({name!r}) and rises"
    return ""


def _without_first_zeros(
    records: Sequence[Record], matched: Matched, remarks: list[str]
) -> list[Record]:
    """Drop the leading zeros of a loss that starts late (a warm-up)."""
    made = list(records)
    for signal in ("train_loss", "val_loss"):
        name = matched.taken.get(signal, signal)
        places = [i for i, record in enumerate(made) if name in record]
        values = [made[i][name] for i in places]
        first = next((k for k, value in enumerate(values) if value != 0.0), 0)
        if first and any(isinstance(v, float) and v > 0.0 for v in values[first:]):
            for i in places[:first]:
                made[i] = {key: value for key, value in made[i].items() if key != name}
            remarks.append(
                f"{name!r} is exactly 0 in the first {first} records: these were left out"
            )
    return made


def _without_fillers(
    records: Sequence[Record], matched: Matched, remarks: list[str]
) -> list[Record]:
    """Read NaN as a gap where it only fills a table.

    There, training is NaN exactly where validation is not, and the other way round; or validation
    is finite at every nth record alone.
    """
    names = [matched.taken.get("train_loss"), matched.taken.get("val_loss")]
    if None in names:
        return list(records)
    seen = [
        tuple(math.isfinite(v) if isinstance(v := r.get(n or ""), float) else None for n in names)
        for r in records
    ]
    filled = {(True, False), (False, True)}
    alternate = set(seen) == filled and all(seen.count(way) > 1 for way in filled)
    if not alternate and not _at_every_nth(seen):
        return list(records)
    remarks.append("NaN was read as a gap, as validation losses are NaN between every few records")
    return [
        {
            n: v
            for n, v in r.items()
            if n not in names or (isinstance(v, float) and math.isfinite(v))
        }
        for r in records
    ]


def _at_every_nth(seen: Sequence[tuple[bool | None, ...]]) -> bool:
    """Whether training is always finite, and validation in regular distances, NaN in between."""
    places = [place for place, (_, validation) in enumerate(seen) if validation]
    distances = {after - before for before, after in pairwise(places)}
    known = all(training and validation is not None for training, validation in seen)
    regular = len(places) > 2 and len(distances) == 1 and distances != {1}
    return known and regular and len(seen) - places[-1] <= min(distances)


def _from_error_rate(signals: dict[str, SignalValue], split: str) -> None:
    rate = signals.get(f"{split}_error_rate")
    if isinstance(rate, float):
        signals.setdefault(f"{split}_accuracy", 1.0 - rate)


def _from_perplexity(signals: dict[str, SignalValue], split: str, remarks: dict[str, None]) -> None:
    value = signals.get(f"{split}_perplexity")
    if isinstance(value, float) and f"{split}_loss" not in signals:
        signals[f"{split}_loss"] = math.log(value) if value > 0.0 else math.nan
        remarks[f"{split}_loss is the logarithm of the perplexity"] = None
