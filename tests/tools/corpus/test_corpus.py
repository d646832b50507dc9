"""The corpus file gives back what was put in; a fixed part of the real one is judged."""

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from docs.tools.corpus import corpus
from docs.tools.corpus.faults import FIRST, TASKS
from docs.tools.corpus.report.judging import judge
from docs.tools.corpus.samples import case, history
from docs.tools.corpus.telemetry import Level
from docs.tools.corpus.truth import truths
from sickbay.trials.contract import TaskFacts, TaskKind


def trip(tmp_path, *cases):
    corpus.write(cases, tmp_path / "c.parquet")
    return list(corpus.read(tmp_path / "c.parquet"))


def test_values_survive_the_file(tmp_path):
    odd = case(
        val_loss=[1.0 / 3.0, math.nan, math.inf],
        grad_norm_p50=[0.0, 1.0 / 3.0, -math.inf],
        group_grad_max=[[0.0, 1e-30], [math.nan, 2.0], [1e300, 3.0]],
    )
    read_back = trip(tmp_path, odd)[0].history
    np.testing.assert_allclose(read_back.column("val_loss"), [1 / 3, np.nan, np.inf], rtol=1e-7)
    np.testing.assert_allclose(
        read_back.column("grad_norm_p50"), [0.0, 1 / 3, -np.inf], rtol=2.5e-4
    )
    groups = read_back.vectors("group_grad_max")
    assert groups[0, 0] == 0.0
    assert groups[0, 1] == pytest.approx(1e-30, rel=1e-3)
    assert math.isnan(groups[1, 0])
    assert math.isfinite(groups[2, 0])  # too large for float32, yet it was a number
    assert read_back.finished


def test_cases_come_back_sorted_and_distinct(tmp_path):
    cases = [case(seed=1), case(fault="lr_jump-2", score=-1.0), case(variant="low_snr")]
    read_back = trip(tmp_path, *cases)
    assert {run.kind for run in read_back} == {"control", "fault", "hard"}
    assert [run.key for run in read_back] == sorted(run.key for run in cases)
    bad = next(run for run in read_back if run.kind == "fault")
    assert bad.operator[0].name == "lr_jump"
    assert bad.operator[1] == 2
    assert bad.score == -1.0


def test_what_the_first_epoch_did_not_record_stays_unrecorded(tmp_path):
    log = history(val_loss=[1.0, 1.0], label_flip_rate=[math.nan, 0.5])
    control = case()
    read_back = trip(tmp_path, control.__class__(**{**control.__dict__, "history": log}))[0].history
    assert read_back.recorded("label_flip_rate").tolist() == [False, True]
    assert read_back.recorded("val_loss").all()


def test_a_missing_file_says_how_to_make_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="make corpus"):
        list(corpus.read(tmp_path / "none.parquet"))


def test_a_case_is_judged_at_a_level_and_stopped_online():
    facts = TaskFacts(kind=TaskKind.REGRESSION, floors={"val_loss": 1.0})
    log = history(facts=facts, val_loss=[1.0, math.nan] + [math.nan] * 10)
    sick = replace(case(), history=log)
    for level in Level:
        verdict = judge(sick, level)
        assert verdict.primary == "non_finite"
        assert verdict.stop_epoch == 2
        assert bool(verdict.alarms) is (level is Level.PROBE)


def test_collecting_adds_a_store_to_the_file(tmp_path):
    path = tmp_path / "c.parquet"
    corpus.write([case(seed=1), case(seed=2)], path)
    assert corpus.collect(tmp_path / "empty", path) == 2
    assert [run.seed for run in corpus.read(path)] == [1, 2]


@pytest.fixture(scope="module")
def real():
    """Faults of the first seed at full strength, two controls and two hard ones of each task."""
    outcomes = truths(corpus.outcomes())
    part = [
        run
        for run in corpus.read(tasks=FIRST.tasks, seeds=[0, 1])
        if run.kind != "fault" or (run.seed == 0 and run.fault.endswith("-3"))
    ]
    return [(run, outcomes[run.key], judge(run, online=False)) for run in part]


def test_a_fixed_part_of_the_corpus_is_judged_right(real):
    assert {run.task for run, _, _ in real} == set(FIRST.tasks)
    ill = [
        v.health == "pathological"
        for run, t, v in real
        if run.kind == "fault" and t.why in ("no_skill", "non_finite")
    ]
    well = {
        kind: [
            v.health == "pathological"
            for run, t, v in real
            if run.kind == kind and not t.pathological
        ]
        for kind in ("control", "hard")
    }
    assert len(ill) > 40
    assert sum(ill) / len(ill) >= 0.95
    assert len(well["control"]) > 10
    assert not any(well["control"])
    assert sum(well["hard"]) <= 2  # of some forty: 3 % of all hard ones are let through


def test_stored_histories_hold_nothing_of_the_hidden_split(real):
    assert not any(
        name.startswith(corpus.HIDDEN) for run, _, _ in real for name in run.history.names
    )


def test_the_stored_corpus_holds_every_task_and_kind():
    counts = Counter((run.task, run.kind) for run in corpus.outcomes())
    kinds = Counter(run.kind for run in corpus.outcomes())
    assert {task for task, _ in counts} == set(TASKS)
    assert all(counts[task, kind] >= 1 for task in TASKS for kind in ("control", "fault", "hard"))
    assert all(counts[task, "control"] >= 10 for task in TASKS)
    assert kinds["fault"] >= 1500
    outcomes = truths(corpus.outcomes())
    healthy = Counter(
        kind
        for (_, fault, variant, _), outcome in outcomes.items()
        if not outcome.pathological and fault == "none"
        for kind in ("all", "hard" if variant != "none" else "control")
    )
    assert healthy["all"] >= 600
    assert healthy["hard"] >= 200
