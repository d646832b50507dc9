"""SQL over a store: what is answered, what is refused, and what is not imported."""

import json
import math
import shutil
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sickbay.service.query import duck
from sickbay.service.query import engine as sql
from sickbay.service.query.engine import Limits, QueryError, plain, query
from sickbay.trials.contract import (
    Finding,
    FindingState,
    Health,
    Label,
    Row,
    Severity,
    TrialConfig,
    TrialState,
)
from sickbay.trials.store import (
    EpochRecord,
    SweepRecord,
    TrialRecord,
    open_store,
    start_attempt,
    write_epochs,
    write_sweep,
    write_trial,
)
from sickbay.trials.store.merge import consolidate
from sickbay.trials.store.schema import FIXED, TABLES
from sickbay.trials.store.tables import TableScan


def put_trial(
    store, sweep_id, trial_id, *, label="healthy", state=TrialState.COMPLETED, **settings
):
    health = Health(label) if label else None
    pathology = "no_skill" if label == "pathological" else None
    verdict = Label(health, "because", pathology, labeller_version="v1") if health else None
    start_attempt(store, sweep_id, trial_id, device="cpu", started_at=1.5e9)
    rows = [
        Row(1, 10, {"val_loss": 0.5, "grad_norm": math.nan, "weights": [1.0, math.inf]}),
        Row(2, 20, {"val_loss": 0.25, "grad_norm": -math.inf}),
    ]
    records = [EpochRecord(1, float(row.epoch), row) for row in rows]
    write_epochs(store, sweep_id, trial_id, records)
    findings = [
        Finding("divergence", "1", FindingState.CLEAR, Severity.FATAL, "it is calm"),
        Finding("no_skill", "1", FindingState.FIRED, Severity.FATAL, "0.1 < 0.5"),
    ]
    seed = int(trial_id[-1])
    trial = TrialConfig(trial_id, "toy", settings, seed, 2)
    done = 1.5e9 + seed
    record = TrialRecord(
        sweep_id, trial, "1", "arm", state, 1, verdict, started_at=1.5e9, finished_at=done
    )
    write_trial(store, record, findings)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """One merged sweep, one in parts, with different settings; a third has a trial of the first."""
    store = open_store(str(tmp_path_factory.mktemp("query") / "store"))
    put_trial(store, "s1", "aa1", initialization="zeros", lr=1)
    put_trial(store, "s1", "aa2", initialization="preset", lr=2, label="pathological")
    put_trial(store, "s1", "ab3", initialization="zeros", lr=3, label=None, state=TrialState.FAILED)
    consolidate(store, "s1")
    put_trial(store, "s2", "ba1", initialization="random", lr=0.5, width=4, label="inconclusive")
    put_trial(store, "s3", "aa2", initialization="preset", lr=2)
    write_sweep(store, SweepRecord("s1", "first", "toy", "grid", "{}", "completed", 1.5e9))
    return store


@pytest.fixture
def own_store(store, tmp_path):
    """A copy that a test may change."""
    shutil.copytree(store.root, tmp_path / "store")
    return open_store(str(tmp_path / "store"))


def test_the_promised_query_works_as_written(store):
    result = query(store, "SELECT initialization, label, count(*) FROM trials GROUP BY ALL")
    assert sorted(result.rows, key=repr) == sorted(
        [
            ("zeros", "healthy", 1),
            ("zeros", None, 1),
            ("preset", "pathological", 1),
            ("preset", "healthy", 1),
            ("random", "inconclusive", 1),
        ],
        key=repr,
    )
    assert result.problems == ()


def test_every_table_is_there_with_parts_and_merged_rows(store):
    counts = {name: query(store, f"SELECT count(*) FROM {name}").rows[0][0] for name in TABLES}
    assert counts == {"sweeps": 1, "trials": 5, "epochs": 10, "findings": 10, "labels": 4}
    assert query(store, "SELECT count(*) FROM trials", sweep_ids=["s2"]).rows == [(1,)]


