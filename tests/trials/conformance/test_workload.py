import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from sickbay.trials import registry
from sickbay.trials.conformance import ConformanceError, check_workload
from sickbay.trials.conformance.dry_run import difference_of, rehearse
from sickbay.trials.contract import Factor, Goal, Objective, Row, TaskFacts, TaskKind
from sickbay_demo.task import WORKLOAD

SMALL = {"epochs": 3, "features": 2}
LEVELS = ("lr", "momentum", "init")  # the levels of `fault` fail on purpose


def broken(says, small=SMALL, **changes):
    """Check the toy with one thing changed: it must be refused, with this sentence."""
    with pytest.raises(ConformanceError, match=says):
        check_workload(replace(WORKLOAD, **changes), small, levels=LEVELS)


def rows_through(change):
    """The toy's training with every row put through a function."""

    def train(config, context):
        for index, row in enumerate(WORKLOAD.train(config, context)):
            yield change(index, row)

    return train


def with_signals(row, **signals):
    return replace(row, signals={**row.signals, **signals})


def test_the_toy_keeps_its_contract():
    report = check_workload(WORKLOAD, SMALL, levels=LEVELS)
    assert report.name == "toy_quadratic"
    assert len(report.checked) == 6 + len(LEVELS)
    assert "restored after epoch 2 it continues bit-identically" in report.checked
    assert "each of the 4 levels of lr changes something" in str(report)


def test_levels_may_be_left_out():
    assert len(check_workload(WORKLOAD, SMALL, levels=False).checked) == 6


def test_a_factor_that_does_nothing_is_caught():
    broken(
        "lr=0.05 gives the same rows as lr=0.1: is the setting read",
        train=lambda config, context: WORKLOAD.train({**config, "lr": 0.1}, context),
    )


def test_two_levels_that_do_the_same_are_caught():
    def train(config, context):
        return WORKLOAD.train({**config, "lr": max(float(config["lr"]), 0.1)}, context)

    broken(r"lr=0.05 gives the same rows as lr=0.1", train=train)


def test_a_level_that_raises_is_caught():
    with pytest.raises(ConformanceError, match="fault='raise' raises RuntimeError: planted"):
        check_workload(WORKLOAD, {**SMALL, "fault_epoch": 1}, levels=["fault"])


def test_rows_that_depend_on_something_else_than_the_seed_are_caught():
    counter = itertools.count()
    broken(
        "two runs with one seed differ: drift in epoch 1",
        train=rows_through(lambda _, row: with_signals(row, drift=float(next(counter)))),
    )


def test_rows_that_ignore_the_seed_are_caught():
    def train(config, context):
        return WORKLOAD.train(config, replace(context, seed=0))

    broken("another seed gives the same rows", train=train)


def test_no_row_is_caught():
    broken("yields no row", small={**SMALL, "fault": "no_rows"})


def test_a_decreasing_epoch_is_caught():
    broken("epoch 1 comes after epoch 2", small={**SMALL, "fault": "decreasing"})


def test_a_decreasing_step_is_caught():
    broken(
        "step 9 comes after step 10",
        train=rows_through(lambda index, row: replace(row, step=10 - index)),
    )


def test_an_epoch_beyond_the_plan_is_caught():
    broken("runs to epoch 103", train=rows_through(lambda _, r: replace(r, epoch=r.epoch + 100)))


def test_a_missing_objective_is_caught():
    broken("never records its objective 'val_loss'", small={**SMALL, "fault": "no_objective"})
    broken("never records .*'val_auroc'", objective=Objective("val_auroc", WORKLOAD.objective.goal))


def test_a_restore_that_goes_on_otherwise_is_caught():
    def train(config, context):
        forgets = replace(context, restore=lambda: None)
        if context.restore() is None:
            return WORKLOAD.train(config, context)
        return WORKLOAD.train(config, forgets)

    broken("restored after epoch 2 it continues differently", train=train)


def test_a_restore_that_loses_a_part_of_the_state_is_caught():
    def train(config, context):
        for row in WORKLOAD.train(config, context):
            total = getattr(context, "restore")() is None  # noqa: B009 - a state that no one saved
            yield with_signals(row, fresh=float(total))

    broken("continues differently: fresh in epoch 3: 1.0 against 0.0", train=train)


def test_a_generator_that_will_not_stop_is_caught():
    def train(config, context):
        for row in WORKLOAD.train(config, context):
            try:
                yield row
            except GeneratorExit:
                yield row

    broken("continues when stopped", train=train)


def test_a_list_of_rows_is_not_a_generator():
    broken("not a generator", train=lambda config, context: list(WORKLOAD.train(config, context)))


@pytest.mark.parametrize(
    ("signals", "says"),
    [
        ({"note": "text"}, "the signal 'note' is a str"),
        ({"Val-Loss": 1.0}, "'Val-Loss' is not in snake_case"),
        ({"group_grad_max": [1.0, 2.0, 3.0]}, "has 3 entries, but facts.groups has 2"),
    ],
)
def test_signals_of_the_wrong_form_are_caught(signals, says):
    broken(says, train=rows_through(lambda _, row: with_signals(row, **signals)))


