"""What follows from a log's numbers: a loss from its terms, confusion tables from rates.

Record by record (`prepared`), where only finiteness counts or a term is missing; row by row
(`completed`), where the task's facts are needed.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from sickbay.trials.contract import Row, SignalValue, TaskFacts
from sickbay.trials.logs.evaluations import finite
from sickbay.trials.logs.log import Record
from sickbay.trials.logs.signal_names import Matched

COUNTS = ("val_tn", "val_fp", "val_fn", "val_tp")  # the order of `val_confusion`
WORKING = ("train_error_rate", "val_error_rate", "train_perplexity", "val_perplexity", *COUNTS)


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
        remarks.append(f"{rising}: its losses may rise, and are only looked at for NaN")
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
            signal: math.fsum(values) if finite(record, names) else math.nan
            for signal, names in matched.parts.items()
            if (values := [v for n in names if isinstance(v := record.get(n), float)])
            and len(values) == len(names)
        }
        made.append({**record, **sums} if sums else record)
    return _without_first_zeros(made, matched, remarks), matched, tuple(remarks)


def completed(rows: Sequence[Row], facts: TaskFacts) -> tuple[list[Row], tuple[str, ...]]:
    """Rows with what other signals imply: accuracies, losses and confusion tables."""
    remarks: dict[str, None] = {}
    made = []
    for row in rows:
        signals = dict(row.signals)
        for split in ("train", "val"):
            _from_error_rate(signals, split)
            _from_perplexity(signals, split, remarks)
        if "val_confusion" not in signals:
            table = _from_counts(signals) or _from_rates(signals, facts, remarks)
            signals |= {} if table is None else {"val_confusion": table}
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
    """A loss that is exactly 0 at first and sets in later (a warm-up) begins where it sets in."""
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
                f"{name!r} is exactly 0 in the first {first} records and sets in later: these were "
                "left out"
            )
    return made


def _without_fillers(
    records: Sequence[Record], matched: Matched, remarks: list[str]
) -> list[Record]:
    """Read NaN as a gap where it only fills a table.

    There, training is NaN exactly where validation is not, and the other way round.
    """
    names = [matched.taken.get("train_loss"), matched.taken.get("val_loss")]
    if None in names:
        return list(records)
    seen = [
        tuple(math.isfinite(v) if isinstance(v := r.get(n or ""), float) else None for n in names)
        for r in records
    ]
    filled = {(True, False), (False, True)}
    both = all(seen.count(way) > 1 for way in filled)
    if not both or not set(seen) <= filled:
        return list(records)
    remarks.append("NaN in training losses beside validation's, and the reverse, was read as a gap")
    return [
        {
            n: v
            for n, v in r.items()
            if n not in names or (isinstance(v, float) and math.isfinite(v))
        }
        for r in records
    ]


def _from_error_rate(signals: dict[str, SignalValue], split: str) -> None:
    rate = signals.get(f"{split}_error_rate")
    if isinstance(rate, float):
        signals.setdefault(f"{split}_accuracy", 1.0 - rate)


def _from_perplexity(signals: dict[str, SignalValue], split: str, remarks: dict[str, None]) -> None:
    value = signals.get(f"{split}_perplexity")
    if isinstance(value, float) and f"{split}_loss" not in signals:
        signals[f"{split}_loss"] = math.log(value) if value > 0.0 else math.nan
        remarks[f"{split}_loss is the logarithm of the perplexity"] = None


def _from_counts(signals: Mapping[str, SignalValue]) -> list[float] | None:
    values = [signals.get(name) for name in COUNTS]
    known = [value for value in values if isinstance(value, float)]
    return known if len(known) == len(COUNTS) else None


def _from_rates(
    signals: Mapping[str, SignalValue],
    facts: TaskFacts,
    remarks: dict[str, None],
) -> list[float] | None:
    """Two classes' table from recall and accuracy (or precision), class counts and n.

    tp = recall P, fp = tp (1 / precision - 1), or fp = N - (accuracy n - tp), with P and N the
    positives and negatives among the n validation samples.
    """
    recall = signals.get("val_recall")
    n = signals.get("val_n", facts.n.get("val"))
    if len(facts.class_counts) != 2 or not isinstance(recall, float) or not n:
        return None
    assert isinstance(n, float | int)
    positives = round(n * facts.class_counts[1] / sum(facts.class_counts))
    negatives = n - positives
    hits = recall * positives
    accuracy, precision = signals.get("val_accuracy"), signals.get("val_precision")
    if isinstance(accuracy, float):
        false_alarms = negatives - (accuracy * n - hits)
    elif isinstance(precision, float) and precision > 0.0:
        false_alarms = hits * (1.0 / precision - 1.0)
    elif hits == 0.0 and isinstance(precision, float):
        false_alarms = 0.0
    else:
        return None
    if not all(map(math.isfinite, (hits, false_alarms))):
        return None
    remarks[
        f"the confusion table follows from recall, accuracy or precision, and {positives} "
        f"positives among {n:g} validation samples (the training classes' shares)"
    ] = None
    alarms = min(max(round(false_alarms), 0), negatives)
    return [
        float(negatives - alarms),
        float(alarms),
        float(positives - round(hits)),
        float(round(hits)),
    ]