def test_columns_of_all_sweeps_come_together(store):
    result = query(store, "SELECT trial_id, lr, width FROM trials ORDER BY sweep_id, trial_id")
    assert result.columns == ("trial_id", "lr", "width")
    assert result.types == ("VARCHAR", "DOUBLE", "BIGINT")
    assert result.rows[0] == ("aa1", 1.0, None)
    assert result.rows[3] == ("ba1", 0.5, 4)


def test_nan_infinity_null_and_vectors_survive(store):
    result = query(
        store, "SELECT grad_norm, weights FROM epochs WHERE trial_id = 'aa1' ORDER BY epoch"
    )
    (nan, vector), (low, missing) = result.rows
    assert math.isnan(nan)
    assert (vector, low, missing) == ([1.0, math.inf], -math.inf, None)
    assert result.records() == [
        {"grad_norm": "NaN", "weights": [1.0, "Infinity"]},
        {"grad_norm": "-Infinity", "weights": None},
    ]
    assert math.isnan(query(store, "SELECT avg(grad_norm) FROM epochs WHERE epoch = 1").rows[0][0])
    assert query(store, "SELECT count(*) FROM epochs WHERE isnan(grad_norm)").rows == [(5,)]


@pytest.mark.parametrize(
    "text",
    [
        "FROM trials",
        "SELECT * EXCLUDE (facts) FROM trials",
        "SELECT COLUMNS('l.*') FROM trials",
        "SELECT count(*) FROM (SELECT lr, initialization FROM trials)",
        "WITH t AS (SELECT * FROM trials) SELECT count(*) FROM t JOIN epochs USING (trial_id)",
        "SELECT t.lr FROM trials t WHERE EXISTS (SELECT 1 FROM epochs e WHERE e.val_loss < 0.3)",
        "DESCRIBE trials",
        "SUMMARIZE trials",
        "SHOW TABLES",
        "SELECT trials FROM trials",
        "SELECT unnest(weights) FROM epochs",
        "VALUES (1), (2)",
        "-- a comment\nSELECT 1;",
        "SELECT lr, row_number() OVER (ORDER BY seed, lr) FROM TRIALS QUALIFY true ORDER BY ALL",
    ],
)
def test_reading_only_what_is_scanned_changes_no_answer(store, text, monkeypatch):
    pruned = query(store, text)
    monkeypatch.setattr(duck, "_scanned_columns", lambda *_: None)
    whole = query(store, text)
    # SQL promises no order of its own: the rows are compared as a bag, so that NaN is compared too.
    assert sorted(map(repr, pruned.rows)) == sorted(map(repr, whole.rows))
    assert pruned.columns == whole.columns
    assert pruned.rows


def test_only_scanned_columns_are_read(store, monkeypatch):
    seen = []
    read = TableScan.read
    monkeypatch.setattr(
        TableScan, "read", lambda scan, columns=None: seen.append(columns) or read(scan, columns)
    )
    query(store, "SELECT avg(val_loss) FROM epochs GROUP BY epoch")
    assert [set(columns) for columns in seen] == [{"epoch", "val_loss", "sweep_id"}]


def test_columns_that_differ_only_in_case(own_store):
    put_trial(own_store, "s9", "zz1", LR=7, lr=8)
    result = query(own_store, "SELECT * FROM trials", sweep_ids=["s9"])
    row = dict(zip(result.columns, result.rows[0], strict=True))
    assert 7 in row.values()
    assert 8 in row.values()


