"""The service as a process of its own, and what anybody without a token can do to it."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx2
import pytest
import toy_sweeps
from serving_samples import InlineLauncher, served

from sickbay.service.server import guard as guards
from sickbay.service.server.guard import Guard
from sickbay.service.server.tokens import Role, create_token, list_tokens
from sickbay.service.server.workers import PoolLimits, WorkPool
from sickbay.trials.store import open_store

SERVE = "from sickbay.service.cli.app import main; main()"
FEW = 300  # descriptors: 256 of them are kept in reserve


@pytest.fixture(scope="module")
def store(swept_copy):
    return open_store(str(swept_copy))


@pytest.fixture(scope="module")
def service(store):
    """`sickbay serve` with few descriptors: its port and its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", SERVE, "serve", "--port", str(port), "--store", store.root]
    limited = ["sh", "-c", f'ulimit -n {FEW} && exec "$@"', "sh", *command]
    child = subprocess.Popen(limited, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    for _ in range(600):
        with contextlib.suppress(httpx2.TransportError):
            if httpx2.get(f"{url}/healthz").status_code == 200:
                break
        assert child.poll() is None
        threading.Event().wait(0.1)
    yield port, child
    child.send_signal(signal.SIGTERM)
    child.wait(30)


def test_half_sent_headers_neither_end_the_service_nor_lock_others_out(service):
    port, child = service
    with contextlib.ExitStack() as stack:
        for _ in range(FEW + 100):
            half = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            half.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Half:")
        for path in ("/healthz", "/api/sweeps", "/metrics", "/"):
            assert httpx2.get(f"http://127.0.0.1:{port}{path}", timeout=20).status_code == 200, path
    assert child.poll() is None


ATTACKS = (
    ("query", {"sql": "SELECT count(*) FROM range(100000) a, range(100000) b"}),
    ("query", {"sql": "SELECT content FROM read_text('/etc/passwd')"}),
    ("query", {"sql": "COPY (SELECT 1) TO '/tmp/sickbay-was-here'"}),
    ("plan", {"name": "x", "workload": "longtail", "fixed": {"dataset": "/root"}}),
    ("plan", {"name": "\x1b[31m", "workload": "os:system", "seeds": 10**9}),
    ("plan", {"name": "x" * 3_000_000}),
)


@pytest.mark.slow
def test_others_are_served_within_a_second_while_the_service_is_attacked(service):
    port, child = service
    url, answers, times = f"http://127.0.0.1:{port}", [], []

    def attack(n):
        for route, body in ATTACKS[n % len(ATTACKS) :]:
            with contextlib.suppress(httpx2.TimeoutException):
                answer = httpx2.post(f"{url}/api/{route}", json=body, timeout=5)
                answers.append(answer.status_code)

    httpx2.get(f"{url}/api/sweeps", timeout=20)
    with contextlib.ExitStack() as stack:
        for _ in range(FEW // 2):
            half = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            half.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Half:")
        attackers = [threading.Thread(target=attack, args=(n,)) for n in range(12)]
        for attacker in attackers:
            attacker.start()
        while any(attacker.is_alive() for attacker in attackers) or len(times) < 200:
            for path in ("/healthz", "/api/sweeps", "/"):
                began = time.monotonic()
                answers.append(httpx2.get(f"{url}{path}", timeout=20).status_code)
                times.append(time.monotonic() - began)
        for attacker in attackers:
            attacker.join()
    assert sorted(times)[int(0.99 * len(times))] < 1.0
    assert max(answers) < 500
    assert child.poll() is None
    assert not Path("/tmp/sickbay-was-here").exists()


def test_no_duckdb_is_loaded_into_the_serving_process(service):
    port, child = service
    url = f"http://127.0.0.1:{port}"
    sweep = httpx2.get(f"{url}/api/sweeps").json()["sweeps"][0]["sweep_id"]
    trial = httpx2.get(f"{url}/api/sweeps/{sweep}/trials").json()["trials"][0]["trial_id"]
    asked = ["", "/trials", f"/trials/{trial}", f"/trials/{trial}/epochs", "/effects", "/report"]
    for path in asked:
        assert httpx2.get(f"{url}/api/sweeps/{sweep}{path}", timeout=60).status_code == 200, path
    assert "duckdb" not in Path(f"/proc/{child.pid}/maps").read_text()


def test_a_request_that_never_ends_its_headers_is_closed(store, monkeypatch):
    from sickbay.service.server import connections

    monkeypatch.setattr(connections.BoundedProtocol, "header_seconds", 0.2)
    with (
        served(store) as url,
        socket.create_connection(("127.0.0.1", int(url[-5:].split(":")[-1]))) as half,
    ):
        half.sendall(b"GET / HTTP/1.1\r\n")
        half.settimeout(30)
        assert half.recv(1) == b""


PROXIES = """
    X-Forwarded-For X-Forwarded-Host X-Forwarded-Proto Forwarded X-Real-IP Via CF-Connecting-IP
    True-Client-IP Client-IP X-Original-Host CDN-Loop
""".split()


def test_a_proxy_does_not_open_a_service_without_tokens(store):
    with served(store) as url:
        for header in PROXIES:
            answer = httpx2.get(f"{url}/api/sweeps", headers={header: "203.0.113.9"})
            assert answer.status_code == 403, header
            assert "sickbay token create" in answer.json()["error"]["message"]
        assert httpx2.get(f"{url}/api/sweeps").status_code == 200


def test_a_proxy_in_front_of_tokens_is_welcome(tmp_path):
    store = open_store(str(tmp_path / "store"))
    headers = {"Authorization": f"Bearer {create_token(store, 'a', Role.READ)}", "Via": "1.1 proxy"}
    with served(store) as url:
        assert httpx2.get(f"{url}/api/sweeps", headers=headers).status_code == 200


@pytest.mark.parametrize("host", ["[", "", "[::1"])
def test_a_senseless_host_is_refused(store, host):
    with served(store) as url:
        assert httpx2.get(f"{url}/api/sweeps", headers={"Host": host}).status_code in {400, 403}


def test_health_and_page_answer_while_the_store_hangs(tmp_path, monkeypatch):
    """A pipe in place of a file: opening it waits, as with an object store that stalls."""
    monkeypatch.setattr(guards, "FRESH_SECONDS", 0.05)
    store = open_store(str(tmp_path / "store"))
    secret = create_token(store, "a", Role.READ)
    tokens = tmp_path / "store" / "_service" / "tokens.json"
    with served(store) as url:
        tokens.unlink()
        os.mkfifo(tokens)
        while httpx2.get(f"{url}/readyz", timeout=10).json()["store_read_seconds_ago"] < 0.5:
            threading.Event().wait(0.05)
        headers = {"Authorization": f"Bearer {secret}"}
        for path in ("/healthz", "/", "/api/sweeps"):
            assert httpx2.get(f"{url}{path}", headers=headers, timeout=10).status_code == 200, path
        writer = os.open(tokens, os.O_RDWR)
        tokens.unlink()  # or the next look would wait for a writer, too
        os.close(writer)  # lets the reader go


def test_damaged_tokens_leave_the_last_good_ones(tmp_path):
    store = open_store(str(tmp_path / "store"))
    secret = create_token(store, "a", Role.READ)
    guard = Guard(store)
    file = tmp_path / "store" / "_service" / "tokens.json"
    good = file.read_text()
    file.write_text(good[: len(good) // 2])
    guard.read()
    assert guard.caller(secret).name == "a"
    assert "holds no tokens" in guard.trouble
    file.write_text(good)
    guard.read()
    assert guard.trouble is None


def test_readiness_says_what_is_missing_without_a_token(tmp_path):
    store = open_store(str(tmp_path / "store"))
    create_token(store, "a", Role.READ)
    with served(store) as url:
        assert httpx2.get(f"{url}/readyz").json()["ready"] is True
        (tmp_path / "store" / "_service" / "tokens.json").write_text("{broken")
        for _ in range(300):
            answer = httpx2.get(f"{url}/readyz")
            if answer.status_code == 503:
                break
            threading.Event().wait(0.1)
        assert answer.json()["missing"] == [
            "the tokens in the store cannot be read: those read last stay valid"
        ]
        assert str(tmp_path) not in answer.text


def test_invented_methods_make_no_series(store):
    with served(store) as url:
        for number in range(30):
            httpx2.request(f"BREW{number}", f"{url}/healthz")
        text = httpx2.get(f"{url}/metrics").text
    assert 'method="other"' in text
    assert "BREW" not in text


def test_a_body_that_is_too_large_gets_an_answer_and_no_reset(store):
    with served(store) as url:
        for content in (b"x" * 5 * 2**20, (b"x" * 2**20 for _ in range(8))):
            answer = httpx2.post(f"{url}/api/query", content=content, timeout=30)
            assert answer.status_code == 413


def test_six_posts_of_one_spec_make_one_sweep(tmp_path):
    store, launcher = open_store(str(tmp_path / "store")), InlineLauncher()
    spec = json.dumps(toy_sweeps.spec(factors={"fault": ["none"]}, seeds=1))
    with served(store, launcher, code_role=Role.ADMIN) as url:
        answers = []

        def post():
            answers.append(httpx2.post(f"{url}/api/sweeps", content=spec, timeout=60))

        posts = [threading.Thread(target=post) for _ in range(6)]
        for thread in posts:
            thread.start()
        for thread in posts:
            thread.join()
        launcher.wait()
    assert sorted(answer.status_code for answer in answers) == [200] * 5 + [201]
    assert len({answer.json()["sweep_id"] for answer in answers}) == 1
    assert len(launcher.started) == 1


def test_a_plan_comes_in_pages(store):
    spec = toy_sweeps.spec(factors={"fault": ["none", "nan"]}, seeds=30)
    with served(store, code_role=Role.READ) as url:
        answer = httpx2.post(f"{url}/api/plan?offset=50&limit=20", json=spec).json()
        assert (answer["total"], len(answer["trials"])) == (60, 10)
        from sickbay.service.client import Client

        with Client(url) as client:
            whole = client.plan(spec)
    assert len({trial["trial_id"] for trial in whole["trials"]}) == 60


def test_many_long_constraints_are_refused_before_they_are_asked(store):
    spec = toy_sweeps.spec(factors={"fault": ["none", "nan"]}, seeds=1)
    spec["constraints"] = [f"fault != 'nan{number}'" + " or true" * 50 for number in range(30)]
    with served(store, code_role=Role.READ) as url:
        answer = httpx2.post(f"{url}/api/plan", json=spec)
    assert answer.status_code == 422
    assert "constraints" in answer.json()["error"]["message"]


@pytest.mark.slow
def test_sixteen_clients_on_every_route_see_no_error_of_ours(store):
    with served(store) as url:
        sweep = httpx2.get(f"{url}/api/sweeps").json()["sweeps"][0]["sweep_id"]
        below = ["", "/trials", "/effects", "/report", "/logs", "/tables/trials"]
        paths = [f"/api/sweeps/{sweep}{suffix}" for suffix in below]
        paths += ["/api/detectors", "/api/workloads", "/api/sweeps", "/metrics", "/healthz", "/"]
        seen = set()

        def ask():
            with httpx2.Client(base_url=url, timeout=120) as client:
                for number in range(100):
                    seen.add(client.get(paths[number % len(paths)]).status_code)

        clients = [threading.Thread(target=ask) for _ in range(16)]
        for thread in clients:
            thread.start()
        for thread in clients:
            thread.join()
    assert seen == {200}


def test_a_pool_of_threads_refuses_what_it_cannot_hold():
    import asyncio

    from sickbay.service.query.pool import BusyError
    from sickbay.trials.store.files import StoreError

    held = threading.Event()

    async def scenario():
        pool = WorkPool(PoolLimits(threads=1, waiting=1, seconds=0.2))
        first = asyncio.ensure_future(pool.run(held.wait))
        second = asyncio.ensure_future(pool.run(lambda: 2))
        await asyncio.sleep(0)
        with pytest.raises(BusyError):
            await pool.run(lambda: 3)
        with pytest.raises(StoreError, match=r"no answer within 0\.2 s"):
            await first
        with pytest.raises(StoreError):
            await second
        held.set()
        pool.limits = PoolLimits(threads=1, waiting=3, seconds=None)
        return await pool.run(lambda: 4)

    assert asyncio.run(scenario()) == 4


def test_tokens_made_at_the_same_time_are_all_kept(tmp_path):
    store = open_store(str(tmp_path / "store"))
    code = (
        "import sys; from sickbay.service.server.tokens import *; "
        "from sickbay.trials.store import open_store\n"
        "for n in range(5): create_token(open_store(sys.argv[1]), f'{sys.argv[2]}{n}', Role.READ)"
    )
    command = [sys.executable, "-c", code, store.root]
    makers = [subprocess.Popen([*command, name]) for name in "abc"]
    assert [maker.wait() for maker in makers] == [0, 0, 0]
    assert len(list_tokens(store)) == 15


def test_a_spec_names_no_folder_of_the_services_machine(store, tmp_path):
    (tmp_path / "data" / "mine").mkdir(parents=True)
    (tmp_path / "data" / "out").symlink_to("/etc")
    base = {"name": "walk", "workload": "mvm_orientation", "factors": {}, "seeds": 1}
    with served(store, data_roots=[tmp_path / "data"]) as url:

        def asked(**more):
            return httpx2.post(f"{url}/api/plan", json={**base, **more}, timeout=60)

        for path in ("/", "/root", "/etc", "~", "..", ".", str(tmp_path), f"{tmp_path}/data/out"):
            answer = asked(fixed={"dataset": path})
            assert answer.status_code == 422, path
            assert "--data-root" in answer.json()["error"]["message"]
            factors = {"dataset": ["synthetic", path]}
            assert asked(factors=factors, design="grid").status_code == 422, path
        assert asked(fixed={"dataset": "synthetic"}).status_code == 200
        assert asked(fixed={"dataset": str(tmp_path / "data" / "mine")}).status_code == 200
