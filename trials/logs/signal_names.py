"""Which signal a foreign log's column is: a table of the common spellings.

A name is cut into words: `Loss/validation`, `valLoss` and `val_loss_epoch` are all the "loss" of
"val". So the table is short: words for the split, for the measure, and which signal the two make.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

SPLITS = {
    "train": ("train", "training", "tr"),
    "val": ("val", "valid", "validation", "eval", "evaluation", "dev"),
    "test": ("test", "testing"),
}
MEASURES = {
    "loss": ("loss", "nll", "cross entropy", "mse", "objective"),
    "accuracy": ("accuracy", "acc", "top1", "categorical accuracy", "binary accuracy"),
    "auroc": ("auroc", "auc", "roc auc", "rocauc"),
    "auprc": ("auprc", "pr auc", "average precision", "ap"),
    "mcc": ("mcc", "matthews correlation", "matthews corrcoef"),
    "recall": ("recall", "sensitivity", "tpr"),
    "precision": ("precision",),
    "grad_norm": ("grad norm", "gradient norm", "total grad norm", "grad norm total"),
    "n": ("n", "samples", "num samples"),
}
SIGNALS = {
    ("train", "loss"): "train_loss",
    ("val", "loss"): "val_loss",
    ("train", "accuracy"): "train_accuracy",
    ("val", "accuracy"): "val_accuracy",
    ("train", "auroc"): "train_auroc",
    ("val", "auroc"): "val_auroc",
    ("val", "auprc"): "val_auprc",
    ("val", "mcc"): "val_mcc",
    ("val", "recall"): "val_recall",
    ("train", "recall"): "train_recall",
    ("val", "precision"): "val_precision",
    ("train", "grad_norm"): "grad_norm",
    ("val", "n"): "val_n",
}
UNNAMED_SPLIT = "train"  # `loss` beside `val_loss` is the training loss: Keras, Hugging Face
DECORATION = ("epoch", "mean", "avg", "average", "total", "main", "metrics", "metric", "scalars")
EPOCHS = ("epoch", "epochs", "training iteration", "current epoch")
STEPS = ("step", "global step", "steps", "iteration", "iter", "train global step", "batch")
CLOCK = ("time", "timestamp", "runtime", "wall time", "walltime", "date", "seconds", "created at")
SHARES = ("train_accuracy", "val_accuracy", "val_recall", "train_recall", "val_precision")


@dataclass(frozen=True)
class Matched:
    """What was taken for what: `taken` maps a signal to the log's own name.

    `passed_over` are names that meant a signal which another one gave already, `own` those that no
    spelling explains; neither enters the history, which should hold no configuration.
    """

    taken: Mapping[str, str]
    passed_over: tuple[str, ...]
    own: tuple[str, ...]
    epoch: str | None
    step: str | None


def match_names(names: Sequence[str], mine: Mapping[str, str], signals: Collection[str]) -> Matched:
    """Match a log's names to signals; `mine` maps a name to the signal that the user says it is.

    `signals` are the names that detectors read: a column already called so is taken as it is. Of
    several spellings of one signal the plainest counts, and a test split stands in for validation
    only where there is none. Raises ValueError for a name in `mine` that the log does not have.
    """
    unknown = sorted(set(mine) - set(names))
    if unknown:
        raise ValueError(
            f"--map {unknown[0]}=…: the log has no {unknown[0]!r}; it has {', '.join(names)}"
        )
    ranked = sorted(
        (rank, place, name, signal)
        for place, name in enumerate(names)
        for rank, signal in _meanings(name, mine, signals)
    )
    taken: dict[str, str] = {}
    for _, _, name, signal in ranked:
        if signal not in taken and name not in taken.values():
            taken[signal] = name
    meant = {name for *_, name, _ in ranked}
    used = set(taken.values())
    keys = {"epoch": _first(names, EPOCHS), "step": _first(names, STEPS)}
    aside = {name for name in names if words(name) in (*EPOCHS, *STEPS, *CLOCK)}
    return Matched(
        taken=taken,
        passed_over=tuple(name for name in names if name in meant - used),
        own=tuple(name for name in names if name not in meant | aside),
        epoch=keys["epoch"],
        step=keys["step"],
    )


def words(name: str) -> str:
    """A name as plain words: `Loss/valEpoch` is "loss val epoch"."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return " ".join(re.split(r"[^a-z0-9]+", apart.lower())).strip()


def _meanings(
    name: str, mine: Mapping[str, str], signals: Collection[str]
) -> list[tuple[int, str]]:
    """The signals that a name may stand for, each with a rank: the least is the surest."""
    if name in mine:
        return [(-1, mine[name])] if mine[name] not in {"", "-"} else []
    if name in signals:
        return [(0, name)]
    parts = words(name).split()
    split, rest = _taken_split(parts)
    kept = [word for word in rest if word not in DECORATION] or rest
    per_step = kept[-1:] == ["step"] and len(kept) > 1  # Lightning's `train_loss_step`
    kept = kept[:-1] if per_step else kept
    measure = _measure(rest) or _measure(kept)
    if measure is None:
        return []
    rank = 1 + (len(rest) > len(kept)) + 3 * per_step
    if split == "test":
        return [(9, signal)] if (signal := SIGNALS.get(("val", measure))) else []
    signal = SIGNALS.get((split or UNNAMED_SPLIT, measure))
    if split is None and signal is None:  # ranking and the like are hardly taken on training data
        signal = SIGNALS.get(("val", measure))
    return [(rank + (split is None), signal)] if signal else []


def _measure(parts: Sequence[str]) -> str | None:
    name = " ".join(parts)
    return next((key for key, spellings in MEASURES.items() if name in spellings), None)


def _taken_split(parts: Sequence[str]) -> tuple[str | None, list[str]]:
    for key, spellings in SPLITS.items():
        found = next((word for word in parts if word in spellings), None)
        if found:
            return key, [word for word in parts if word not in spellings]
    return None, list(parts)


def _first(names: Sequence[str], spellings: Sequence[str]) -> str | None:
    return next((name for spelling in spellings for name in names if words(name) == spelling), None)
