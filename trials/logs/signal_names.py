"""Maps a log's columns to signals: tables of common spellings, and rules to apply them.

A name is cut into words: `Loss/validation`, `valLoss` and `val_loss_epoch` are all the "loss" of
"val". So the tables are short: words for the split, for the measure, and which signal the two make.
"""

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from sickbay.trials.contract import MACHINE_SIGNALS


def _each(spellings: str) -> frozenset[str]:
    """The spellings in a line of the table, separated by bars."""
    return frozenset(spellings.split("|"))


SPLITS = {
    "train": _each("train|training|trainer|tr|trn|learn"),
    "val": _each("val|valid|validation|validate|eval|evaluation|dev|holdout"),
    "test": _each("test|testing|tst"),
}
MEASURES = {
    "loss": _each(
        "loss|nll|loss nll|nll loss|log loss|logloss|mlogloss|binary logloss|multi logloss"
        "|cross entropy|cross entropy loss|crossentropy|xent|ce|bce|ce loss|loss ce|bce loss"
        "|mse|mse loss|rmse|mae|l1|l2|objective|cost|criterion|lm loss|negative log likelihood"
    ),
    "accuracy": _each(
        "accuracy|acc|accuracy score|categorical accuracy|sparse categorical accuracy"
        "|binary accuracy|binaryaccuracy|multiclass accuracy|multiclassaccuracy"
        "|top1|top 1|acc1|acc 1|prec1|prec 1|top1 acc|top 1 acc|top1 accuracy|top 1 accuracy"
        "|acc top1|acc top 1|accuracy top1|accuracy top 1"
    ),
    "error_rate": _each("error rate|top1 error|top 1 error|err 1|top1 err|merror"),
    "perplexity": _each("perplexity|ppl"),
    "auroc": _each("auroc|auc|roc auc|rocauc|auc roc|roc auc score"),
    "auprc": _each("auprc|pr auc|average precision|ap|auc pr|prauc"),
    "mcc": _each("mcc|matthews correlation|matthews corrcoef"),
    "recall": _each("recall|sensitivity|tpr|recall b"),
    "precision": _each("precision|precision b"),
    "map": _each("map|m ap|m ap50 95 b|m ap50 95|m ap 0 5 0 95|bbox m ap"),
    "grad_norm": _each(
        "grad norm|gradient norm|total grad norm|grad norm total|gnorm|grad gnorm|gradnorm"
        "|global norm|global grad norm|gradient global norm|total norm|grads norm"
        "|grad 2 0 norm|grad l2 norm|grad norm 2"
    ),
    "n": _each("n|samples|num samples|n samples"),
    "tp": _each("tp|true positives|true positive"),
    "fp": _each("fp|false positives|false positive"),
    "tn": _each("tn|true negatives|true negative"),
    "fn": _each("fn|false negatives|false negative"),
    "confusion": _each("confusion|confusion matrix"),
    "mixture_weights": _each(
        "mixture weights|mixture weight|mixing weights|mixing weight|component weights"
        "|component weight|mixture coefficients|mixing coefficients|pi"
    ),
    # of the machine; units do not matter, as a run is compared with itself
    "step_seconds": _each(
        "step time|step time s|step time ms|step seconds|step duration|time per step"
        "|seconds per step|sec per step|ms per step|iter time|iteration time|time per iteration"
        "|batch time|time per batch|s it|sec it|ms it|s batch|ms batch|s step|ms step"
    ),
    "throughput": _each(
        "throughput|samples per second|samples per sec|samples s|samples sec|tokens per second"
        "|tokens per sec|tokens s|tokens sec|images per second|images s|img s|imgs s"
        "|examples per second|examples s|steps per second|steps per sec|iterations per second|it s"
    ),
    "host_memory": _each(
        "host memory|host memory gb|rss|rss mb|rss gb|memory rss|process memory|ram|ram used"
        "|ram gb|cpu memory|cpu mem|proc memory rss mb|system proc memory rss mb"
    ),
    "gpu_memory": _each(
        "gpu memory|gpu mem|gpu mem gb|gpu memory gb|gpu memory mb|gpu memory used"
        "|gpu memory used mb|gpu memory allocated|gpu 0 memory used|cuda memory|max mem|vram"
        "|system gpu 0 memory allocated"
    ),
    "gpu_utilisation": _each(
        "gpu util|gpu utilization|gpu utilisation|gpu usage|gpu load|gpu busy|gpu 0 utilization"
        "|system gpu 0 gpu"
    ),
    "data_wait_share": _each(
        "data wait share|data wait|data wait fraction|data time share|data time fraction|data stall"
    ),
}
MACHINE_MEASURES = tuple(name for name in MACHINE_SIGNALS if name in MEASURES)
SIGNALS = {
    **{
        (split, measure): f"{split}_{measure}"
        for split in ("train", "val")
        for measure in ("loss", "accuracy", "error_rate", "perplexity", "auroc", "recall")
    },
    **{
        ("val", measure): f"val_{measure}"
        for measure in "auprc mcc precision map n confusion tp fp tn fn".split()
    },
    ("train", "grad_norm"): "grad_norm",
    **{("train", name): name for name in (*MACHINE_MEASURES, "throughput")},
    ("train", "mixture_weights"): "mixture_weights",
    ("val", "mixture_weights"): "mixture_weights",
}
DECORATION = _each(
    "epoch|mean|avg|average|total|main|overall|all|metrics|metric|scalars|scalar|log|logs|logger"
    "|running|smoothed|smooth|curve|history|values|list|value|set|current|sum|final|score|step"
    "|per|the|of|nats|avr"
)
NOISE = _each("info|debug|warning|warn|error|root|main|rank|trainer|epoch")
EPOCHS = ("epoch", "epochs", "training iteration", "current epoch", "epoch num", "ep", "round")
STEPS = (
    *("step", "global step", "steps", "iteration", "iter", "iterations", "iters", "it"),
    *("train global step", "trainer global step", "batch", "total timesteps", "timesteps total"),
    *("num updates", "updates", "update", "num steps", "env steps", "timestep", "timesteps"),
)
CLOCK = (
    *("time", "timestamp", "runtime", "wall time", "walltime", "date", "seconds", "created at"),
    *("time s", "elapsed", "elapsed time", "duration", "time total s", "time this iter s"),
)
SHARES = (
    *("train_accuracy", "val_accuracy", "val_recall", "train_recall", "val_precision"),
    *("train_error_rate", "val_error_rate", "gpu_utilisation", "data_wait_share"),
)
RATE = re.compile(r"(?:ms|s|secs?|seconds|tokens|samples|img|images|it)/", re.IGNORECASE)
RUN_TOGETHER = re.compile(r"\b(train|training|val|valid|validation|eval|test)(loss|acc|accuracy)\b")
# Measures that are hardly taken on training data: without a split they are validation's.
VALIDATION_MEASURES = _each("auroc|auprc|mcc|recall|precision|map|tp|fp|tn|fn")
EVALUATED = VALIDATION_MEASURES | _each("accuracy|error_rate|perplexity")
LOSS_WORDS = _each("loss|losses|nll")
# A word that turns a name with "loss" in it into something else, or into a loss of another run.
NOT_A_LOSS = _each(
    "scale|scaler|weight|weights|coef|coefficient|ratio|fn|function|name|type|delta|best|min|max"
    "|lowest|improved|decreased|increased|reduced|from|lr|count|steps|std|var|patience|threshold"
)
GRADIENT_WORDS = _each("grad|grads|gradient|gradients|gnorm|gradnorm")
REWARD_WORDS = _each("reward|rewards|rew|return|returns")
ADVERSARIES = (_each("d|dis|disc|discriminator|critic|netd"), _each("g|gen|generator|actor|netg"))
LAST_RANK = 99
FULLEST_OVER = 3  # a candidate with fewer than 3 values, and a third of the fullest, is a summary