@pytest.mark.parametrize(
    "text",
    [
        "DROP TABLE trials",
        "CREATE TABLE t (a INT)",
        "INSERT INTO trials SELECT * FROM trials",
        "COPY trials TO '/tmp/x.csv'",
        "ATTACH '/tmp/x.db'",
        "INSTALL httpfs",
        "LOAD json",
        "SET threads = 8",
        "SET VARIABLE x = 1",
        "PRAGMA version",
        "CALL pragma_version()",
        "EXPORT DATABASE '/tmp/x'",
        "USE memory",
        "EXPLAIN ANALYZE SELECT 1",
        "PIVOT trials ON label USING count(*)",
    ],
)
def test_only_select_is_allowed(store, text):
    with pytest.raises(QueryError, match="only SELECT is allowed, and this is"):
        query(store, text)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM read_parquet('{root}/trials/s1/data.parquet')",
        "SELECT * FROM read_json('https://example.com/x.json')",
        "SELECT * FROM parquet_metadata('{root}/trials/s1/data.parquet')",
    ],
)
def test_no_file_and_no_network_is_opened(store, text):
    with pytest.raises(QueryError, match=r"Permission|disabled|not exist|not in the catalog"):
        query(store, text.format(root=store.root))


def test_python_objects_are_out_of_reach(store):
    secret = FIXED["trials"].empty_table()
    with pytest.raises(QueryError, match="secret does not exist"):
        query(store, "SELECT * FROM secret")
    assert secret.num_rows == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SELECT labl FROM trials", 'Candidate bindings: "label"'),
        ("SELECT * FROM trails", 'Did you mean "trials"'),
        ("SELEC 1", 'syntax error at or near "SELEC"'),
        ("SELECT 1; SELECT 2", "one SELECT statement: this has 2"),
        ("", "one SELECT statement: this has 0"),
        ("-- nothing", "one SELECT statement: this has 0"),
        ("SELECT 1 + 'a' FROM trials", "Conversion Error|Binder Error"),
        ("SELECT CAST(initialization AS INT) FROM trials", "Could not convert string"),
        ("SELECT ?", "parameter"),
    ],
)
def test_mistakes_are_explained(store, text, message):
    with pytest.raises(QueryError, match=message) as caught:
        query(store, text)
    assert "EXPLAIN" not in str(caught.value)


def test_limits_of_time_memory_and_rows(store):
    with pytest.raises(QueryError, match=r"took longer than 0\.2 s"):
        query(store, "SELECT count(*) FROM range(10000000000000)", limits=Limits(seconds=0.2))
    with pytest.raises(QueryError, match="more memory than 20MB"):
        query(store, "SELECT list(range) FROM range(100000000)", limits=Limits(memory="20MB"))
    result = query(store, "SELECT epoch FROM epochs ORDER BY epoch DESC", limits=Limits(rows=3))
    assert (result.rows, result.truncated) == ([(2,)] * 3, True)
    result = query(store, "SELECT epoch FROM epochs", limits=Limits(rows=10))
    assert (len(result.rows), result.truncated) == (10, False)
    assert not any(
        isinstance(thread, threading.Timer) and thread.is_alive()
        for thread in threading.enumerate()
    )


def test_an_empty_store_answers_with_the_fixed_columns(tmp_path):
    store = open_store(str(tmp_path / "empty"))
    for name in TABLES:
        result = query(store, f"SELECT * FROM {name}")
        assert result.columns == tuple(FIXED[name].names)
        assert result.rows == []
    assert sql.counts(store, "nope").rows == []


def test_a_damaged_file_is_named_and_the_rest_answers(own_store):
    damaged = Path(own_store.root) / "trials/s1/data.parquet"
    damaged.write_bytes(b"no")
    result = query(own_store, "SELECT trial_id FROM trials ORDER BY ALL")
    assert result.rows == [("aa2",), ("ba1",)]
    assert [problem.path for problem in result.problems] == [str(damaged)]


def test_two_columns_of_one_name_are_both_there(store):
    result = query(store, "SELECT 1 AS n, 2 AS n, 3 AS n")
    assert result.records() == [{"n": 1, "n_1": 2, "n_2": 3}]


