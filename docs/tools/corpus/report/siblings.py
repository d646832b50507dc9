"""Merely worse runs, seen beside their siblings: what `standing` says in small sweeps.

Each operator of a task makes a sweep of its own: the task's first controls are the baseline arm,
the operator's strengths the other arms, and further controls an arm that is level in truth.
"""

from collections.abc import Iterator, Sequence

from docs.tools.corpus.report.figures import Judged, Table, grouped
from docs.tools.corpus.report.measures import Figure, share_of
from docs.tools.corpus.telemetry import Level, at_level
from sickbay.trials.contract import Health
from sickbay.trials.diagnosis.standing import Score, Standing, standings
from sickbay.trials.execution.standings import skill

BASELINE = "baseline"
SEEDS = 5  # of the baseline arm, and of the arm that is level in truth
MEASURES = ("val_auroc", "val_accuracy", "val_loss")  # the first that a task records
FLAGGED = (Standing.BEHIND, Standing.FAR_BEHIND)


def found_by_standing(table: Table, level: Level) -> dict[str, Figure]:
    """Of the merely worse runs and of the healthy ones: how many stand behind their siblings.

    And how many of the labels `healthy` are wrong that no sibling contradicts.
    """
    flags = [flag for sweep in _sweeps(table) for flag in _behind(sweep, level)]
    behind = {one.case.key for one, flagged in flags if flagged and one.case.kind == "fault"}
    believed = [
        one for one in table if one.verdict.health == Health.HEALTHY and one.case.key not in behind
    ]
    return {
        "recall, worse than its controls, by `standing`": share_of(
            [flagged for one, flagged in flags if one.worse]
        ),
        "healthy, and behind by `standing`": share_of(
            [flagged for one, flagged in flags if not one.pathological]
        ),
        "`healthy` that is wrong, those behind by `standing` left out": share_of(
            [one.pathological for one in believed]
        ),
    }


def _sweeps(table: Table) -> Iterator[list[tuple[str, Judged]]]:
    """Arms and runs of each small sweep."""
    for runs in grouped(table, lambda run: run.case.task).values():
        controls = [run for run in runs if run.case.kind == "control"]
        first = [(BASELINE, run) for run in controls if run.case.seed < SEEDS]
        twins = [("controls", run) for run in controls if SEEDS <= run.case.seed < 2 * SEEDS]
        faults = [run for run in runs if run.case.kind == "fault"]
        for group in grouped(faults, lambda run: run.operator.name).values():
            yield [*first, *twins, *((run.case.fault, run) for run in group)]


def _behind(sweep: Sequence[tuple[str, Judged]], level: Level) -> list[tuple[Judged, bool]]:
    seen = {run.case.key: at_level(run.case.history, level) for _, run in sweep}
    signal = next(name for name in MEASURES if all(log.has(name) for log in seen.values()))
    sign = -1.0 if signal == "val_loss" else 1.0
    scores = [
        Score(
            trial_id=str(run.case.key),
            arm=arm,
            seed=run.case.seed,
            health=run.verdict.health,
            skill=skill(seen[run.case.key], signal, sign),
        )
        for arm, run in sweep
    ]
    of = standings(scores, BASELINE).of
    return [(run, of[str(run.case.key)] in FLAGGED) for arm, run in sweep if arm != BASELINE]
