"""Small sweeps of controls and faults, and what `standing` finds in them."""

from dataclasses import replace

from docs.tools.corpus.report.figures import Judged
from docs.tools.corpus.report.judging import judge
from docs.tools.corpus.report.siblings import found_by_standing
from docs.tools.corpus.samples import case
from docs.tools.corpus.telemetry import Level
from docs.tools.corpus.truth import Truth

WORSE, WELL = Truth(pathological=True, why="worse"), Truth(pathological=False, why="")


def judged(accuracy, truth=WELL, **which):
    run = case(val_loss=[1.0] * 5, val_accuracy=[accuracy] * 5, **which)
    return Judged(run, truth, judge(run, Level.BARE, online=False))


def test_a_run_far_below_its_controls_is_found_and_a_twin_is_not():
    table = [judged(0.9 + 0.002 * seed, seed=seed) for seed in range(10)]
    table = [replace(run, verdict=replace(run.verdict, health="healthy")) for run in table]
    table += [judged(0.6, WORSE, fault="tiny_start-1", seed=seed) for seed in range(2)]
    measures = found_by_standing(table, Level.BARE)
    recall = measures["recall, worse than its controls, by `standing`"]
    assert (recall.value, recall.n) == (1.0, 2)
    flagged = measures["healthy, and behind by `standing`"]
    assert (flagged.value, flagged.n) == (0.0, 5)  # the controls that are no reference
