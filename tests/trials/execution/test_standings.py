"""Standings of a stored sweep: skill by the right measure, written when a run ends."""

import pandas as pd
import pytest
import toy_sweeps

from sickbay.service.sweeps.runner import Options, run
from sickbay.trials.contract import Row, TaskFacts, TaskKind
from sickbay.trials.execution.standings import scores_of
from sickbay.trials.history import History
from sickbay.trials.store.reader import StoredTrial

MINIMIZE = {"signal": "val_loss", "goal": "minimize"}


def stored(name, rows, floor=None, arm="baseline", **facts):
    floors = {} if floor is None else {"val_loss": floor}
    known = TaskFacts(floors=floors, **facts)
    evaluations = [Row(k + 1, k, row) for k, row in enumerate(rows)]
    history = History(evaluations, known, len(rows), finished=True)
    return StoredTrial(name, {"arm": arm, "seed": 0, "label": "healthy"}, history)


def test_a_run_writes_the_standing_of_every_judged_trial(tmp_path):
    spec = toy_sweeps.spec(factors={"lr": [0.1, 0.0], "fault": ["none", "raise"]}, seeds=3)
    result = run({**spec, "design": "one_factor"}, str(tmp_path), Options(in_process=True))
    trials = pd.read_parquet(tmp_path / "trials" / result.sweep_id)
    by_arm = {arm: set(some.dropna()) for arm, some in trials.groupby("arm")["standing"]}
    assert by_arm == {"baseline": {"level"}, "lr=0.0": {"far_behind"}, "fault=raise": set()}
    assert set(trials[trials["standing"].notna()]["reference_arm"]) == {"baseline"}


def test_skill_is_the_gain_over_each_trials_own_floor_at_its_end():
    rows = [{"val_loss": x} for x in (9.0, *[0.5, 0.7] * 5)]  # the last fifth, three evaluations
    (score,) = scores_of([stored("a", rows, floor=2.0)], MINIMIZE)
    assert score.skill == pytest.approx(1.0 - (0.7 + 0.5 + 0.7) / 3 / 2.0)


def test_a_lower_loss_is_more_skill_under_a_floor_below_zero():
    better, worse = (stored(name, [{"val_loss": x}], -2.0) for name, x in (("a", -2.5), ("b", -1)))
    skills = [score.skill for score in scores_of([better, worse], MINIMIZE)]
    assert skills == pytest.approx([0.25, -0.5])


def test_losses_of_different_definitions_are_compared_as_gains_or_by_a_measure():
    light = stored("a", [{"val_loss": 0.2}], floor=0.317)
    heavy = stored("b", [{"val_loss": 0.9}], floor=3.083, arm="pos_weight=100")
    skills = [score.skill for score in scores_of([light, heavy], MINIMIZE)]
    assert skills == pytest.approx([0.117 / 0.317, 2.183 / 3.083])
    unknown = stored("c", [{"val_loss": 0.9}], arm="pos_weight=10")
    assert scores_of([light, heavy, unknown], MINIMIZE) == []
    kind, counts = TaskKind.BINARY, (90, 10)
    rows = [{"val_loss": 0.2, "val_auroc": 0.8, "val_accuracy": 0.91}]
    both = [stored("a", rows, 0.3, kind=kind, class_counts=counts)]
    both.append(stored("b", rows, 3.0, kind=kind, class_counts=counts))
    assert [score.skill for score in scores_of(both, MINIMIZE)] == pytest.approx([0.3, 0.3])
    accuracy = {"signal": "val_accuracy", "goal": "maximize"}
    assert scores_of(both, accuracy)[0].skill == pytest.approx(0.01)
