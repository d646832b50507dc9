"""The same behaviour with the classes counted in another order, which is mere notation.

A history with an average precision has no counterpart: that of the other class is unknown.
"""

from dataclasses import replace

from sickbay.trials.contract import Row, SignalValue
from sickbay.trials.history import History

BY_CLASS = ("class_gradient_share",)  # vectors with one entry a class
SHARES = ("val_predicted_positive_share", "val_mean_probability")  # of the positive class
POSITIVE_ONLY = ("val_auprc", "val_auprc_se", "val_recall", "val_precision")


def permuted(history: History) -> History | None:
    """Count the classes in reverse order; None without classes or a counterpart.

    The scores of two classes are reversed, too, so that areas under ROC curves stay.
    """
    signals = set(history.names)
    size = _classes(history)
    if size is None or signals & set(POSITIVE_ONLY):
        return None
    facts = replace(history.facts, class_counts=history.facts.class_counts[::-1])
    rows = [Row(row.epoch, row.step, _reversed(row, size)) for row in history.rows()]
    return History(rows, facts, history.epochs_planned, finished=history.finished)


def _classes(history: History) -> int | None:
    """How many classes there are; None if nothing tells, or if the signals contradict."""
    sizes = {len(history.facts.class_counts)} - {0}
    for row in history.rows():
        for name in BY_CLASS:
            if name in row.signals:
                sizes.add(len(_entries(row.signals[name])))
        if "val_confusion" in row.signals:
            entries = len(_entries(row.signals["val_confusion"]))
            root = round(entries**0.5)
            sizes.add(root if root * root == entries else 0)
        if "val_scores_hist_pos" in row.signals:
            sizes.add(2)
    return sizes.pop() if len(sizes) == 1 and min(sizes) >= 2 else None


def _reversed(row: Row, size: int) -> dict[str, SignalValue]:
    signals = dict(row.signals)
    for name in (*BY_CLASS, "val_confusion"):  # reversing all entries reverses both axes
        if name in signals:
            signals[name] = _entries(signals[name])[::-1]
    positive, negative = "val_scores_hist_pos", "val_scores_hist_neg"
    if size == 2:
        for name in SHARES:
            if name in signals:
                signals[name] = 1.0 - _entries(signals[name])[0]
        pair = {positive: signals.get(negative), negative: signals.get(positive)}
        for name, values in pair.items():
            signals.pop(name, None)
            if values is not None:
                signals[name] = _entries(values)[::-1]
    return signals


def _entries(value: SignalValue) -> list[float]:
    return [value] if isinstance(value, (int, float)) else list(value)