def test_times_are_utc(store):
    result = query(store, "SELECT started_at, started_at::VARCHAR FROM trials LIMIT 1")
    assert result.rows == [(datetime.fromtimestamp(1.5e9, UTC), "2017-07-14 02:40:00+00")]
    assert result.records()[0]["started_at"] == "2017-07-14T02:40:00+00:00"


def test_the_trials_of_a_sweep(store):
    ids = lambda result: result.table["trial_id"].to_pylist()  # noqa: E731
    assert ids(sql.trials(store, "s1")) == ["aa1", "aa2", "ab3"]
    assert ids(sql.trials(store, "s1", label="pathological")) == ["aa2"]
    assert ids(sql.trials(store, "s1", where="lr >= 2 OR seed = 1 -- so")) == ["aa1", "aa2", "ab3"]
    assert ids(sql.trials(store, "s1", label="healthy", where="lr >= 2")) == []
    with pytest.raises(QueryError, match=r"'ill' is not a label. Allowed: healthy, pathological"):
        sql.trials(store, "s1", label="ill")
    with pytest.raises(QueryError, match="lrr"):
        sql.trials(store, "s1", where="lrr > 2")
    with pytest.raises(QueryError, match=r"one SELECT statement|syntax error"):
        sql.trials(store, "s1", where="true); DROP TABLE trials; --")


def test_what_belongs_to_a_trial(store):
    assert sql.counts(store, "s1").rows == [
        ("completed", "healthy", None, 1),
        ("completed", "pathological", "no_skill", 1),
        ("failed", None, None, 1),
    ]
    result = sql.findings(store, "s1", "aa1")
    assert result.table["detector"].to_pylist() == ["no_skill", "divergence"]
    assert result.columns == tuple(FIXED["findings"].names)
    assert sql.findings(store, "s1", "ab3").table.num_rows == 2
    assert sql.epochs(store, "s2", "ba1").table["epoch"].to_pylist() == [1, 2]
    assert sql.labels(store, "s1", "aa1").table["label"].to_pylist() == ["healthy"]


def test_a_trial_is_found_by_the_beginning_of_its_id(store):
    assert sql.find_trial(store, "ab") == ("s1", "ab3")
    assert sql.find_trial(store, "ba1") == ("s2", "ba1")
    assert sql.find_trial(store, "aa2")[1] == "aa2"
    with pytest.raises(QueryError, match=r"3 trials begin with 'a' .*aa1, aa2, ab3"):
        sql.find_trial(store, "a")
    with pytest.raises(QueryError, match="no ended trial's id begins with '%'"):
        sql.find_trial(store, "%")


def test_values_become_what_json_takes():
    value = {
        "n": [math.nan, -math.inf, 1.5, None, True],
        "t": datetime(2026, 1, 2, tzinfo=UTC),
        "d": timedelta(seconds=1.5),
        "i": Decimal(3),
        "f": Decimal("0.5"),
        "b": b"\x01\xff",
        1: (2,),
    }
    assert json.loads(json.dumps(plain(value), allow_nan=False)) == {
        "n": ["NaN", "-Infinity", 1.5, None, True],
        "t": "2026-01-02T00:00:00+00:00",
        "d": 1.5,
        "i": 3,
        "f": 0.5,
        "b": "01ff",
        "1": [2],
    }


VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.decimals() | st.text() | st.binary() | st.dates(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES)
def test_anything_becomes_strict_json(value):
    json.dumps(plain(value), allow_nan=False)


def test_a_query_imports_nothing_heavy(store):
    code = f"""
import sys
from sickbay.service.query import engine as sql
from sickbay.trials.store import open_store
store = open_store({store.root!r}, create=False)
assert sql.trials(store, "s1", label="healthy").records()[0]["started_at"]
text = "SELECT epoch, avg(val_loss) FROM epochs GROUP BY ALL"
assert sql.query(store, text, sweep_ids=["s1"]).rows
bad = {{"scipy", "torch", "ray", "pydantic", "fastapi", "matplotlib", "pandas"}} & set(sys.modules)
assert not bad, bad
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