def test_rows_of_the_wrong_type_are_caught():
    broken("yields a dict, not a Row", train=rows_through(lambda _, row: vars(row) | {}))


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({"floor": 1.0}, "gives a dict, not TaskFacts"),
        (TaskFacts(floors={"val_loss": float("nan")}), "'val_loss' is nan, not a finite number"),
        (TaskFacts(n={"val": "many"}), "'val' is 'many'"),
    ],
)
def test_facts_of_the_wrong_form_are_caught(facts, says):
    broken(says, facts=lambda config, context: facts)


def changed_defaults(**settings):
    return {"defaults": {**WORKLOAD.defaults, **settings}}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"version": ""}, "version and doc must not be empty"),
        (changed_defaults(epochs=0), "`epochs` must be at least 1, not 0"),
        (changed_defaults(seed=1), "'seed' is not an identifier, or names a result column"),
        (changed_defaults(lr=0.2), "the baseline 0.1, but the default is 0.2"),
        ({"factors": (Factor("depth", (1, 2), ""),)}, "'depth' is missing in the defaults"),
        ({"factors": (Factor("lr", (), ""),)}, "'lr' has no levels"),
        ({"factors": (Factor("lr", (0.1, 0.1), ""),)}, "'lr' has a level twice"),
        ({"factors": WORKLOAD.factors[:1] * 2}, "two factors have the same name"),
        ({"sizes": {"full": {"depth": 3}}}, r"the size 'full' sets \['depth'\]"),
    ],
)
def test_declarations_that_contradict_themselves_are_caught(changes, says):
    broken(says, **changes)


def test_an_unknown_override_is_refused():
    with pytest.raises(ConformanceError, match=r"no setting \['epoch'\]"):
        check_workload(WORKLOAD, {"epoch": 2})


def test_a_workload_without_checkpoints_learns_what_that_means():
    def train(config, context):
        return WORKLOAD.train(config, replace(context, save=lambda make: None))

    report = check_workload(replace(WORKLOAD, train=train), SMALL, levels=False)
    assert any("saves no checkpoint" in sentence for sentence in report.checked)


def test_nan_rows_are_legal_and_equal_to_themselves():
    config = {**WORKLOAD.defaults, **SMALL, "fault": "nan", "fault_epoch": 1}
    first, other = rehearse(WORKLOAD, config, 0), rehearse(WORKLOAD, config, 0)
    assert difference_of(first.rows, other.rows) == ""


def test_difference_names_the_first_signal_that_differs():
    rows = [Row(1, 4, {"a": 1.0, "b": [1.0, 2.0]}), Row(2, 8, {"a": 1.0})]
    assert difference_of(rows, rows) == ""
    assert difference_of(rows, rows[:1]) == "2 rows against 1"
    assert "epoch 1, step 4" in difference_of(rows, [Row(1, 5, {}), rows[1]])
    other = [Row(1, 4, {"a": 1.0, "b": [1.0, 2.5]}), rows[1]]
    assert difference_of(rows, other) == "b in epoch 1: [1.0, 2.0] against [1.0, 2.5]"
    assert "None" in difference_of(rows, [Row(1, 4, {"a": 1.0}), rows[1]])


def test_the_toy_is_found_by_its_module_too():
    workload = registry.workload("sickbay_demo.task:WORKLOAD")
    assert workload == replace(WORKLOAD, code=workload.code)


def constant_on(shares):
    """A system that can only learn the best constant of data with these classes: its rows."""
    loss = float(stats.entropy(shares))

    def train(config, context):
        for epoch in range(context.epochs):
            start = 0.3 * 0.5**epoch  # what is left to learn
            signals = {"val_loss": loss + start, "train_loss": loss + start, "val_n": 1000.0}
            signals |= {"val_loss_se": 0.01, "val_accuracy": max(shares)}
            yield Row(epoch + 1, epoch + 1, {**signals, **noise(context.seed, epoch, config)})

    return train


def noise(seed, epoch, config):
    return {"probe_noise": math.sin(seed + epoch + float(config["lr"]))}


@pytest.mark.parametrize(("floor_of", "refused"), [([0.7, 0.2, 0.1], False), ([1, 1, 1], True)])
def test_a_floor_of_other_data_than_those_scored_is_caught(floor_of, refused):
    shares = np.array([0.7, 0.2, 0.1])
    facts = TaskFacts(
        kind=TaskKind.MULTICLASS,
        floors={"val_loss": float(stats.entropy(floor_of))},
        class_counts=(700, 200, 100),
        n={"val": 1000},
    )
    system = replace(
        WORKLOAD,
        train=constant_on(shares),
        facts=lambda config, context: facts,
        factors=(Factor("lr", (0.1, 0.2), "changes nothing of weight"),),
        objective=Objective("val_loss", Goal.MINIMIZE),
    )
    blind = {"epochs": 12}
    if not refused:
        assert "never healthy" in str(check_workload(system, SMALL, levels=False, blind=blind))
        return
    with pytest.raises(ConformanceError, match="which no constant can beat"):
        check_workload(system, SMALL, levels=False, blind=blind)
