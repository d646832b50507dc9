"""Small hand-made cases for the tests of this folder."""

from docs.tools.corpus.corpus import Case
from sickbay.trials.contract import Row, TaskFacts, TaskKind
from sickbay.trials.history import History


def history(planned=40, facts=None, **columns):
    """A finished history from columns of equal length, one row an epoch."""
    length = len(next(iter(columns.values())))
    rows = [
        Row(i + 1, 5 * (i + 1), {name: values[i] for name, values in columns.items()})
        for i in range(length)
    ]
    return History(rows, facts or TaskFacts(kind=TaskKind.REGRESSION), planned, finished=True)


def case(score=0.9, lower=0.5, finite=True, fault="none", variant="none", seed=0, **columns):
    """A case of the regression task."""
    return Case(
        task="regression",
        fault=fault,
        variant=variant,
        seed=seed,
        score=score,
        lower=lower,
        finite=finite,
        history=history(**(columns or {"val_loss": [1.0, 0.5]})),
    )
