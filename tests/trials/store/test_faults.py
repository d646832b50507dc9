"""Damaged, foreign and newer files; a store that is read-only, full, or somewhere else."""

import json
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs
from store_samples import START, ended, files_below, picture, record_of, run_through

from sickbay.trials.contract import TrialState
from sickbay.trials.execution.trial import make_workdir
from sickbay.trials.store import (
    Store,
    StoreError,
    SweepRecord,
    open_store,
    read_checkpoint,
    request,
    requested,
    start_attempt,
    write_checkpoint,
    write_epochs,
    write_sweep,
    write_trial,
)
from sickbay.trials.store.files import private_folder
from sickbay.trials.store.merge import consolidate
from sickbay.trials.store.reader import (
    iter_histories,
    list_sweeps,
    load_history,
    load_tables,
    read_epoch_records,
    trial_states,
)


@pytest.fixture
def root(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def store(root):
    """Two merged sweeps of one trial each, and one that is not merged."""
    opened = open_store(str(root))
    for sweep_id in ("s1", "s2"):
        run_through(opened, sweep_id)
        consolidate(opened, sweep_id)
    run_through(opened, "s3")
    return opened


def sweeps_of(loaded, name="trials"):
    return sorted(set(loaded.tables[name]["sweep_id"].to_pylist()))


@pytest.mark.parametrize("content", [b"", b"PAR1 this is no Parquet PAR1", b"\x00" * 4096])
@pytest.mark.parametrize("table", ["trials", "epochs"])
def test_a_damaged_file_is_named_and_the_rest_is_read(store, root, table, content):
    damaged = root / table / "s1/data.parquet"
    damaged.write_bytes(content)
    loaded = load_tables(store)
    assert [problem.path for problem in loaded.problems] == [str(damaged)]
    assert "no readable Parquet file" in str(loaded.problems[0])
    assert sweeps_of(loaded, table) == ["s2", "s3"]
    assert sweeps_of(loaded, "findings") == ["s1", "s2", "s3"]


def test_damage_inside_a_page_is_found_by_its_checksum(store, root):
    damaged = root / "trials/s1/data.parquet"
    data = bytearray(damaged.read_bytes())
    data[data.index(b"zeros") + 2] ^= 1  # a letter of a level, deep in the data
    damaged.write_bytes(data)
    loaded = load_tables(store)
    assert [problem.path for problem in loaded.problems] == [str(damaged)]
    assert sweeps_of(loaded) == ["s2", "s3"]


def test_a_foreign_file_is_named_and_passed_over(store, root):
    before = picture(store)
    pq.write_table(pa.table({"x": [1]}), root / "trials/notes.parquet")
    (root / "trials/s1/old.parquet").write_bytes((root / "trials/s2/data.parquet").read_bytes())
    (root / "trials/.DS_Store").write_text("x")
    loaded = load_tables(store)
    named = [problem.path for problem in loaded.problems]
    assert named == [str(root / "trials/notes.parquet"), str(root / "trials/s1/old.parquet")]
    assert "move it away" in loaded.problems[0].message
    assert loaded.tables["trials"].num_rows == len(before["trials"])


def test_foreign_parquet_under_our_name(store, root):
    pq.write_table(pa.table({"trial_id": ["x"]}), root / "trials/s1/data.parquet")
    loaded = load_tables(store)
    assert "was not written by Sickbay" in loaded.problems[0].message
    assert sweeps_of(loaded) == ["s2", "s3"]
    with pytest.raises(StoreError, match=r"trials/s1/data.parquet: was not written by Sickbay"):
        trial_states(store, "s1")


def test_a_file_of_a_newer_version_asks_for_an_upgrade(store, root):
    file = root / "trials/s1/data.parquet"
    pq.write_table(pq.read_table(file).replace_schema_metadata({"sickbay.schema": "99"}), file)
    (problem,) = load_tables(store, ("trials",)).problems
    assert "newer Sickbay (schema 99, this one reads up to 1): upgrade" in problem.message
    part = root / "_parts/s3/t1/trial.json"
    part.write_text(json.dumps({**json.loads(part.read_text()), "schema": 99}))
    assert "upgrade" in load_tables(store, ("trials",), ["s3"]).problems[0].message
    kept = part.read_bytes()
    consolidate(store, "s3")
    assert part.read_bytes() == kept


@pytest.mark.parametrize("name", ["trial.json", "epochs.parquet"])
@pytest.mark.parametrize("content", [b"", b"{]", b"[]", b"{}", b"\xff" * 9])
def test_a_damaged_part_is_named_kept_and_the_rest_is_merged(store, root, name, content):
    run_through(store, "s3", "t2")
    damaged = root / "_parts/s3/t1" / name
    damaged.write_bytes(content)
    assert [problem.path for problem in load_tables(store).problems] == [str(damaged)]
    assert [problem.path for problem in consolidate(store, "s3")] == [str(damaged)]
    assert damaged.read_bytes() == content
    assert pq.read_table(root / "trials/s3/data.parquet")["trial_id"].to_pylist() == ["t2"]
    with pytest.raises(StoreError, match=name):
        load_history(store, "s3", "t1")
    with pytest.raises(StoreError, match=name):
        list(iter_histories(store, "s3"))
    assert load_history(store, "s3", "t2").finished


@pytest.mark.parametrize("table", ["trials", "epochs", "findings", "labels"])
def test_a_merge_never_writes_over_a_damaged_file(store, root, table):
    run_through(store, "s1", "t2")
    damaged = root / table / "s1/data.parquet"
    damaged.write_bytes(b"something")
    parts = files_below(root / "_parts/s1")
    with pytest.raises(StoreError, match=f"{table}/s1/data.parquet.*move it away"):
        consolidate(store, "s1")
    assert damaged.read_bytes() == b"something"
    assert files_below(root / "_parts/s1") == parts


def test_a_damaged_schema_file_is_made_again(store, root):
    file = root / "trials/+schema.parquet"
    sound = file.read_bytes()
    file.write_bytes(b"")
    run_through(store, "s1", "t2")
    assert consolidate(store, "s1") == ()
    assert file.read_bytes() == sound


READ_ONLY = """
import os, sys
sys.path.insert(0, {folder!r})
from store_samples import run_through
from sickbay.trials.store import open_store, StoreError
from sickbay.trials.store.merge import consolidate
from sickbay.trials.store.tables import load_tables
run_through(open_store({warm!r}))  # whatever is imported late is imported now
load_tables(open_store({warm!r}))
if os.getuid() == 0:
    os.setuid(65534)  # for root nothing is read-only
store = open_store({uri!r})
assert load_tables(store).tables["trials"].num_rows == 3
for work in (lambda: run_through(store, "s4"), lambda: consolidate(store, "s3")):
    try:
        work()
    except StoreError as error:
        print(error)
"""


@pytest.fixture
def read_only(store, root):
    """A copy of the store that anybody may read and nobody write, outside pytest's own folder."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "store"
        shutil.copytree(root, copy)
        folders = [Path(folder), copy, *[path for path in copy.rglob("*") if path.is_dir()]]
        for locked in folders:
            locked.chmod(0o555)
        yield copy
        for locked in folders:
            locked.chmod(0o755)


def test_a_read_only_store_is_read_and_says_why_it_is_not_written(read_only, tmp_path):
    before = {name: (read_only / name).read_bytes() for name in files_below(read_only)}
    folder, warm = str(Path(__file__).parents[2] / "support"), str(tmp_path / "warm")
    code = READ_ONLY.format(folder=folder, warm=warm, uri=str(read_only))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.strip().split("\n")
    assert first.startswith(f"cannot write {read_only}/_parts/s4/t1/attempt-1.json")
    assert second.startswith(f"cannot write {read_only}/epochs/s3/data.parquet")
    assert "read-only for you: change its permissions, or choose another --store" in first
    assert {name: (read_only / name).read_bytes() for name in files_below(read_only)} == before


def test_a_full_disk_says_so_and_damages_nothing(store, root):
    before = picture(store)
    files = files_below(root)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (2000, limits[1])
    )  # bytes in one file; Python ignores SIGXFSZ
    try:
        with pytest.raises(StoreError, match=r"cannot write .*epochs.*disk or quota is full: free"):
            consolidate(store, "s3")
        with pytest.raises(StoreError, match=r"epochs\.parquet.*disk or quota is full"):
            write_epochs(store, "s3", "t1", [record_of(e) for e in range(1, 400)])
        with pytest.raises(StoreError, match=r"checkpoint.*disk or quota is full"):
            write_checkpoint(store, "s3", "t1", epoch=1, payload=b"x" * 4000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert files_below(root) == files
    assert picture(store) == before
    consolidate(store, "s3")
    assert picture(store) == before


def test_opening_what_cannot_be_a_store(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="is a file: give a folder"):
        open_store(str(tmp_path / "file"))
    with pytest.raises(StoreError, match="cannot make the store"):
        open_store(str(tmp_path / "file/below"))
    with pytest.raises(StoreError, match=r"there is no store at .*--store or SICKBAY_STORE"):
        open_store(str(tmp_path / "missing"), create=False)
    assert not (tmp_path / "missing").exists()
    with pytest.raises(StoreError, match="cannot open the store 'ftp://x/y'"):
        open_store("ftp://x/y")


def test_a_folder_that_another_user_prepared_is_not_used(tmp_path):
    assert private_folder(tmp_path / "ours").stat().st_mode & 0o777 == 0o700
    assert private_folder(tmp_path / "ours").is_dir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "file").touch()
    for name in ("link", "file"):
        with pytest.raises(OSError, match=r"should be a folder of this user's|File exists"):
            private_folder(tmp_path / name)
    with pytest.raises(StoreError, match="link should be a folder of this user's"):
        make_workdir(tmp_path / "link" / "trial")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_store_by_uri_and_by_relative_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_through(open_store("here"))
    for uri in (f"file://{tmp_path}/here", f"{tmp_path}/here/", "./here"):
        assert trial_states(open_store(uri, create=False), "s1") == {"t1": "completed"}


def other_filesystems(tmp_path):
    from fsspec.implementations.memory import MemoryFileSystem

    memory = MemoryFileSystem(skip_instance_cache=True)
    memory.store, memory.pseudo_dirs = {}, [""]
    (tmp_path / "below").mkdir()
    below = fs.SubTreeFileSystem(str(tmp_path / "below"), fs.LocalFileSystem())
    return {
        "mock": Store(fs._MockFileSystem(), "bucket/store", "mock://bucket/store"),
        "memory": Store(fs.PyFileSystem(fs.FSSpecHandler(memory)), "/bucket/store", "memory://x"),
        "subtree": Store(below, "store", "subtree"),
    }


@pytest.mark.parametrize("kind", ["mock", "memory", "subtree"])
def test_a_store_on_another_file_system(tmp_path, kind):
    store = other_filesystems(tmp_path)[kind]
    local = open_store(str(tmp_path / "local"))
    assert load_tables(store).tables["trials"].num_rows == 0
    for each in (store, local):
        run_through(each, trial_id="t1", lr=1)
        consolidate(each, "s1")
        run_through(each, trial_id="t2", state=TrialState.FAILED, wide="x")
        write_checkpoint(each, "s1", "t2", epoch=2, payload=b"weights")
        consolidate(each, "s1")
        run_through(each, trial_id="t3")
        start_attempt(each, "s1", "t4", device="cpu", started_at=START)
        write_epochs(each, "s1", "t4", [record_of(1)])
        write_sweep(each, SweepRecord("s1", "s", "toy", "grid", "{}", "running", START))
        request(each, "s1", "stop")
    assert picture(store) == picture(local)
    assert trial_states(store, "s1") == trial_states(local, "s1")
    assert list_sweeps(store) == list_sweeps(local)
    assert requested(store, "s1") == "stop"
    assert read_checkpoint(store, "s1", "t2").payload == b"weights"
    assert start_attempt(store, "s1", "t2", device="cpu", started_at=START) == 2
    assert [record.row.epoch for record in read_epoch_records(store, "s1", "t3")] == [1, 2, 3]
    request(store, "s1", None)
    assert requested(store, "s1") is None
    write_trial(store, ended(trial=ended().trial))
