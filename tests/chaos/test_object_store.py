"""The store on `s3://` against a real S3 server: whole sweeps, readers, killed writers."""

import http.client
import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter

import boto3
import pytest
import toy_sweeps

from sickbay.service.query.engine import Limits, query
from sickbay.service.query.pool import QueryPool
from sickbay.service.query.status import overview
from sickbay.service.sweeps.runner import Options, run
from sickbay.trials.store import StoreError, open_store
from sickbay.trials.store.files import file_info, read_file, write_file

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(240)]
BUCKET = "sweeps"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="module")
def server():
    """An S3 server in a process of its own; gives its port."""
    port = free_port()
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    os.environ.update(keys, AWS_EC2_METADATA_DISABLED="true")
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(200):
        with socket.socket() as connection:
            if connection.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.1)
    client(port).create_bucket(Bucket=BUCKET)
    yield port
    process.kill()
    process.wait()


def client(port):
    return boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}", region_name="us-east-1")


def uri(port, folder):
    return (
        f"s3://{BUCKET}/{folder}?endpoint_override=127.0.0.1:{port}&scheme=http"
        "&region=us-east-1&allow_bucket_creation=false"
    )


def keys_below(port, folder):
    objects = client(port).list_objects_v2(Bucket=BUCKET, Prefix=folder).get("Contents", [])
    return [entry["Key"] for entry in objects]


SPEC = toy_sweeps.spec(factors={"fault": ["none", "nan", "raise"]}, seeds=2)


def test_a_whole_sweep_and_every_reader(server):
    where = uri(server, "whole")
    result = run(SPEC, where, Options(in_process=True))
    assert Counter(result.states.values()) == {"completed": 2, "stopped": 2, "failed": 2}
    store = open_store(where, create=False)
    sweep = overview(store)[0]
    assert (sweep["state"], sweep["labels"]) == ("finished", {"healthy": 2, "pathological": 2})
    rows = query(store, "SELECT fault, count(*) FROM trials GROUP BY ALL ORDER BY ALL").rows
    assert rows == [("nan", 2), ("none", 2), ("raise", 2)]
    assert query(store, "SELECT count(*) FROM epochs WHERE isnan(val_loss)").rows[0][0] > 0
    assert not [key for key in keys_below(server, "whole/_parts") if key.endswith("trial.json")]
    pool = QueryPool()
    text = "SELECT fault, count(*) FROM trials GROUP BY ALL ORDER BY ALL"
    for _ in range(2):  # started for this, and warm
        answer = json.loads(pool.ask(store, text, Limits()))
        assert answer["rows"] == [list(row) for row in rows]
    pool.close()
    again = run(SPEC, where, Options(in_process=True))
    assert again.ran == 2  # those that failed; nothing else


def test_a_reader_in_between_sees_what_has_ended(server):
    where = uri(server, "between")
    seen = []

    def watch(event):
        del event
        store = open_store(where, create=False)
        seen.append(query(store, "SELECT count(*) FROM trials").rows[0][0])

    spec = toy_sweeps.spec(factors={"fault": ["none"]}, seeds=3)
    run(spec, where, Options(in_process=True), watch)
    assert seen == sorted(seen)
    assert max(seen) == 3


DRIVER = """
import sys
sys.path[:0] = {paths!r}
import toy_sweeps
from sickbay.service.sweeps.runner import Options, run
run(toy_sweeps.spec(factors={{}}, fixed={{"sleep_ms": 30.0}}, seeds=8), {uri!r},
    Options(in_process=True))
"""


def test_a_killed_writer_loses_nothing_and_doubles_nothing(server):
    where = uri(server, "killed")
    paths = [path for path in sys.path if path]
    code = DRIVER.format(paths=paths, uri=where)
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    while not [key for key in keys_below(server, "killed/_parts") if key.endswith("trial.json")]:
        assert process.poll() is None, "the driver ended before it could be killed"
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    store = open_store(where, create=False)
    before = dict(query(store, "SELECT trial_id, finished_at FROM trials").rows)
    assert before
    assert overview(store)[0]["state"] == "interrupted"
    spec = toy_sweeps.spec(factors={}, fixed={"sleep_ms": 30.0}, seeds=8)
    result = run(spec, where, Options(in_process=True))
    after = dict(query(store, "SELECT trial_id, finished_at FROM trials").rows)
    assert result.ran == 8 - len(before)
    assert len(after) == 8
    assert {trial: after[trial] for trial in before} == before
    doubled = "SELECT trial_id, epoch FROM epochs GROUP BY ALL HAVING count(*) > 1"
    assert query(store, doubled).rows == []


