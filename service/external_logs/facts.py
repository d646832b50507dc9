"""What is known about the task of a log: what the user says, what the log shows, what is assumed.

Every assumption is one plain line, which the screen and the JSON both show.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sickbay.service.external_logs.options import FACT_NAMES, LogOptions, options_from
from sickbay.trials.contract import Row, TaskFacts, TaskKind
from sickbay.trials.history import facts_from_json, facts_to_json
from sickbay.trials.logs.facts import CROSS_ENTROPY, entropy

CLASSES = frozenset({TaskKind.BINARY, TaskKind.MULTICLASS})
FAR_BELOW = 0.25  # of the floor: no untrained model begins there
HARDLY = 0.5  # of the first loss
RANKING = ("val_auroc", "val_auprc", "val_mcc", "val_scores_hist_pos", "val_recall")


@dataclass(frozen=True)
class Known:
    """A task's facts, and how certain they are.

    `assumed_floor` says that the floor of the loss is a guess: it may show that there is no skill,
    never that there is.
    """

    facts: TaskFacts
    assumptions: tuple[str, ...]
    assumed_floor: bool = False


def split_facts(own: Mapping[str, Any]) -> tuple[LogOptions, TaskFacts]:
    """What a log's own first line says, in the flags' names or in those of `TaskFacts`.

    Raises ValueError for a value of another kind.
    """
    flags = options_from({key: value for key, value in own.items() if key in FACT_NAMES})
    known = json.loads(facts_to_json(TaskFacts()))
    fields = {key: value for key, value in own.items() if key in known}
    try:
        return flags, facts_from_json(json.dumps(known | fields))
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise ValueError(f"cannot read the facts in the log's first line: {error}") from error


def facts_of(own: TaskFacts, options: LogOptions, rows: Sequence[Row]) -> Known:
    """The task's facts: from the log itself, then from the user, then from its signals."""
    assumptions: list[str] = []
    signals = {name for row in rows for name in row.signals}
    classes = options.classes or own.class_counts
    if not classes:
        classes = _validation_classes(rows, assumptions)
    kind = _kind(options.task or own.kind, classes, signals, assumptions)
    if classes and kind not in CLASSES:
        raise ValueError(
            f"class counts do not apply to a {kind} task: leave out --classes or --task"
        )
    floors = dict(own.floors) | {
        signal: _floor(value, classes) for signal, value in options.floors.items()
    }
    losses = {"val_loss", "train_loss"} & signals
    assumed = bool(classes) and not {"val_loss", "train_loss"} & floors.keys() and bool(losses)
    if assumed and _other_loss(rows, entropy(classes)):
        assumed = False
        assumptions.append(
            f"the loss begins far below {entropy(classes):.4f}, which a constant predictor has in "
            "plain cross-entropy, and hardly falls: it is another loss (focal, weighted), whose "
            "floor is unknown: --floor NUMBER"
        )
    if assumed:
        floors["val_loss"] = entropy(classes)
        assumptions.append(
            f"the loss is assumed to be the plain cross-entropy, whose best constant predictor has "
            f"{floors['val_loss']:.4f} nats on these classes; say --floor cross_entropy if it is, "
            "or --floor NUMBER"
        )
    n = dict(own.n) | ({} if options.val_n is None else {"val": options.val_n})
    facts = replace(
        own,
        kind=kind,
        floors=floors,
        n=n,
        class_counts=classes,
        components=options.components or own.components or _components(rows),
    )
    return Known(facts, tuple(assumptions), assumed)


def unused(options: LogOptions, signals: set[str]) -> list[str]:
    """Flags that have no effect on this log, each with the reason."""
    unread = [
        f"--floor {signal}: the log has no {signal}; it is not used"
        for signal in options.floors
        if signal not in signals
    ]
    validation = any(name.startswith("val_") for name in signals)
    if options.val_n is not None and not validation:
        unread.append("--val-n: the log has no validation; it is not used")
    if options.components is not None and "mixture_weights" not in signals:
        unread.append("--components: the log has no mixture_weights; it is not used")
    return unread


