"""The service under load from a second process: 32 connections, a store of 10,000 trials.

    list      GET /api/sweeps                 page     GET /api/sweeps/{id}/trials?offset=…
    trial     GET /api/sweeps/{id}/trials/{trial}: any of the 10,000, and its epochs
    goals     over 300 requests/s, p99 under 250 ms, no error, flat memory; then over 300
              requests/s while 1,000 listeners hold event streams open and a sweep is submitted
              and trained on the same cores

`python tests/benchmarks/bench_service.py [SECONDS]`; 60 by default.
"""

import asyncio
import json
import multiprocessing
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from figures import Figure, tell

from sickbay.service.client import Client

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "support"), str(ROOT / "plugin_demo"), str(ROOT / "benchmarks")]
os.environ["PYTHONPATH"] = str(ROOT / "plugin_demo")

from bench_report import SWEEP, write_large  # noqa: E402

CONNECTIONS, LISTENERS, TRIALS = 32, 1000, 10_000
RATE, P99 = 300.0, 0.250
GROWTH = 1.15  # of the resident memory between the first and the last quarter


async def ask(host: str, port: int, path: str, reader=None, writer=None):
    """One GET over an open connection; gives the status, the seconds, and the path."""
    began = time.perf_counter()
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode())
    await writer.drain()
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    length = next(int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length"))
    await reader.readexactly(length)
    return int(head.split()[1]), time.perf_counter() - began, path


async def connection(port: int, paths: list[str], until: float, seed: int, out: list) -> None:
    """Ask one path after another until the time is over."""
    source = random.Random(seed)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.monotonic() < until:
        out.append(await ask("127.0.0.1", port, source.choice(paths), reader, writer))
    writer.close()


def load(port: int, paths: list[str], seconds: float, queue) -> None:
    """The second process: 32 connections that ask as fast as they are answered."""

    async def run() -> list:
        out: list = []
        until = time.monotonic() + seconds
        many = [connection(port, paths, until, i, out) for i in range(CONNECTIONS)]
        await asyncio.gather(*many)
        return out

    queue.put(asyncio.run(run()))


async def listeners(port: int, seconds: float, opened) -> int:
    """Open 1,000 event streams, say so, hold them; gives how many were still open at the end."""

    async def one():
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET /api/events HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode())
        await writer.drain()
        head = await reader.readuntil(b"\r\n\r\n")
        return b" 200 " in head, reader, writer

    streams = await asyncio.gather(*[one() for _ in range(LISTENERS)])
    opened.set()
    await asyncio.sleep(seconds)
    return sum(good and not reader.at_eof() for good, reader, _ in streams)


def hold(port: int, seconds: float, queue, opened) -> None:
    """A third process, so that listeners take no time from those who ask."""
    queue.put(asyncio.run(listeners(port, seconds, opened)))


def memory(pid: int) -> float:
    """Resident memory of a process, in MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> int:
    """Measure, print, and compare with the goals."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    with tempfile.TemporaryDirectory() as folder:
        store = str(write_large(Path(folder), TRIALS).root)  # 50 epochs: the reports' sweep
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        code = "from sickbay.service.cli.app import main; main()"
        command = [sys.executable, "-c", code, "serve", "--store", store, "--port", str(port)]
        server = subprocess.Popen([*command, "--allow-code", "submit"], stderr=subprocess.DEVNULL)
        try:
            return measure(server.pid, port, SWEEP, seconds)
        finally:
            server.terminate()
            server.wait()


