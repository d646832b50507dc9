"""The judge: curves that are monotone, sums checked by hand, notation that is ignored."""

import math
from dataclasses import replace

import numpy as np
import pytest

from sickbay.trials.conformance.invariance import variants
from sickbay.trials.contract import Health, Row, TaskFacts, TaskKind
from sickbay.trials.diagnosis.diagnose import diagnose
from sickbay.trials.diagnosis.judge import judge, tables
from sickbay.trials.history import History

FACTS = TaskFacts(
    kind=TaskKind.BINARY,
    floors={"val_loss": 0.6, "train_loss": 0.6},
    class_counts=(700, 300),
    n={"train": 1000, "val": 1000},
)


def run(gain, n=48, facts=FACTS, *, finished=True, **columns):
    """Make a run whose losses go from the floor to this gain, with wobbles of a thousandth."""
    rows = []
    for i in range(n):
        reached = gain * (1.0 - math.exp(-i / 6.0)) + 0.001 * math.sin(2.4 * i)
        signals = {"train_loss": 0.6 * (1.0 - reached), "val_loss": 0.6 * (1.0 - reached)}
        rows.append(Row(i + 1, 10 * (i + 1), signals | {k: v[i] for k, v in columns.items()}))
    return History(rows, facts, 48, finished=finished)


def test_log_odds_are_the_bias_and_the_contributions():
    judgement = judge(run(0.3))
    parts = sum(contribution.log_odds for contribution in judgement.contributions)
    assert judgement.log_odds == pytest.approx(judgement.table.bias + parts, abs=1e-9)
    assert judgement.probability == pytest.approx(1 / (1 + math.exp(-judgement.log_odds)), abs=1e-6)


@pytest.mark.parametrize("table", tables().values(), ids=lambda table: table.name)
def test_curves_go_one_way_where_sense_demands_it(table):
    for curve in table.curves:
        steps = np.diff(curve.log_odds) * curve.statistic.monotone
        assert (steps >= 0.0).all(), curve.statistic.name
        assert len(curve.log_odds) == len(curve.cuts) + 1
    assert len(table.pathological) == len(table.shares) + 1
    assert (np.diff(table.pathological) <= 0.0).all()  # the more is done, the less it takes
    assert table.name.endswith("_running") or table.healthy <= table.pathological[0]


def test_the_threshold_of_a_running_trial_is_that_of_its_share_of_the_plan():
    table = replace(
        tables()["skill"], shares=np.array([0.2, 0.6]), pathological=np.array([4.0, 3.0, 1.0])
    )
    shares = (0.0, 0.2, 0.21, 0.6, 0.61, 1.0)
    assert [table.threshold(done) for done in shares] == [4.0, 4.0, 3.0, 3.0, 1.0, 1.0]


def test_more_gain_is_never_more_pathological():
    odds = [judge(run(gain)).log_odds for gain in (-0.5, 0.0, 0.01, 0.05, 0.2, 0.6, 0.95)]
    assert odds == sorted(odds, reverse=True)
    assert judge(run(0.0)).pathological
    assert judge(run(0.6)).healthy


def test_skill_that_was_there_from_the_start_and_never_rose_is_doubted():
    rows = [Row(i + 1, 10 * (i + 1), {"train_loss": 0.588, "val_loss": 0.57}) for i in range(48)]
    still = judge(History(rows, replace(FACTS, class_counts=()), 48, finished=True))
    learnt = judge(run(0.05))
    rise = {part.name: part.value for part in still.contributions}["rise"]
    assert rise == 0.0 < {part.name: part.value for part in learnt.contributions}["rise"]
    assert still.log_odds > learnt.log_odds


@pytest.mark.parametrize("rise", [0.0, 0.01, 0.1])
def test_a_tuned_model_may_begin_with_its_skill(rise, built_in):
    losses = [0.6 * (0.4 - rise * i / 11) for i in range(12)]
    rows = [Row(i + 1, i + 1, {"train_loss": v, "val_loss": v}) for i, v in enumerate(losses)]
    label = diagnose(History(rows, FACTS, 12, finished=True), built_in).label
    assert label.health is Health.HEALTHY


def test_notation_does_not_matter():
    for gain in (0.0, 0.3):
        for variant in variants(run(gain)):
            assert judge(variant.history).pathological == judge(run(gain)).pathological
            if variant.same_onset:  # every evaluation is there
                assert judge(variant.history).log_odds == judge(run(gain)).log_odds, variant.words


def test_what_is_missing_is_no_zero():
    known = judge(run(0.3)).contributions
    without = judge(run(0.3, facts=replace(FACTS, n={})))
    missing = [
        contribution for contribution in without.contributions if math.isnan(contribution.value)
    ]
    assert {contribution.name for contribution in missing} >= {"skill_z", "log_n_val"}
    assert "validation samples unknown" in [contribution.words for contribution in missing]
    assert "validation samples 1e+03" in [contribution.words for contribution in known]


@pytest.mark.parametrize("gain", [0.0, 0.6])
def test_a_true_fact_or_signal_never_makes_a_verdict_weaker(built_in, gain):
    rank = [0.5 + 0.5 * gain] * 48
    full = run(gain, val_auroc=rank, val_accuracy=[0.7 + 0.3 * gain] * 48, grad_norm_p50=[1.0] * 48)
    want = Health.HEALTHY if gain else Health.PATHOLOGICAL
    assert diagnose(full, built_in).label.health is want
    for fact in ({"n": {}}, {"class_counts": ()}, {"kind": TaskKind.UNKNOWN}):
        poorer = History(full.rows(), replace(FACTS, **fact), 48, finished=True)
        assert diagnose(poorer, built_in).label.health in (want, Health.INCONCLUSIVE)


def test_nothing_to_weigh_is_no_judgement(built_in):
    empty = History([Row(1, 1, {"val_n": 5.0})], FACTS, 3, finished=True)
    assert judge(empty) is None
    assert judge(run(0.0, n=2, finished=False)) is None
    few = [Row(i + 1, 1, {"val_loss": 0.6, "train_loss": 0.6}) for i in range(4)]
    assert judge(History(few, TaskFacts(), 4, finished=True)) is None  # and no floor
    finding = diagnose(empty, built_in).findings[-1]
    assert (finding.detector, finding.state) == ("judge", "insufficient_evidence")


def test_a_metric_near_the_largest_float_overflows_without_a_warning(built_in):
    assert diagnose(run(0.6, val_auroc=[1.7e308] * 48), built_in).label.health is not Health.HEALTHY


def test_a_label_says_what_weighed_and_how_sure_it_is(built_in):
    diagnosis = diagnose(run(0.6), built_in)
    judged = diagnosis.findings[-1]
    assert (judged.detector, judged.state) == ("judge", "clear")
    assert "best validation skill" in " ".join(judged.evidence)
    assert 0.9 < diagnosis.label.confidence <= 1.0
    assert diagnose(run(0.0), built_in).label.confidence > 0.9


@pytest.mark.parametrize(
    ("gain", "n", "weighed"), [(0.6, 48, False), (0.6, 30, False), (0.0, 48, True)]
)
def test_a_training_loss_that_falls_alone_is_not_weighed(gain, n, weighed):
    rows = [
        Row(row.epoch, row.step, {"train_loss": row.signals["train_loss"]})
        for row in run(gain, n).rows()
    ]
    assert (judge(History(rows, FACTS, 48, finished=n == 48)) is not None) is weighed