RACER = """
import sys
sys.path[:0] = {paths!r}
import toy_sweeps
from sickbay.service.sweeps.runner import Options, run
from sickbay.trials.execution.lease import AlreadyDrivenError
print("ready", flush=True)
sys.stdin.readline()
try:
    ran = run(toy_sweeps.spec(factors={{}}, seeds=6), {uri!r}, Options(in_process=True)).ran
except AlreadyDrivenError:
    ran = None
print(ran)
"""


def test_of_two_drivers_that_begin_at_once_one_runs_the_sweep(server):
    for attempt in range(3):
        where = uri(server, f"race-{attempt}")
        code = RACER.format(paths=[path for path in sys.path if path], uri=where)
        racers = [
            subprocess.Popen(
                [sys.executable, "-c", code],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            for _ in range(2)
        ]
        assert [racer.stdout.readline() for racer in racers] == ["ready\n"] * 2
        for racer in racers:
            racer.stdin.write("\n")
            racer.stdin.flush()
        ran = [racer.communicate()[0].strip() for racer in racers]
        # a second that looks only when the first has ended finds nothing missing
        assert sorted(ran) in (["6", "None"], ["0", "6"])
        store = open_store(where, create=False)
        assert query(store, "SELECT count(*) FROM trials WHERE attempt = 1").rows == [(6,)]
        doubled = "SELECT trial_id, epoch FROM epochs GROUP BY ALL HAVING count(*) > 1"
        assert query(store, doubled).rows == []
        assert overview(store)[0]["state"] == "finished"


def test_wrong_credentials_are_a_sentence(server, monkeypatch):
    """The server does not check keys, so the proxy refuses them as S3 would."""
    with proxy(server, refuse=403) as port:
        store = open_store(uri(port, "whole"), create=False)
        with pytest.raises(StoreError, match=r"cannot (read|list|write) .*sweeps/whole") as caught:
            read_file(store, f"{store.root}/trials/x/data.parquet")
    assert "ACCESS" in str(caught.value).upper()


def test_slow_and_failing_requests_are_survived(server):
    """Every third request fails with 503 or takes a while: the client tries again."""
    with proxy(server, every_third=True) as port:
        result = run(
            toy_sweeps.spec(factors={"fault": ["none"]}, seeds=2),
            uri(port, "slow"),
            Options(in_process=True),
        )
    assert Counter(result.states.values()) == {"completed": 2}


def test_an_unreachable_store_is_a_sentence():
    store = open_store(uri(free_port(), "nowhere"))
    with pytest.raises(StoreError, match="cannot write"):
        write_file(store, f"{store.root}/x", b"x")
    with pytest.raises(StoreError, match="cannot read"):
        file_info(store, f"{store.root}/x")


class proxy:  # noqa: N801  used in a `with`
    """Stands between a client and the server, and misbehaves as it is told."""

    def __init__(self, server, *, refuse=None, every_third=False):  # noqa: C901
        self.server, self.refuse, self.every_third, self.n = server, refuse, every_third, 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def pass_on(self):
                outer.n += 1
                body = self.whole_body()
                third = outer.every_third and outer.n % 3 == 0
                if third and outer.n % 2:
                    time.sleep(0.5)
                if outer.refuse or (third and outer.n % 2 == 0):
                    self.answer(outer.refuse or 503, {}, b"")
                    return
                link = http.client.HTTPConnection("127.0.0.1", outer.server, timeout=60)
                kept = {"transfer-encoding", "content-length", "expect", "x-amz-trailer"}
                passed = {k: v for k, v in self.headers.items() if k.lower() not in kept}
                link.request(self.command, self.path, body, passed)
                got = link.getresponse()
                self.answer(got.status, dict(got.getheaders()), got.read())
                link.close()

            def whole_body(self):
                if "chunked" not in self.headers.get("transfer-encoding", ""):
                    return self.rfile.read(int(self.headers.get("content-length", 0)))
                body = b""
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                while self.rfile.readline().strip():
                    pass  # trailers: checksums that the server does without
                return body

            def answer(self, status, headers, body):
                self.send_response(status)
                for name, value in headers.items():
                    if name.lower() not in {"content-length", "connection", "transfer-encoding"}:
                        self.send_header(name, value)
                known = headers.get("Content-Length", headers.get("content-length"))
                head = self.command == "HEAD" and known is not None
                self.send_header("Content-Length", known if head else str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = pass_on  # noqa: N815

            def log_message(self, *arguments):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self.http.server_port

    def __exit__(self, *error):
        self.http.shutdown()
        self.http.server_close()