_SINGULAR = {"losses": "loss", "accs": "acc", "accuracies": "accuracy", "aucs": "auc"}
_SPELLINGS = {spelling: key for key, group in MEASURES.items() for spelling in group}


@dataclass(frozen=True)
class Matched:
    """The matches of signals to columns: `taken` maps a signal to the log's own name.

    `parts` maps a loss without a column of its own to the columns that are its terms. `losses` and
    `gradients` are all columns called so: they are searched for NaN, taken or not. `unread` are the
    names that no rule explains, `passed_over` those whose signal another column gave already;
    neither enters the history, which should hold no configuration. `remarks` say what was assumed.
    """

    taken: Mapping[str, str]
    passed_over: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    epoch: str | None = None
    step: str | None = None
    parts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    losses: tuple[str, ...] = ()
    gradients: tuple[str, ...] = ()
    rewards: tuple[str, ...] = ()
    adversarial: bool = False
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Candidate:
    rank: int
    place: int
    name: str
    signal: str


@lru_cache(maxsize=4096)
def words(name: str) -> str:
    """A name as plain words: `Loss/valEpoch` is "loss val epoch"."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name).lower()
    plain = " ".join(re.split(r"[^a-z0-9]+", apart)).strip()
    return RUN_TOGETHER.sub(r"\1 \2", plain)


def split_of(text: str) -> str | None:
    """The split that a text names (`valid`, `Test set`), or None."""
    split, _ = _without_split(words(text).split())
    return split


def is_split(name: str) -> bool:
    """Whether a name is only a split: `Test`, `valid`."""
    split, rest = _without_split(words(name).split())
    return split is not None and not rest


def is_loss(name: str) -> bool:
    """Whether a column is named like a loss or a term of one: `train/box_loss`, `Loss_D`."""
    parts = set(words(name).split())
    return bool(parts & LOSS_WORDS) and not parts & NOT_A_LOSS


def is_gradient(name: str) -> bool:
    """Whether a column is named like a gradient's norm."""
    parts = set(words(name).split())
    return bool(parts & GRADIENT_WORDS) and not parts & (NOT_A_LOSS - {"max"})


