"""Rules of the schedulers, on reports written by hand, and a race against plain ones."""

import math

import pytest
import scheduler_races as races

from sickbay.trials.contract import Goal
from sickbay.trials.search.schedulers import (
    Halving,
    Hyperband,
    MedianRule,
    Report,
    grace_of,
    rule_of,
    score_of,
)
from sickbay.trials.spec.model import EarlyStopSpec


def pruned(rule, evaluation, **scores):
    """Which trials a rule ends when they report these scores at an evaluation, in this order."""
    return [name for name, score in scores.items() if rule.prunes(name, report(evaluation, score))]


def report(evaluation, score, suspect=False, over_floor=True):
    return Report(evaluation, score, over_floor, suspect)


def test_the_best_third_goes_on_at_each_rung_and_nothing_ends_before_the_first():
    rule = Halving(grace=4, reduction=3)
    assert pruned(rule, 3, a=0.1, b=0.2, c=0.0) == []
    assert pruned(rule, 4, a=0.3, b=0.4, c=0.2, d=0.35, e=0.1) == ["c", "e"]  # 1 of 3, 2 of 5
    assert pruned(rule, 11, a=0.0, b=0.1) == []  # between rungs
    assert pruned(rule, 12, a=0.5, b=0.4, d=0.6) == ["b"]


def test_a_suspect_ranks_last_from_then_on_also_where_it_led():
    rule = Halving(grace=2, reduction=2)
    assert not rule.prunes("cheat", report(2, 9.0))
    assert rule.prunes("early", report(2, 0.5))  # behind the one whose score is believed so far
    assert not rule.prunes("cheat", report(3, 9.0, suspect=True))
    assert not rule.prunes("healthy", report(2, 0.4))  # one of three is better, two may go on
    assert rule.prunes("cheat", report(4, 9.0, suspect=True)) is False  # nobody to compare with
    assert rule.prunes("second", report(2, 9.0, suspect=True))  # a suspect beside healthy ones
    assert not rule.prunes("cheat", report(5, 9.0))  # the suspicion was lifted
    assert rule.prunes("late", report(2, 0.1))


def test_scores_of_unlike_kinds_are_not_compared_and_what_is_not_finite_is_last():
    rule = Halving(grace=1, reduction=2)
    assert not rule.prunes("skill", report(1, 0.9))
    assert not rule.prunes("loss", report(1, -3.0, over_floor=False))
    assert rule.prunes("nan", report(1, math.nan))
    assert rule.prunes("bottomless", report(1, math.inf))


def test_a_loss_counts_as_skill_over_its_own_floor():
    assert score_of(0.25, 1.0, Goal.MINIMIZE) == (0.75, True)
    assert score_of(0.0317, 0.0317, Goal.MINIMIZE) == (0.0, True)  # another loss, nothing learnt
    assert score_of(-3.0, -1.0, Goal.MINIMIZE) == (2.0, True)  # a density: lower is better, too
    assert score_of(0.25, None, Goal.MINIMIZE) == (-0.25, False)
    assert score_of(0.8, 0.5, Goal.MAXIMIZE) == (0.8, False)


def test_the_median_rule_takes_a_trials_best_and_the_means_of_others_that_are_not_suspect():
    rule = MedianRule(grace=2)
    assert pruned(rule, 1, a=0.0, b=0.2, c=0.4, d=0.0, e=0.9) == []
    # others' means: .2 .4 0 .9 (median .3); a .175, .4, 0, .9 (.29); a .175, b .25, 0, .9 (.21)
    assert pruned(rule, 2, a=0.35, b=0.3, c=0.6) == []
    assert not rule.prunes("e", report(2, 0.9))
    assert rule.prunes("d", report(2, 0.15))  # behind the median of .175, .25, .5 and .9
    assert rule.prunes("e", report(3, 0.9, suspect=True))
    assert not rule.prunes("b", report(3, 0.3))  # beside e .9 the median would be .34, without .175


def test_hyperband_gives_half_of_the_trials_to_the_ladder_that_begins_first():
    ladders = [Halving(1, 2), Halving(2, 2), Halving(4, 2)]
    rule = Hyperband(ladders)
    names = [f"{n:02}" for n in range(14)]
    for name in names:
        rule.prunes(name, report(1, 0.0))
    assert [sum(place == k for place in rule._of.values()) for k in range(3)] == [8, 4, 2]


def test_the_grace_is_what_the_detectors_need_but_leaves_most_of_a_short_plan():
    assert [grace_of(epochs) for epochs in (2, 8, 16, 24, 40, 400)] == [3, 3, 4, 6, 10, 10]


def test_every_parameter_of_the_spec_reaches_its_rule():
    asha = rule_of(EarlyStopSpec(scheduler="asha", grace=2, reduction=4, min_trials=3), 40)
    assert pruned(asha, 2, a=0.4, b=0.3, c=0.2, d=0.1, e=0.0) == ["d", "e"]  # 1 of 4, 2 of 5
    assert pruned(asha, 7, a=0.0) == pruned(asha, 7, b=0.0) == []
    assert pruned(asha, 8, a=0.4, b=0.3, c=0.2, f=0.1) == ["f"]
    ladders = rule_of(EarlyStopSpec(scheduler="hyperband", grace=2, reduction=2, brackets=4), 40)
    assert [ladder._grace for ladder in ladders._brackets] == [2, 4, 8, 16]
    keys = {"grace": 2, "min_trials": 2, "percentile": 75.0, "interval": 3}
    quarter = rule_of(EarlyStopSpec(scheduler="median", **keys), 40)
    assert pruned(quarter, 1, a=0.4, b=0.3, c=0.2, d=0.0) == []
    # the lowest quarter of .4, .3 and .2 ends at .25
    assert pruned(quarter, 2, d=0.0) == ["d"]
    assert pruned(quarter, 3, d=0.0) == pruned(quarter, 4, d=0.0) == []  # every third evaluation
    assert pruned(quarter, 5, d=0.0) == ["d"]
    two = rule_of(EarlyStopSpec(scheduler="median", grace=1, min_trials=2), 40)
    assert pruned(two, 1, a=0.4, b=0.3, c=0.2) == ["c"]  # b had one to compare with


@pytest.mark.parametrize("toy", ["another loss", "explodes late"])
def test_cheats_that_lead_early_do_not_end_the_healthy(toy):
    trials = races.stream(toy, seed=0)
    plain, aware = (races.race(trials, "asha", aware=way) for way in (False, True))
    assert aware.pruned < plain.pruned
    assert aware.best >= plain.best
