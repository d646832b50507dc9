"""Three levels of telemetry of one run: the full probe, an ordinary script's log, the bare file.

    probe      every signal that the corpus records, and every fact
    ordinary   what most training scripts log, and the facts that a user can state
    bare       losses and accuracy, and no fact but what is learnt and how long it was meant to run

No figure of a detector means much without the level that its histories had.
"""

from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum

from sickbay.trials.contract import TaskFacts
from sickbay.trials.history import History


class Level(StrEnum):
    """How much of a run was recorded."""

    PROBE = "probe"
    ORDINARY = "ordinary"
    BARE = "bare"


LOGGED: Mapping[Level, tuple[str, ...]] = {
    Level.ORDINARY: (
        "train_loss",
        "val_loss",
        "train_accuracy",
        "val_accuracy",
        "val_auroc",
        "grad_norm_p50",  # one global norm an epoch, which is all that a script keeps
        "grad_norm_p90",
        "grad_norm_max",
    ),
    Level.BARE: ("train_loss", "val_loss", "train_accuracy", "val_accuracy"),
}


def at_level(history: History, level: Level | str) -> History:
    """Return the history as it reads with less telemetry; at `probe` it is the same object.

    Rows, epochs, the plan and NaN values stay. Facts: `ordinary` keeps the kind, the class counts,
    the validation loss of the best constant predictor and the number of validation samples; `bare`
    keeps the kind alone. Raises ValueError for a level that does not exist.
    """
    level = Level(level)
    if level is Level.PROBE:
        return history
    kept = set(LOGGED[level])
    rows = [
        replace(row, signals={name: row.signals[name] for name in row.signals if name in kept})
        for row in history.rows()
    ]
    facts = _stated(history.facts) if level is Level.ORDINARY else TaskFacts(history.facts.kind)
    return History(rows, facts, history.epochs_planned, finished=history.finished)


def _stated(facts: TaskFacts) -> TaskFacts:
    """What a user states on the command line."""
    return TaskFacts(
        kind=facts.kind,
        floors={name: facts.floors[name] for name in facts.floors if name == "val_loss"},
        class_counts=facts.class_counts,
        n={name: facts.n[name] for name in facts.n if name == "val"},
    )
