"""Whatever a file holds, there is a verdict, or a refusal that names the file; no traceback."""

import json

from external_logs import DETECTORS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sickbay.service.external_logs.judge import as_plain, judge_source
from sickbay.service.external_logs.options import LogOptions
from sickbay.trials.log_files.folders import Source

NAMES = st.sampled_from(
    [
        "epoch",
        "step",
        "loss",
        "val_loss",
        "train/box_loss",
        "grad_norm",
        "acc",
        "mode",
        "fold",
        "w_0",
        "w_1",
        "[/x]",
        "",
        "reward",
        "val_auc",
        "recall",
        "Loss_D",
        "Loss_G",
        "facts",
        "tp",
    ]
)
CELLS = st.one_of(
    st.floats(),
    st.integers(-(10**400), 10**400),
    st.none(),
    st.booleans(),
    st.text(max_size=8),
    st.sampled_from(["nan", "1e999", "1,5", "3/80", "train", "val", "12 %", "tensor(nan)", "-"]),
    st.lists(st.floats(), max_size=4),
)
OBJECTS = st.lists(st.dictionaries(NAMES, CELLS, max_size=6), max_size=8)
LINES = st.lists(
    st.lists(st.one_of(NAMES, CELLS.map(str)), max_size=6).flatmap(
        lambda cells: st.sampled_from([",", ";", " ", " | ", "\t", ": ", "="]).map(
            lambda sign: sign.join(cells)
        )
    ),
    max_size=10,
).map("\n".join)
BARE = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def check(path):
    refusal, judgements = None, []
    try:
        judgements = judge_source(Source(path), LogOptions(), DETECTORS)
    except ValueError as error:
        refusal = str(error)
    # facts in a log's first line may be of another kind: those are the user's, as a flag is
    assert refusal is None or str(path) in refusal or "facts" in refusal
    assert all(as_plain(judgement)["label"] for judgement in judgements)


@BARE
@given(data=st.binary(max_size=300))
def test_bytes(tmp_path, data):
    path = tmp_path / "log"
    path.write_bytes(data)
    check(path)


@BARE
@given(text=st.one_of(st.text(max_size=300), LINES))
def test_text(tmp_path, text):
    path = tmp_path / "log.txt"
    path.write_bytes(text.encode("utf-8", "replace"))
    check(path)


@BARE
@given(rows=OBJECTS, lines=st.booleans())
def test_json(tmp_path, rows, lines):
    path = tmp_path / "log.json"
    path.write_text("\n".join(map(json.dumps, rows)) if lines else json.dumps(rows))
    check(path)


@BARE
@given(columns=st.dictionaries(NAMES, st.lists(st.floats(), max_size=30), max_size=5))
def test_columns(tmp_path, columns):
    path = tmp_path / "history.json"
    path.write_text(json.dumps(columns))
    check(path)


@BARE
@given(data=st.binary(max_size=200))
def test_wandb_files(tmp_path, data):
    path = tmp_path / "run-1.wandb"
    path.write_bytes(b":W&B\xe1\xbe\x00" + data)
    check(path)
