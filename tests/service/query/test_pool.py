"""Queries in processes of their own: bombs end in time, and nothing is left behind."""

import ast
import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from serving_samples import served

from sickbay.service.api import routes_read
from sickbay.service.query import pool as query_pool
from sickbay.service.query import process as query_process
from sickbay.service.query import worker
from sickbay.service.query.engine import Cancel, Limits, QueryError
from sickbay.service.query.pool import AdmissionQueue, BusyError, PoolRules, QueryPool, own_queries
from sickbay.trials.store import StoreError, open_store
from sickbay.trials.store.files import locate_store

# One call of a scalar function each: no interrupt is looked at before it is over.
HOURS = "SELECT levenshtein(repeat('a', 1000000), repeat('b', 1000000))"
GIGABYTE = "SELECT repeat('x', 1000000000)"
JSON = {"Content-Type": "application/json"}
LIMITS = Limits(memory="1GB", threads=2, seconds=10.0, rows=1000)


@pytest.fixture(scope="module")
def store(swept_copy):
    return open_store(str(swept_copy))


@pytest.fixture
def pool():
    made = QueryPool(PoolRules(processes=2))
    yield made
    made.close()
    assert children() == []


def children(of=None):
    """The processes for queries that a process of this machine has, without the pages' own."""
    pids, own = [], {process._child.pid for process in own_queries()._living}
    for path in Path(f"/proc/{of or os.getpid()}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            pids += [int(word) for word in path.read_text().split() if int(word) not in own]
    return sorted(pid for pid in pids if "query.worker" in command(pid))


def command(pid):
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text()
    return ""


def wait_until(true, seconds=10.0):
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.02)


def ended(pid):
    """Whether a child is over; /proc calls it dead when only its first thread is."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None


def wait_until_busy(pid, more=0.2):
    """Wait until a process that has begun works for so many seconds more."""
    before = cpu_seconds(pid)
    wait_until(lambda: cpu_seconds(pid) > before + more, 30.0)


def rows(pool, store, sql, limits=LIMITS):
    return json.loads(pool.ask(store, sql, limits))["rows"]


def test_answers_and_mistakes_are_those_of_a_query(pool, store, tmp_path):
    sql = "SELECT label, count(*) AS n FROM trials GROUP BY ALL ORDER BY ALL"
    answer = json.loads(pool.ask(store, sql, LIMITS))
    assert answer == {
        "columns": ["label", "n"],
        "types": ["VARCHAR", "BIGINT"],
        "rows": [["healthy", 2], ["pathological", 2]],
        "truncated": False,
        "problems": [],
    }
    assert rows(pool, store, "SELECT 'nan'::DOUBLE, '-inf'::DOUBLE") == [["NaN", "-Infinity"]]
    for sql, message in (
        ("SELECT labl FROM trials", "Candidate bindings"),
        ("DROP TABLE trials", "only SELECT is allowed"),
        (f"COPY (SELECT 1) TO '{tmp_path}/x'", "only SELECT is allowed"),
        ("SELECT '\ud800'", "half a character"),
        ("SELECT '290000-01-01'::DATE", "cannot be written as JSON"),
        ("SELECT repeat('x', 1000000) FROM range(100)", "larger than 64 MiB"),
    ):
        with pytest.raises(QueryError, match=message):
            pool.ask(store, sql, LIMITS)
    with pytest.raises(QueryError, match="Conversion Error") as caught:
        pool.ask(store, "SELECT CAST(repeat('x', 1000000) AS INT)", LIMITS)
    assert len(str(caught.value)) < 11_000
    assert len(children()) == 1  # none of this cost a process


def test_a_store_that_cannot_be_read_is_reported_as_such(pool, tmp_path):
    (tmp_path / "trials").write_text("no folder")
    with pytest.raises(StoreError, match="trials"):
        pool.ask(locate_store(str(tmp_path)), "SELECT * FROM trials", LIMITS)


@pytest.mark.parametrize("bomb", [HOURS, GIGABYTE])
def test_a_call_that_no_interrupt_reaches_ends_in_time(store, monkeypatch, bomb):
    monkeypatch.setattr(routes_read, "SQL_LIMITS", Limits(memory="1GB", threads=2, seconds=0.5))
    with served(store) as url:
        assert post(url, "SELECT 1")[0] == 200
        began = time.monotonic()
        status, body = post(url, bomb)
        assert time.monotonic() - began < 2.5
        message = body["error"]["message"]
        assert status == 400
        assert "took longer than 0.5 s" in message or "more memory than 1GB" in message
        assert post(url, "SELECT 42")[1]["rows"] == [[42]]
    assert children() == []


def test_memory_that_duckdb_does_not_count_is_bounded(store):
    pool = QueryPool(PoolRules(room=200 * 2**20))
    try:
        with pytest.raises(QueryError, match="the query needs more memory than 8GB"):
            pool.ask(store, "SELECT length(repeat('x', 1000000000))", Limits(memory="8GB"))
        assert rows(pool, store, "SELECT count(*) FROM trials") == [[4]]
    finally:
        pool.close()


def test_a_client_that_leaves_ends_its_query(store):
    with served(store) as url:
        assert post(url, "SELECT 1")[0] == 200
        (working,) = children()
        leaving = http.client.HTTPConnection(urlsplit(url).netloc)
        leaving.request("POST", "/api/query", json.dumps({"sql": HOURS}), JSON)
        wait_until_busy(working)
        leaving.close()
        wait_until(lambda: working not in children(), 3.0)
        assert post(url, "SELECT 42")[1]["rows"] == [[42]]


def test_no_process_is_left_when_the_service_ends(pool, store):
    rows(pool, store, "SELECT 1")
    with ThreadPoolExecutor() as threads:
        hung = threads.submit(pool.ask, store, HOURS, LIMITS)
        wait_until_busy(children()[0])
        pool.close()
        assert children() == []
        with pytest.raises(QueryError, match="the service is shutting down"):
            hung.result(5)
    with pytest.raises(QueryError, match="the service is shutting down"):
        pool.ask(store, "SELECT 1", LIMITS)
    pool.open()
    assert rows(pool, store, "SELECT 1") == [[1]]


def test_a_process_dies_with_a_service_that_is_killed(store):
    code = f"""
