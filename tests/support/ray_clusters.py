"""Real Rays of several nodes on this machine, each node a tree of processes that can be killed."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

BIN = Path(sys.executable).parent
TOKEN = "0123456789abcdef" * 4
START_SECONDS = 120.0
# A lost node is noticed after five seconds instead of half a minute.
NOTICE = {"health_check_initial_delay_ms": 5000, "health_check_period_ms": 1000}


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@dataclass
class Node:
    """One `ray start --block`, its head's address and dashboard."""

    process: subprocess.Popen
    address: str
    dashboard: str
    folder: str

    def kill(self):
        """Kill every process of the node at once, as a machine that loses its power; gives them."""
        tree = {*descendants(self.process.pid), self.process.pid}
        for pid in tree:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        return tree


class RayCluster:
    """A head and its workers; `env` is what a user of it must have in the environment."""

    def __init__(self, token=TOKEN):
        """Start nothing yet. The folder's path is short: Ray's sockets lie in it."""
        self.folder = tempfile.mkdtemp(prefix="sb-ray-", dir="/tmp")
        self.nodes = []
        self.env = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
        self.env |= {"OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
        self.env |= {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}

    def head(self, cpus):
        """Start a head; gives it when its Jobs API answers."""
        port, dashboard = free_port(), free_port()
        options = ["--head", f"--port={port}", "--dashboard-host=127.0.0.1"]
        options += [f"--dashboard-port={dashboard}", f"--temp-dir={self.folder}"]
        options += [f"--ray-client-server-port={free_port()}", "--node-ip-address=127.0.0.1"]
        options += [f"--system-config={json.dumps(NOTICE)}"]
        return self._start(options, cpus, f"127.0.0.1:{port}", f"http://127.0.0.1:{dashboard}")

    def worker(self, head, cpus):
        """Join a node to a head."""
        options = [f"--address={head.address}", "--node-ip-address=127.0.0.1"]
        return self._start(options, cpus, head.address, head.dashboard)

    def stop(self):
        """Kill whatever is left."""
        for node in self.nodes:
            node.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self, options, cpus, address, dashboard):
        ports = [f"--dashboard-agent-listen-port={free_port()}"]
        ports += [f"--metrics-export-port={free_port()}", "--min-worker-port=0"]
        ports += ["--max-worker-port=0", "--object-store-memory=80000000", f"--num-cpus={cpus}"]
        process = subprocess.Popen(
            [BIN / "ray", "start", "--block", "--disable-usage-stats", *options, *ports],
            env=self.env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        node = Node(process, address, dashboard, self.folder)
        self.nodes.append(node)
        ends = time.monotonic() + START_SECONDS
        while not answers(dashboard) or not any(map(is_raylet, descendants(process.pid))):
            assert process.poll() is None, "a Ray node ended at once"
            assert time.monotonic() < ends, "a Ray node did not come up"
            time.sleep(0.2)
        return node

    def sickbay(self, *arguments, **more):
        """Run the command line as a user of this cluster; gives the ended process."""
        return subprocess.run(
            [BIN / "sickbay", *map(str, arguments)],
            env=self.env | more.pop("env", {}),
            capture_output=True,
            text=True,
            check=False,
            timeout=180,
            **more,
        )


def answers(url):
    try:
        urllib.request.urlopen(f"{url}/api/version", timeout=2)
    except urllib.error.HTTPError:
        return True  # it asks for the token
    except OSError:
        return False
    return True


def descendants(pid):
    """The processes below one, from /proc."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    pids, fresh = [], [pid]
    while fresh:
        fresh = [child for child, parent in parents.items() if parent in fresh]
        pids += fresh
    return pids


def is_raylet(pid):
    with contextlib.suppress(OSError):
        return b"/raylet/raylet" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False