def is_reward(name: str) -> bool:
    """Whether a column is named like an episode's reward or return."""
    return bool(set(words(name).split()) & REWARD_WORDS)


def is_epoch(name: str) -> bool:
    """Whether a column counts epochs."""
    return _last_words(name) in EPOCHS or words(name) in EPOCHS


def is_step(name: str) -> bool:
    """Whether a column counts optimiser steps."""
    rate = RATE.match(name) is not None  # `ms/batch`
    return not rate and (_last_words(name) in STEPS or words(name) in STEPS)


def is_clock(name: str) -> bool:
    """Whether a column holds times."""
    return _last_words(name) in CLOCK or words(name) in CLOCK


def is_evaluated(name: str) -> bool:
    """Whether a column holds a measure that is taken beside a loss: an accuracy, an AUROC."""
    return _measured(name) in EVALUATED


def is_measure(name: str) -> bool:
    """Whether a name is known: a signal, a loss, a gradient or a reward."""
    return bool(_meanings(name)) or is_loss(name) or is_gradient(name) or is_reward(name)


def match_names(
    names: Sequence[str],
    mine: Mapping[str, str],
    signals: Collection[str],
    counts: Mapping[str, int] | None = None,
) -> Matched:
    """Match a log's names to signals; `mine` maps a name to the signal that the user says it is.

    `signals` are the names that detectors read: a column already called so is taken as it is.
    `counts` says how many numbers each column has: a summary line never outvotes the curve. Of
    several spellings of one signal the plainest counts, and a test split stands in for validation
    only where there is none. Raises ValueError for a name in `mine` that the log does not have, and
    for a signal that does not exist.
    """
    check_mapping(mine, names, signals)
    remarks: list[str] = []
    named = _with_boosting_splits(names, remarks)
    open_names = [name for name in names if mine.get(name, "") not in {"epoch", "step"}]
    candidates = [
        _Candidate(rank, place, name, signal)
        for place, name in enumerate(open_names)
        for rank, signal in _candidates(name, named[name], mine, signals, names)
    ]
    taken = _choose(candidates, counts or {})
    used = set(taken.values())
    meant = {candidate.name for candidate in candidates}
    remarks += [
        f"{name!r} is used as {signal}, as the log has no validation"
        for signal, name in taken.items()
        if signal.startswith("val_") and name not in mine and split_of(named[name]) == "test"
    ]
    losses = tuple(name for name in names if is_loss(name) and mine.get(name) != "-")
    losses += tuple(taken[s] for s in ("train_loss", "val_loss") if s in taken)
    parts = _parts(losses, named, taken, mine, remarks)
    gradients = tuple(name for name in names if is_gradient(name) and mine.get(name) != "-")
    keys = {
        key: next((name for name, signal in mine.items() if signal == key), None)
        or _first(names, test, mine, counts or {})
        for key, test in (("epoch", is_epoch), ("step", is_step))
    }
    aside = {name for name in names if is_epoch(name) or is_step(name) or is_clock(name)}
    aside |= {name for group in parts.values() for name in group}
    return Matched(
        taken=taken,
        passed_over=tuple(name for name in names if name in meant - used - aside),
        unread=tuple(n for n in names if n not in meant | aside | set(losses) | set(gradients)),
        epoch=keys["epoch"],
        step=keys["step"],
        parts=parts,
        losses=tuple(dict.fromkeys(losses)),
        gradients=gradients,
        rewards=tuple(name for name in names if is_reward(name)),
        adversarial=_adversarial(losses),
        remarks=tuple(remarks),
    )