from sickbay.service.query.pool import Limits, QueryPool
from sickbay.trials.store.files import locate_store
pool, store = QueryPool(), locate_store({store.uri!r})
print(pool.ask(store, "SELECT 1", Limits()), flush=True)
pool.ask(store, {HOURS!r}, Limits(seconds=60.0))
"""
    service = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert b"[[1]]" in service.stdout.readline()
    (working,) = children(service.pid)
    wait_until_busy(working)
    service.send_signal(signal.SIGKILL)
    service.communicate()
    wait_until(lambda: not command(working), 5.0)


def test_queries_run_side_by_side_and_in_turn(pool, store):
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda n: rows(pool, store, f"SELECT {n}"), range(24)))
    assert answers == [[[n]] for n in range(24)]
    assert len(children()) <= 2


def test_one_bomb_does_not_hold_the_others_up(pool, store):
    with ThreadPoolExecutor() as threads:
        bomb = threads.submit(pool.ask, store, HOURS, Limits(seconds=0.5))
        assert [rows(pool, store, f"SELECT {n}") for n in range(3)] == [[[0]], [[1]], [[2]]]
        with pytest.raises(QueryError, match=r"took longer than 0\.5 s"):
            bomb.result()


def test_a_full_queue_asks_to_retry_later(store, monkeypatch):
    monkeypatch.setattr(query_pool, "PoolRules", lambda: PoolRules(processes=1, waiting=0))
    monkeypatch.setattr(routes_read, "SQL_LIMITS", Limits(memory="1GB", threads=1, seconds=1.0))
    with served(store) as url, ThreadPoolExecutor() as threads:
        assert post(url, "SELECT 1")[0] == 200
        (working,) = children()
        bomb = threads.submit(post, url, HOURS)
        wait_until_busy(working)
        status, body = post(url, "SELECT 1")
        assert (status, body["error"]["code"]) == (429, "busy")
        assert bomb.result()[0] == 400


def test_the_line_is_in_the_order_of_asking():
    line, order = AdmissionQueue(places=1, waiting=3, seconds=20.0), []
    line.enter(Cancel())

    def wait(name):
        line.enter(Cancel())
        order.append(name)
        line.leave()

    threads = []
    for name in range(3):
        threads.append(threading.Thread(target=wait, args=(name,)))
        threads[-1].start()
        wait_until(lambda: len(line._waiting) == len(threads))
    with pytest.raises(BusyError, match="3 queries are already waiting"):
        line.enter(Cancel())
    line.leave()
    for thread in threads:
        thread.join()
    assert order == [0, 1, 2]
    assert (line._free, len(line._waiting)) == (1, 0)


def test_who_waits_too_long_or_leaves_is_out_of_the_line():
    line, cancel = AdmissionQueue(places=1, waiting=1, seconds=0.05), Cancel()
    line.enter(Cancel())
    with pytest.raises(BusyError, match=r"waited 0\.05 s"):
        line.enter(Cancel())
    line._seconds = 20.0
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(line.enter, cancel)
        wait_until(lambda: line._waiting)
        cancel.now()
        with pytest.raises(QueryError, match="its caller disconnected"):
            waiting.result(5)
    assert not line._waiting
    line.leave()
    assert line._free == 1


def test_a_process_that_was_killed_from_outside_is_replaced(pool, store):
    assert rows(pool, store, "SELECT 1") == [[1]]
    (idle,) = children()
    os.kill(idle, signal.SIGKILL)
    wait_until(lambda: ended(idle))
    assert rows(pool, store, "SELECT 2") == [[2]]
    with ThreadPoolExecutor() as threads:
        hung = threads.submit(pool.ask, store, HOURS, LIMITS)
        (busy,) = children()
        wait_until_busy(busy)
        os.kill(busy, signal.SIGKILL)
        with pytest.raises(QueryError, match="SIGKILL"):
            hung.result(5)


def test_a_process_imports_what_a_query_needs_and_unpickles_nothing():
    code = "import sys, sickbay.service.query.worker as w; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"torch", "ray", "fastapi", "pandas", "scipy", "typer", "rich"}
    for module in (query_pool, query_process, worker):
        tree = ast.parse(Path(module.__file__).read_text())
        names = {
            n.name for node in ast.walk(tree) if isinstance(node, ast.Import) for n in node.names
        }
        assert not names & {"pickle", "marshal", "multiprocessing", "shelve"}


def cpu_seconds(pid):
    """What a process has used so far; 0 for one that is gone."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def post(url, sql):
    """Ask a service; gives the status and the body."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    connection.request("POST", "/api/query", json.dumps({"sql": sql}), JSON)
    answer = connection.getresponse()
    reply = answer.status, json.loads(answer.read())
    connection.close()
    return reply