def with_training_floor(rows: Sequence[Row], known: Known) -> tuple[tuple[Row, ...], Known]:
    """For a log with training losses only: they replace validation where a floor is known.

    A model that is no better than a constant on its training data has no skill; that it is better
    there proves nothing, so such a log is never called healthy.
    """
    floors = known.facts.floors
    signals = {name for row in rows for name in row.signals}
    floor = floors.get("train_loss", floors.get("val_loss"))
    if floor is None or "val_loss" in signals or "train_loss" not in signals:
        return tuple(rows), known
    stand_in = {"train_loss": "val_loss", "train_loss_se": "val_loss_se"}
    made = tuple(
        Row(
            row.epoch,
            row.step,
            dict(row.signals) | {stand_in[k]: v for k, v in row.signals.items() if k in stand_in},
        )
        for row in rows
    )
    remark = (
        "the log has no validation loss: the training loss is held against the floor in its place, "
        "which may show that nothing was learnt, but proves no skill on unseen data"
    )
    facts = replace(known.facts, floors={**floors, "val_loss": floor, "train_loss": floor})
    return made, Known(facts, (*known.assumptions, remark), assumed_floor=True)


def _kind(
    kind: TaskKind, classes: Sequence[int], signals: set[str], assumptions: list[str]
) -> TaskKind:
    if kind is not TaskKind.UNKNOWN:
        return kind
    if classes:
        return TaskKind.BINARY if len(classes) == 2 else TaskKind.MULTICLASS
    if "val_map" in signals:
        assumptions.append(
            "a mean average precision was logged: assumed to be detection (--task sets it)"
        )
        return TaskKind.DETECTION
    if any(name in signals for name in RANKING):
        assumptions.append(
            "a ranking measure was logged: assumed to be a binary task (--task sets it)"
        )
        return TaskKind.BINARY
    if "mixture_weights" in signals:
        assumptions.append(
            "weights of a mixture were logged: assumed to be a density (--task sets it)"
        )
        return TaskKind.DENSITY
    return kind


def _other_loss(rows: Sequence[Row], floor: float) -> bool:
    """Whether the losses start so far below a floor, and fall so little, that it cannot apply."""
    for signal in ("train_loss", "val_loss"):
        values = [v for row in rows if isinstance(v := row.signals.get(signal), float)]
        known = [value for value in values if math.isfinite(value)]
        if len(known) > 1 and known[0] < FAR_BELOW * floor and known[-1] > HARDLY * known[0]:
            return True
    return False


def _validation_classes(rows: Sequence[Row], assumptions: list[str]) -> tuple[int, ...]:
    """The counts of the true classes in the last confusion table, row by row."""
    tables = [row.signals["val_confusion"] for row in rows if "val_confusion" in row.signals]
    if not tables:
        return ()
    table = np.atleast_1d(np.asarray(tables[-1], dtype=np.float64))
    side = math.isqrt(table.size)
    if side < 2 or side * side != table.size or not np.isfinite(table).all() or table.min() < 0:
        return ()
    counts = tuple(int(total) for total in table.reshape(side, side).sum(axis=1))
    if sum(counts) == 0:
        return ()
    assumptions.append(f"the classes' shares are those of the confusion table: {list(counts)}")
    return counts


def _components(rows: Sequence[Row]) -> int | None:
    """How many weights a mixture has."""
    last = next(
        (r.signals[n] for r in reversed(rows) for n in r.signals if n == "mixture_weights"), 0
    )
    return len(last) if isinstance(last, Sequence) and len(last) > 1 else None


def _floor(value: float | str, classes: Sequence[int]) -> float:
    if not isinstance(value, str):
        return value
    if value != CROSS_ENTROPY:
        raise ValueError(f"--floor {value}: give a number, or {CROSS_ENTROPY} with --classes")
    if not classes:
        raise ValueError(f"--floor {CROSS_ENTROPY} needs the class counts: --classes 90,10")
    return entropy(classes)
