"""A level of telemetry takes signals and facts away, and nothing else."""

import math

import numpy as np
import pytest

from docs.tools.corpus.samples import history
from docs.tools.corpus.telemetry import Level, at_level
from sickbay.trials.contract import TaskFacts, TaskKind

FACTS = TaskFacts(
    kind=TaskKind.BINARY,
    floors={"val_loss": 0.5, "train_loss": 0.6},
    class_counts=(90, 10),
    n={"train": 100, "val": 50},
    groups=("head",),
    loss_minimum=0.0,
)


@pytest.fixture
def full():
    return history(
        facts=FACTS,
        train_loss=[1.0, math.nan, 0.5],
        val_loss=[1.0, math.inf, 0.6],
        val_loss_se=[0.1, 0.1, 0.1],
        val_auroc=[0.5, 0.6, 0.7],
        val_accuracy=[0.5, 0.6, 0.7],
        grad_norm_p50=[1.0, 2.0, 3.0],
        group_grad_max=[[1.0], [2.0], [3.0]],
    )


def test_the_probe_sees_everything(full):
    assert at_level(full, "probe") is full


def test_an_ordinary_log_has_curves_and_what_a_user_states(full):
    seen = at_level(full, Level.ORDINARY)
    assert seen.names == ("grad_norm_p50", "train_loss", "val_accuracy", "val_auroc", "val_loss")
    assert seen.facts == TaskFacts(
        kind=TaskKind.BINARY, floors={"val_loss": 0.5}, class_counts=(90, 10), n={"val": 50}
    )


def test_a_bare_file_has_losses_and_accuracy(full):
    seen = at_level(full, "bare")
    assert seen.names == ("train_loss", "val_accuracy", "val_loss")
    assert seen.facts == TaskFacts(kind=TaskKind.BINARY)


@pytest.mark.parametrize("level", ["ordinary", "bare"])
def test_values_rows_and_plan_stay(full, level):
    seen = at_level(full, level)
    for name in seen.names:
        np.testing.assert_array_equal(seen.column(name), full.column(name))
    assert seen.steps.tolist() == full.steps.tolist()
    assert (seen.epochs_planned, seen.finished) == (full.epochs_planned, full.finished)


def test_an_unknown_level_is_an_error(full):
    with pytest.raises(ValueError, match="everything"):
        at_level(full, "everything")
