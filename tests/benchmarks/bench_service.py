"""The service under load from a second process: 32 connections, a store of 10,000 trials.

    list      GET /api/sweeps                 page     GET /api/sweeps/{id}/trials?offset=…
    goals     over 300 requests/s, p99 under 250 ms, no error, flat memory, while a sweep is
              submitted and 1,000 listeners hold event streams open

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

import numpy as np

from sickbay.service.client import Client

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "plugin_demo"), str(ROOT / "benchmarks")]
os.environ["PYTHONPATH"] = str(ROOT / "plugin_demo")

from bench_report import SWEEP, write_large  # noqa: E402

CONNECTIONS, LISTENERS, TRIALS = 32, 1000, 10_000
RATE, P99 = 300.0, 0.250
GROWTH = 1.15  # of the resident memory between the first and the last quarter


async def ask(host: str, port: int, path: str, reader=None, writer=None):
    """One GET over an open connection; gives the status and the seconds."""
    began = time.perf_counter()
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode())
    await writer.drain()
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    length = next(int(one.split(b":")[1]) for one in lines if one.startswith(b"content-length"))
    await reader.readexactly(length)
    return int(head.split()[1]), time.perf_counter() - began


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


async def listeners(port: int, seconds: float) -> int:
    """Open 1,000 event streams and hold them; gives how many were still open at the end."""

    async def one() -> bool:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET /api/events HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode())
        await writer.drain()
        head = await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(seconds)
        alive = b" 200 " in head and not reader.at_eof()
        writer.close()
        return alive

    return sum(await asyncio.gather(*[one() for _ in range(LISTENERS)]))


def hold(port: int, seconds: float, queue) -> None:
    """A third process, so that listeners take no time from those who ask."""
    queue.put(asyncio.run(listeners(port, seconds)))


def memory(pid: int) -> float:
    """Resident memory of a process, in MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> int:
    """Measure, print, and compare with the goals."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    with tempfile.TemporaryDirectory() as folder:
        store = str(write_large(Path(folder), TRIALS).root)  # 50 epochs: the reports' sweep
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
        code = "from sickbay.service.cli import main; main()"
        words = [sys.executable, "-c", code, "serve", "--store", store, "--port", str(port)]
        server = subprocess.Popen([*words, "--allow-code", "submit"], stderr=subprocess.DEVNULL)
        try:
            return measure(server.pid, port, SWEEP, seconds)
        finally:
            server.terminate()
            server.wait()


def measure(pid: int, port: int, sweep_id: str, seconds: float) -> int:
    """Load the service, submit a sweep meanwhile, and judge."""
    client = Client(f"http://127.0.0.1:{port}")
    for _ in range(300):
        try:
            client.sweeps()
            break
        except ConnectionError:
            time.sleep(0.1)
    paths = ["/api/sweeps"]
    paths += [f"/api/sweeps/{sweep_id}/trials?offset={100 * i}" for i in range(TRIALS // 100)]
    queues = [multiprocessing.Queue(), multiprocessing.Queue()]
    asking = multiprocessing.Process(target=load, args=(port, paths, seconds, queues[0]))
    holding = multiprocessing.Process(target=hold, args=(port, seconds, queues[1]))
    holding.start()
    asking.start()
    sizes = []
    spec = {"name": "meanwhile", "workload": "sickbay_demo.task:WORKLOAD", "seeds": 1}
    submitted = client.submit({**spec, "factors": {"fault": ["none"]}})
    for _ in range(20):
        time.sleep(seconds / 20)
        sizes.append(memory(pid))
    answers, open_streams = queues[0].get(), queues[1].get()
    asking.join()
    holding.join()
    state = client.wait(submitted, timeout=120)["state"]
    times = np.array([one[1] for one in answers])
    errors = sum(status != 200 for status, _ in answers)
    growth = max(sizes[-5:]) / max(sizes[5:10])
    p50, p99 = np.quantile(times, [0.5, 0.99])
    result = {
        "requests_per_second": len(answers) / seconds,
        "p50_ms": 1000 * p50,
        "p99_ms": 1000 * p99,
        "errors": errors,
        "memory_mb": sizes[-1],
        "memory_growth": growth,
        "listeners_open": open_streams,
        "submitted_meanwhile": state,
    }
    print(json.dumps(result, indent=1))
    good = len(answers) / seconds > RATE and p99 < P99 and errors == 0 and growth < GROWTH
    return 0 if good and open_streams == LISTENERS and state == "finished" else 1


if __name__ == "__main__":
    sys.exit(main())