def check_mapping(mine: Mapping[str, str], names: Sequence[str], signals: Collection[str]) -> None:
    """Refuse a mapping of a column that the log lacks, or to a signal that does not exist."""
    unknown = sorted(set(mine) - set(names))
    if unknown:
        raise ValueError(
            f"--map {unknown[0]}=…: the log has no column {unknown[0]!r}"
            f"{did_you_mean(unknown[0], names)}; it has {', '.join(names)}"
        )
    allowed = {*signals, *SIGNALS.values(), "epoch", "step", "-", ""}
    for name, signal in mine.items():
        if signal not in allowed:
            raise ValueError(
                f"--map {name}={signal}: there is no signal {signal!r}"
                f"{did_you_mean(signal, allowed)}. docs/signals.md lists all signals; common ones "
                "are train_loss, val_loss, val_accuracy, val_auroc, grad_norm, epoch, step"
            )


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'val_loss'?` for a word close to a known one, else nothing."""
    close = difflib.get_close_matches(word, sorted(known), n=1, cutoff=0.6)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _candidates(
    name: str, named: str, mine: Mapping[str, str], signals: Collection[str], names: Sequence[str]
) -> list[tuple[int, str]]:
    if name in mine:
        return [(-1, mine[name])] if mine[name] not in {"", "-"} else []
    if name in signals and split_of(name) != "test":
        return [(0, name)]
    own = [(LAST_RANK, name)] if name in signals else []  # `test_loss`, beside a validation loss
    return own + _meanings(named, unnamed_is_validation=_validation_if_unnamed(tuple(names)))


@lru_cache(maxsize=4096)
def _meanings(
    name: str, *, unnamed_is_validation: frozenset[str] = VALIDATION_MEASURES
) -> list[tuple[int, str]]:
    """The candidate signals of a name with ranks: the lowest is the most certain."""
    split, rest = _without_split(words(name).split())
    if set(rest) & NOT_A_LOSS and set(rest) & LOSS_WORDS:
        return []
    kept = [word for word in rest if word not in DECORATION] or rest
    per_step = rest[-1:] == ["step"] and len(rest) > 1  # Lightning's `train_loss_step`
    measure, extra = _measure(rest), 0
    if measure is None:
        measure, extra = _measure(kept), 1
    if measure is None and "/" in name:  # `info/learner/default_policy/total_loss`
        _, last = _without_split(words(name.rpartition("/")[2]).split())
        measure, extra = _measure([word for word in last if word not in DECORATION]), 5
    if measure is None and not kept and split is not None:
        measure, extra = "loss", 6  # `{"train": […], "val": […]}`
    if measure is None:
        return []
    if measure == "n" and split != "val":
        return []
    plain = measure != "loss" or bool(set(rest) & LOSS_WORDS)
    rank = 1 + extra + 3 * per_step + (split is None) + 2 * (not plain)
    if split == "test":
        rank += 12
    unnamed = "val" if measure in unnamed_is_validation else "train"
    where = {"train": "train", "val": "val", "test": "val", None: unnamed}[split]
    signal = SIGNALS.get((where, measure))
    return [(rank, signal)] if signal else []


@lru_cache(maxsize=512)
def _validation_if_unnamed(names: tuple[str, ...]) -> frozenset[str]:
    """The measures that count as validation where a column names no split.

    fastai and the Trainer's table write `train_loss, valid_loss, accuracy`: its accuracy is
    validation's. Keras' `loss, acc, val_loss, val_acc` names every validation column: its `acc` is
    training's. A lone `auc` or `recall` is validation's, and so is an accuracy beside it.
    """
    splits = {split_of(name) for name in names if is_loss(name)}
    named = {"train", "val"} <= splits or {"train", "test"} <= splits
    measures = frozenset(MEASURES) - {"loss", "grad_norm"} if named else VALIDATION_MEASURES
    measures -= {_measured(name) for name in names if split_of(name) == "val"}
    unnamed = {_measured(name) for name in names if split_of(name) is None}
    validated = {_measured(name) for name in names if split_of(name) == "val"}
    return measures | ({"accuracy"} - validated if unnamed & measures else set())


def _measured(name: str) -> str | None:
    _, rest = _without_split(words(name).split())
    return _measure(rest) or _measure([word for word in rest if word not in DECORATION])


def _choose(candidates: Sequence[_Candidate], counts: Mapping[str, int]) -> dict[str, str]:
    fullest: dict[str, int] = {}
    for candidate in candidates:
        fullest[candidate.signal] = max(
            fullest.get(candidate.signal, 0), counts.get(candidate.name, 0)
        )

    def summary(candidate: _Candidate) -> bool:
        n = counts.get(candidate.name, 0)
        return (
            candidate.rank >= 0
            and n < FULLEST_OVER
            and FULLEST_OVER * n <= fullest[candidate.signal]
        )

    taken: dict[str, str] = {}
    for candidate in sorted(
        candidates, key=lambda candidate: (summary(candidate), candidate.rank, candidate.place)
    ):
        if candidate.signal not in taken and candidate.name not in taken.values():
            taken[candidate.signal] = candidate.name
    return taken


def _parts(
    losses: Sequence[str],
    named: Mapping[str, str],
    taken: Mapping[str, str],
    mine: Mapping[str, str],
    remarks: list[str],
) -> dict[str, tuple[str, ...]]:
    """Terms of a loss without its own column, by the loss's signal."""
    terms: dict[str, list[str]] = {}
    for name in losses:
        split = split_of(named.get(name, name))
        signal = "train_loss" if split in {None, "train"} else "val_loss"
        if signal not in taken and name not in mine and name not in taken.values():
            terms.setdefault(signal, []).append(name)
    if "val_loss" in terms and any(split_of(n) == "val" for n in terms["val_loss"]):
        terms["val_loss"] = [n for n in terms["val_loss"] if split_of(n) == "val"]
    if not _adversarial(losses):
        for signal, group in terms.items():
            how = "the sum of " if len(group) > 1 else ""
            remarks.append(f"{signal} is {how}{' + '.join(repr(name) for name in group)}")
    return {signal: tuple(group) for signal, group in terms.items()}


def _adversarial(losses: Sequence[str]) -> bool:
    """Whether the losses are those of two adversaries: neither falls in healthy training."""
    parts = [set(words(name).split()) for name in losses]
    return all(any(part & player for part in parts) for player in ADVERSARIES)


def _with_boosting_splits(names: Sequence[str], remarks: list[str]) -> dict[str, str]:
    """XGBoost counts its evaluation sets: `validation_0` is by custom the training split."""
    plain = [words(name) for name in names]
    both = all(any(f"validation {i}" in name for name in plain) for i in (0, 1))
    if not both:
        return {name: name for name in names}
    remarks.append("'validation_0' was read as training, 'validation_1' as validation")
    return {
        name: re.sub(r"validation_0", "train", re.sub(r"validation_1", "val", name))
        for name in names
    }


def _measure(parts: Sequence[str]) -> str | None:
    return _SPELLINGS.get(" ".join(_SINGULAR.get(part, part) for part in parts))


def _without_split(parts: Sequence[str]) -> tuple[str | None, list[str]]:
    for key, spellings in SPLITS.items():
        if any(word in spellings for word in parts):
            return key, [word for word in parts if word not in spellings]
    return None, list(parts)


def _last_words(name: str) -> str:
    return words(re.split(r"[/|]", name)[-1])


def _first(
    names: Sequence[str],
    test: Callable[[str], bool],
    mine: Mapping[str, str],
    counts: Mapping[str, int],
) -> str | None:
    matching = [name for name in names if name not in mine and test(name)]
    order = {spelling: rank for rank, spelling in enumerate((*EPOCHS, *STEPS))}
    fullest = max((counts.get(name, 0) for name in matching), default=0)
    full = [name for name in matching if 2 * counts.get(name, 0) >= fullest]
    return min(full, key=lambda name: order.get(words(name), 99), default=None)
