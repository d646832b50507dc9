"""What the judge learns from: the statistics of every run of the corpus, as an ordinary log, with
the full probe and as a bare file, at its end and while it ran.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from docs.tools.corpus.corpus import Case, read
from docs.tools.corpus.telemetry import Level, at_level
from docs.tools.corpus.truth import truths
from sickbay.trials.diagnosis.judge import STATISTICS
from sickbay.trials.diagnosis.judge_statistics import knows_chance, values_of
from sickbay.trials.execution.trial import looks_online
from sickbay.trials.history import History

THINNED = (1, 2, 4)  # every evaluation, every second, every fourth: corpus runs are equally long
FEWEST = 5  # evaluations of a thinned run
EARLIEST = 3  # evaluations at the first look at a running trial
WATCHED_CONTROLS = 12  # of a task: the others are much alike
FITTED_LOOKS = 7  # of a running trial, evenly spread: thresholds are chosen over all of them


@dataclass(frozen=True)
class Examples:
    """Rows of one table of the judge: statistics (m, p), and where each row comes from.

    `why` is the criterion by which the run is pathological, empty for healthy ones. `whole` marks
    the rows that show every evaluation: they are the ones that figures are counted over. `fitted`
    marks those that the model is fitted to.
    """

    table: str
    values: NDArray[np.float64]
    run: NDArray[np.int64]
    task: NDArray[np.str_]
    kind: NDArray[np.str_]
    why: NDArray[np.str_]
    level: NDArray[np.str_]
    done: NDArray[np.float64]
    whole: NDArray[np.bool_]
    fitted: NDArray[np.bool_]

    def select(self, rows: NDArray[np.bool_]) -> "Examples":
        """Keep some rows."""
        parts = {k: v[rows] for k, v in vars(self).items() if k != "table"}
        return Examples(self.table, **parts)


def examples_of(tasks: Iterable[str]) -> dict[str, Examples]:
    """Work out the examples of these tasks, by the judge's table that they belong to."""
    rows: dict[str, list[tuple[object, ...]]] = {}
    run = 0
    for task in tasks:
        cases = list(read(tasks=[task]))
        truth = truths(cases)
        for case in cases:
            run += 1
            why = truth[case.key].why
            for level in Level:
                for table, values, *others in _shown(case, level):
                    row = (values, run, task, case.kind, why, str(level), *others)
                    rows.setdefault(table, []).append(row)
    return {table: _examples(table, table_rows) for table, table_rows in rows.items()}


def _shown(
    case: Case, level: Level
) -> Iterable[tuple[str, NDArray[np.float64], float, bool, bool]]:
    """Yield table, statistics, share of the plan, whether it is whole, whether it is fitted."""
    history = at_level(case.history, level)
    for step in THINNED:
        if step == 1 or len(history) // step >= FEWEST:
            yield (*_seen(_thinned(history, step)), 1.0, step == 1, True)
    if level is Level.ORDINARY and (case.kind != "control" or case.seed < WATCHED_CONTROLS):
        looks = [n for n in range(EARLIEST, len(history)) if looks_online(n)]
        looks = [n for n in looks if knows_chance(history.prefix(n))]
        fitted = {looks[int(i)] for i in np.linspace(0, len(looks) - 1, FITTED_LOOKS) if looks}
        for n in looks:
            done = float(history.epochs[n - 1]) / history.epochs_planned
            yield (*_seen(history.prefix(n)), done, True, n in fitted)


def _seen(history: History) -> tuple[str, NDArray[np.float64]]:
    kind = "skill" if knows_chance(history) else "curve"
    values = values_of(STATISTICS[kind], history)
    return (kind if history.finished else f"{kind}_running"), values


def _thinned(history: History, step: int) -> History:
    rows = history.rows()[::-1][::step]
    return History(rows, history.facts, history.epochs_planned, finished=True)


def _examples(table: str, rows: list[tuple[object, ...]]) -> Examples:
    values, run, task, kind, why, level, done, whole, fitted = map(list, zip(*rows, strict=True))
    return Examples(
        table,
        np.array(values, dtype=np.float64),
        np.array(run, dtype=np.int64),
        np.array(task),
        np.array(kind),
        np.array(why),
        np.array(level),
        np.array(done, dtype=np.float64),
        np.array(whole, dtype=np.bool_),
        np.array(fitted, dtype=np.bool_),
    )
