"""The best trial, healthy trial and arm of a sweep, and whose code made its trials."""

import math

from sickbay.service.reports.best import best_of, best_words, code_lines

GOAL = {"signal": "val_loss", "goal": "minimize"}


def row(arm, seed, objective, label="healthy", **more):
    name = f"{arm}{seed}".ljust(16, "0")
    ended = {"state": "completed", "code": "aaa", "git_commit": None}
    return {"trial_id": name, "arm": arm, "seed": seed, "objective": objective, "label": label} | (
        ended | more
    )


def best_lines(rows, objective):
    return [f"{best.what}: {best_words(best, 'val_loss')}" for best in best_of(rows, objective)]


ROWS = [
    row("a", 0, 0.30),
    row("a", 1, 0.50),
    row("b", 0, 0.10, "pathological"),
    row("b", 1, math.nan, "pathological"),
    row("c", 0, 0.35),
    row("c", 1, 0.31),
    row("d", 0, 0.01, None, state="failed"),
]


def test_the_best_of_each_kind_is_named():
    assert best_lines(ROWS, GOAL) == [
        "best trial: b0000000 (b, seed 0): val_loss 0.1, pathological",
        "best healthy: a0000000 (a, seed 0): val_loss 0.3",
        "best arm: c: median val_loss 0.33 over 2 trials",  # b has a trial that is no number
    ]


def test_one_trial_is_singular():
    lines = best_lines([row("a", 0, 0.3), row("a", 1, 0.5, state="pruned"), row("b", 0, 0.4)], GOAL)
    assert lines[-1] == "best arm: a: median val_loss 0.3 over 1 trial"


def test_an_arm_that_is_best_by_pathological_trials_says_so():
    rows = [row("a", 0, 0.3, "pathological"), row("a", 1, 0.5), row("b", 0, 0.6)]
    assert best_lines(rows, GOAL)[-1] == "best arm: a: median val_loss 0.4 over 2 trials, 1 healthy"


def test_the_other_way_round_where_more_is_better():
    lines = best_lines(ROWS, {"signal": "val_loss", "goal": "maximize"})
    assert lines[0].startswith("best trial: a1000000")
    assert lines[2].startswith("best arm: a: median val_loss 0.4 ")


def test_nothing_is_said_where_nothing_is_known():
    assert best_lines([], GOAL) == []
    assert best_lines(ROWS, None) == []
    assert best_lines([row("a", 0, math.inf, "pathological")], GOAL) == []


def test_several_codes_in_one_sweep_are_said():
    assert code_lines(ROWS) == ["code         aaa: 7 trials"]
    lines = code_lines([*ROWS, row("a", 2, 0.3, code="bbb", git_commit="1234+")])
    assert lines[1] == "code         bbb (git 1234+): 1 trials"
    assert lines[2].startswith("these trials ran different code")