def paths_of(client: Client, sweep_id: str) -> list[str]:
    """The list of sweeps, every page of the trials, and as many single trials."""
    pages = [f"/api/sweeps/{sweep_id}/trials?offset={100 * i}" for i in range(TRIALS // 100)]
    ids = random.Random(0).sample(list(client.trials(sweep_id)["trial_id"]), 2000)
    trials = [
        f"/api/sweeps/{sweep_id}/trials/{trial_id}{more}"
        for trial_id in ids
        for more in ("", "/epochs")
    ]
    # one kind of path is asked for as often as another, and every trial is another one
    return ["/api/sweeps"] * len(trials) + pages * (len(trials) // len(pages)) + trials


def kind_of(path: str) -> str:
    """What kind of page a path is."""
    return "list" if path == "/api/sweeps" else "page" if "offset" in path else "trial"


def milliseconds(answers: list, kind: str) -> dict[str, float]:
    """The median and the 99th percentile of one kind of page."""
    times = [seconds for _, seconds, path in answers if kind_of(path) == kind]
    p50, p99 = np.quantile(times, [0.5, 0.99])
    return {"p50": 1000 * p50, "p99": 1000 * p99, "n": len(times)}


def measure(pid: int, port: int, sweep_id: str, seconds: float) -> int:
    """Load the service alone, then with listeners and a sweep beside it, and judge."""
    client = Client(f"http://127.0.0.1:{port}")
    for _ in range(300):
        try:
            client.sweeps()
            break
        except ConnectionError:
            time.sleep(0.1)
    paths = paths_of(client, sweep_id)
    alone = under_load(pid, port, paths, seconds)
    print(json.dumps({"alone": alone}, indent=1), flush=True)

    streams = multiprocessing.Queue()
    opened = multiprocessing.Event()
    holding = multiprocessing.Process(target=hold, args=(port, seconds + 5, streams, opened))
    holding.start()
    assert opened.wait(60), "the listeners were not let in"
    spec = {"name": "meanwhile", "workload": "sickbay_demo.task:WORKLOAD", "seeds": 1}
    submitted = client.submit({**spec, "factors": {"fault": ["none"]}})
    beside = under_load(pid, port, paths, seconds)
    beside["listeners_open"] = streams.get()
    holding.join()
    beside["submitted_meanwhile"] = client.wait(submitted, timeout=120)["state"]
    print(json.dumps({"with 1,000 listeners and a sweep": beside}, indent=1))
    assert beside["submitted_meanwhile"] == "finished"
    return tell(
        [
            *figures_of("alone", alone),
            *figures_of(f"beside {LISTENERS:,} listeners and a sweep", beside),
            Figure("listeners that stay", beside["listeners_open"], "", LISTENERS, at_least=True),
        ]
    )


def figures_of(when: str, found: dict[str, Any]) -> list[Figure]:
    """The figures of a load, each with its limit."""
    p99 = 1000 * P99 if when == "alone" else None
    return [
        Figure(f"{when}: requests", found["requests_per_second"], "/s", RATE, at_least=True),
        Figure(f"{when}: 99 % of the answers within", found["p99_ms"], "ms", p99),
        *(
            Figure(f"{when}: 99 % of the answers, a {kind}", found[f"ms of a {kind}"]["p99"], "ms")
            for kind in ("list", "page", "trial")
        ),
        Figure(f"{when}: errors", found["errors"], "", 0),
        Figure(f"{when}: memory, last quarter to first", found["memory_growth"], "x", GROWTH),
    ]


def under_load(pid: int, port: int, paths: list[str], seconds: float) -> dict[str, Any]:
    """Ask for so many seconds; how many answers came, how soon, and what memory it took."""
    queue, sizes = multiprocessing.Queue(), []
    asking = multiprocessing.Process(target=load, args=(port, paths, seconds, queue))
    asking.start()
    for _ in range(20):
        time.sleep(seconds / 20)
        sizes.append(memory(pid))
    answers = queue.get()
    asking.join()
    return {
        "requests_per_second": len(answers) / seconds,
        "p99_ms": 1000 * np.quantile([answer[1] for answer in answers], 0.99),
        "errors": sum(status != 200 for status, _, _ in answers),
        **{f"ms of a {kind}": milliseconds(answers, kind) for kind in ("list", "page", "trial")},
        "memory_mb": sizes[-1],
        "memory_growth": max(sizes[-5:]) / max(sizes[5:10]),
    }


if __name__ == "__main__":
    sys.exit(main())
