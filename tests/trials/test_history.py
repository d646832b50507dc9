"""The only thing a detector sees: columns, gaps, NaN, and a digest of all that can be seen."""

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sickbay.trials.contract import ReferenceLine, Row, TaskFacts, TaskKind
from sickbay.trials.history import History, facts_from_json, facts_to_json

NUMBERS = st.floats(allow_nan=True, allow_infinity=True)
ROWS = st.lists(
    st.builds(
        Row,
        epoch=st.integers(0, 50),
        step=st.integers(0, 500),
        signals=st.dictionaries(
            st.sampled_from(["a", "b", "c"]), NUMBERS | st.lists(NUMBERS, max_size=3), max_size=3
        ),
    ),
    max_size=8,
    unique_by=lambda row: row.epoch,
)


def history(*rows, facts=None, planned=20, finished=False):
    return History(rows, facts or TaskFacts(), planned, finished=finished)


def test_rows_are_sorted_and_of_one_epoch_the_later_counts():
    curves = history(Row(2, 20, {"x": 2.0}), Row(1, 10, {"x": 1.0}), Row(2, 21, {"x": 3.0}))
    assert curves.epochs.tolist() == [1, 2]
    assert curves.steps.tolist() == [10, 21]
    assert curves.column("x").tolist() == [1.0, 3.0]


def test_a_gap_reads_as_nan_and_differs_from_one():
    curves = history(Row(1, 1, {"x": math.nan}), Row(2, 2, {}))
    assert np.isnan(curves.column("x")).all()
    assert curves.recorded("x").tolist() == [True, False]
    assert curves.has("x")
    assert not curves.has("x", "y")
    assert np.isnan(curves.column("y")).all()


def test_vectors_are_filled_up_and_a_scalar_is_a_vector_of_one():
    curves = history(Row(1, 1, {"v": [1.0, 2.0], "x": 5}), Row(2, 2, {"v": (3.0,)}))
    assert curves.vectors("v").shape == (2, 2)
    assert curves.vectors("v")[1, 0] == 3.0
    assert np.isnan(curves.vectors("v")[1, 1])
    assert curves.vectors("x").shape == (2, 1)
    with pytest.raises(ValueError, match="'v' is a vector of 2: read it with `vectors`"):
        curves.column("v")


def test_it_cannot_be_changed():
    curves = history(Row(1, 1, {"x": 1.0, "v": [1.0, 2.0]}))
    for array in (curves.column("x"), curves.vectors("v"), curves.epochs, curves.steps):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 7


def test_a_prefix_is_what_it_looked_like_then():
    rows = [Row(n, n, {"x": float(n)}) for n in (1, 2, 3)]
    curves = history(*rows, finished=True)
    assert not curves.prefix(2).finished
    assert curves.prefix(2).digest() == history(*rows[:2]).digest()
    assert len(curves.prefix(0)) == 0


def test_work_is_done_once_a_history():
    curves, done = history(Row(1, 1, {"x": 1.0})), []
    for _ in range(3):
        assert curves.once(("k", 1), lambda: done.append(1) or len(done)) == 1
    assert done == [1]
    assert history(Row(1, 1, {"x": 1.0})).once(("k", 1), lambda: 9) == 9


@given(ROWS)
def test_the_digest_knows_neither_order_nor_the_bits_of_a_nan(rows):
    shuffled = random.sample(rows, len(rows))
    other_nan = np.uint64(0x7FF8_0000_0000_0001).view(np.float64).item()

    def swapped(value):
        if isinstance(value, list):
            return [swapped(entry) for entry in value]
        return other_nan if math.isnan(value) else value

    again = [
        Row(row.epoch, row.step, {k: swapped(row.signals[k]) for k in reversed(row.signals)})
        for row in shuffled
    ]
    assert history(*rows).digest() == history(*again).digest()


@pytest.mark.parametrize(
    "other",
    [
        history(Row(1, 1, {"x": 1.5})),
        history(Row(1, 1, {"y": 1.0})),
        history(Row(1, 2, {"x": 1.0})),
        history(Row(2, 1, {"x": 1.0})),
        history(Row(1, 1, {"x": 1.0}), finished=True),
        history(Row(1, 1, {"x": 1.0}), planned=21),
        history(Row(1, 1, {"x": 1.0}), facts=TaskFacts(floors={"val_loss": 1.0})),
        history(Row(1, 1, {"x": [1.0, math.nan]})),
    ],
)
def test_whatever_a_detector_can_see_is_in_the_digest(other):
    assert history(Row(1, 1, {"x": 1.0})).digest() != other.digest()


@given(
    st.builds(
        TaskFacts,
        kind=st.sampled_from(TaskKind),
        floors=st.dictionaries(st.text(max_size=5), st.floats(allow_nan=False), max_size=3),
        class_counts=st.lists(st.integers(0, 10**6), max_size=3).map(tuple),
        n=st.dictionaries(st.sampled_from(["train", "val"]), st.integers(0, 10**6)),
        bounds=st.dictionaries(st.text(max_size=5), st.tuples(st.floats(0, 1), st.floats(1, 2))),
        groups=st.lists(st.text(max_size=5), max_size=3).map(tuple),
        components=st.none() | st.integers(1, 8),
        loss_minimum=st.none() | st.floats(allow_nan=False),
        reference_lines=st.lists(
            st.builds(
                ReferenceLine,
                st.text(max_size=5),
                st.floats(allow_nan=False),
                st.text(),
                st.text(max_size=3),
                st.text(max_size=3),
            ),
            max_size=2,
        ).map(tuple),
    )
)
def test_facts_survive_json(facts):
    assert facts_from_json(facts_to_json(facts)) == facts
