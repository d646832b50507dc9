"""Rows on their way into the store: what is refused, and when they are written."""

import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch

from sickbay.trials.contract import Row
from sickbay.trials.execution.recorder import RowError, TrialLog, check_row
from sickbay.trials.store import open_store, read_checkpoint
from sickbay.trials.store.reader import read_epoch_records


@pytest.mark.parametrize(
    ("row", "last", "words"),
    [
        ({"epoch": 1}, None, "yielded a dict; it must yield"),
        (Row("1", 1, {}), None, "epoch is '1'; it must be a whole number"),
        (Row(True, 1, {}), None, "epoch is True"),
        (Row(2, 1, {}), 2, "epoch 2 came after the one for epoch 2"),
        (Row(1, 1, {}), 2, "epochs must ascend"),
        (Row(1, 1, None), None, "must be a mapping"),
        (
            Row(1, 1, {"loss": "0.1"}),
            None,
            "'loss' of epoch 1 holds a str: '0.1'; it must be a number",
        ),
        (Row(1, 1, {"loss": None}), None, "must be a number"),
        (Row(1, 1, {"loss": [[1.0]]}), None, "flat list"),
        (Row(1, 1, {"loss": 1j}), None, "holds a complex"),
        (Row(1, 1, {"loss": np.complex64(1)}), None, "holds a complex64"),
        (Row(1, 1, {"loss": np.array("0.1")}), None, "holds a ndarray"),
        (Row(1, 1, {"loss": np.ones((2, 2))}), None, "holds a ndarray"),
        (Row(1, 1, {"loss": [1.0, torch.ones(3)]}), None, "holds a Tensor"),
        (Row(1, 1, {"": 1.0}), None, "a signal called ''"),
        (Row(1, 1, {" ": 1.0}), None, "a signal called ' '"),
        (Row(1, 1, {"loss": 10**400}), None, "must be a number"),
        (Row(1, 1, {"Epoch": 1.0}), None, "none of sweep_id"),
        (Row(1, 1, {7: 1.0}), None, "a signal's name is a text"),
        (Row(1, 1, {"loss": 1.0, "Loss": 2.0}), None, "upper and lower case only"),
        (Row(2**64, 1, {}), None, "a whole number from 0 on"),
        (Row(-1, 1, {}), None, "a whole number from 0 on"),
        (Row(1, 1.5, {}), None, "a row's step is 1.5"),
    ],
)
def test_what_is_no_sound_row_is_refused_with_a_reason(row, last, words):
    with pytest.raises(RowError, match=words.replace("(", r"\(")):
        check_row(row, last)


@pytest.mark.parametrize("value", [math.nan, math.inf, 1, True, 0.5, [1.0, math.nan], []])
def test_sound_signals_pass_unchanged(value):
    assert repr(check_row(Row(3, 30, {"loss": value}), 2)) == repr(Row(3, 30, {"loss": value}))


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (np.float32(0.5), 0.5),
        (np.float64(0.1), 0.1),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.array(2.5), 2.5),
        (torch.tensor(0.25), 0.25),
        (torch.tensor(7), 7),
        (torch.tensor(math.nan, dtype=torch.bfloat16), math.nan),
        (Fraction(1, 4), 0.25),
        (Decimal("0.75"), 0.75),
        (np.array([1.0, 2.0], dtype=np.float32), [1.0, 2.0]),
        (torch.tensor([1, 2]), [1, 2]),
        ((np.float64(1), 2), [1.0, 2]),
    ],
)
def test_numbers_of_every_type_become_plain_ones(value, plain):
    taken = check_row(Row(1, 1, {"loss": value}), None).signals["loss"]
    assert repr(taken) == repr(plain)


def log(tmp_path, attempt=1, flush=1e9, checkpoint=1e9):
    made = TrialLog(open_store(str(tmp_path)), "s", "t", attempt, flush, checkpoint)
    made.begin()
    return made


def stored(tmp_path):
    return [record.row.epoch for record in read_epoch_records(open_store(str(tmp_path)), "s", "t")]


def test_rows_wait_for_the_flush_and_are_then_all_there(tmp_path):
    trial_log = log(tmp_path)
    for epoch in (1, 2, 3):
        trial_log.take(Row(epoch, epoch, {"loss": 0.1}))
    assert stored(tmp_path) == []
    trial_log.flush()
    assert stored(tmp_path) == [1, 2, 3]


def test_rows_are_written_at_once_where_no_patience_is_asked_for(tmp_path):
    trial_log = log(tmp_path, flush=0.0)
    trial_log.take(Row(1, 1, {"loss": 0.1}))
    assert stored(tmp_path) == [1]


def test_a_checkpoint_never_runs_ahead_of_its_rows(tmp_path):
    trial_log = log(tmp_path, checkpoint=0.0)
    trial_log.save(lambda: b"after 1")
    trial_log.take(Row(1, 1, {"loss": 0.1}))
    checkpoint = read_checkpoint(open_store(str(tmp_path)), "s", "t")
    assert (checkpoint.epoch, checkpoint.payload) == (1, b"after 1")
    assert stored(tmp_path) == [1]


def test_a_checkpoint_that_is_not_due_is_not_even_made(tmp_path):
    trial_log = log(tmp_path)
    trial_log.save(lambda: pytest.fail("made for nothing"))
    trial_log.take(Row(1, 1, {"loss": 0.1}))


def test_a_second_attempt_takes_up_the_rows_before_the_checkpoint_only(tmp_path):
    one = log(tmp_path, flush=0.0, checkpoint=0.0)
    one.save(lambda: b"after 1")
    one.take(Row(1, 1, {"loss": 0.1}))
    one.take(Row(2, 2, {"loss": 0.2}))
    one.flush()
    assert stored(tmp_path) == [1, 2]
    two = log(tmp_path, attempt=2)
    assert two.restore() == b"after 1"
    assert [row.epoch for row in two.rows] == [1]
    two.take(Row(2, 2, {"loss": 0.3}))
    two.flush()
    records = read_epoch_records(open_store(str(tmp_path)), "s", "t")
    assert [(r.attempt, r.row.epoch, r.row.signals["loss"]) for r in records] == [
        (1, 1, 0.1),
        (2, 2, 0.3),
    ]
