"""`make chaos`: sweeps whose processes are killed at random, and what they left.

Each kill waits until a further few trials have ended, so that most fall into the middle of a run.
A sweep that lost its driver is resumed; one that is finished makes room for the next. What is
stored is judged by pandas alone.
"""

import contextlib
import json
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pandas as pd
import toy_sweeps
import yaml
from ray_clusters import descendants

SICKBAY = Path(sys.executable).parent / "sickbay"
PLUGINS = Path(__file__).parents[1] / "plugin_demo"
TRIALS, EPOCHS = 90, 16
MOST_TRIALS = 4  # that end between two kills
RETRIES = 50  # a trial may be hit often
HANG_SECONDS = 300.0  # in which something must have happened, on a busy machine, too
SLEEP_SECONDS = 3.0  # that a stopped driver sleeps
GOES_ON = ("lane", "worker", "sleep")  # after these the driver that runs finishes the sweep
# The others cost a new Ray each, a dozen CPU seconds: they are drawn less often.
KINDS = (*GOES_ON * 4, "driver", "group", "node", "raylet", "gcs", "terminate")


class Soak:
    """One soak; `kills` counts those made by kind, `faults` says in words what was wrong."""

    def __init__(self, folder, seed, kinds=KINDS, seconds=math.inf):
        self.ends = time.monotonic() + seconds  # when it kills nothing more
        self.folder, self.kinds, self.random = Path(folder), kinds, random.Random(seed)
        self.kills, self.faults = Counter(), []
        self.sweeps = 0
        self.child = None

    def run(self, kills):
        """Kill so often; then let the last sweep come to its end."""
        while not self._enough(kills) and not self.faults:
            self._begin_sweep()
            while self._next_kill(kills) and not self.faults:
                pass
            self._check_rows()
            print(f"sweep {self.sweeps}: {self.kills.total()} kills so far", flush=True)
        return self

    def _enough(self, kills):
        return self.kills.total() >= kills or time.monotonic() > self.ends

    def _begin_sweep(self):
        self.sweeps += 1
        self.store = self.folder / f"store-{self.sweeps}"
        spec = toy_sweeps.spec(factors={}, fixed={"sleep_ms": 20.0}, seeds=TRIALS, retries=RETRIES)
        self.spec = self.folder / "spec.yaml"
        self.spec.write_text(yaml.safe_dump(spec))
        self._start()

    def _start(self):
        path = os.pathsep.join([str(PLUGINS), os.environ.get("PYTHONPATH", "")])
        with (self.folder / "log").open("ab") as log:
            self.child = subprocess.Popen(
                [SICKBAY, "run", self.spec, "--store", self.store, "--cpus", "2"],
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            )

    def _next_kill(self, kills):
        """Let the sweep go on for a few trials and kill something; false once it has ended."""
        goal = self._ended() + self.random.randint(1, MOST_TRIALS)
        if self._enough(kills):
            goal = TRIALS + 1
        if self._wait(lambda: self._ended() >= goal or self.child.poll() is not None):
            if self.child.poll() is None:
                self._kill(self.random.choice(self.kinds))
            elif self._finished():
                return False
            else:  # it ended by what was done to it
                self._check_status()
                self._start()
        return True

    def _kill(self, kind):
        pids = self._victims(kind)
        if not pids:
            return
        self.kills[kind] += 1
        number = {"terminate": signal.SIGTERM, "sleep": signal.SIGSTOP}.get(kind, signal.SIGKILL)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        if kind == "sleep":
            time.sleep(SLEEP_SECONDS)
            os.kill(self.child.pid, signal.SIGCONT)
        if kind not in GOES_ON:
            self._wait(lambda: self.child.poll() is not None)
            for pid in pids:  # what a machine that is gone would not leave behind
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _victims(self, kind):
        below = descendants(self.child.pid)
        named = {
            "worker": [pid for pid in below if title(pid).startswith("ray::")],
            "raylet": [pid for pid in below if "/raylet/raylet" in title(pid)],
            "gcs": [pid for pid in below if "/gcs/gcs_server" in title(pid)],
            "lane": [pid for pid in below if pid in self._busy()],
        }
        if kind in named:
            return self.random.sample(named[kind], min(1, len(named[kind])))
        alive = [pid for pid in below if kind == "node" or group(pid) == self.child.pid]
        return [self.child.pid, *alive] if kind in ("node", "group") else [self.child.pid]

    def _busy(self):
        """The processes that have begun a trial and not ended it."""
        pids = set()
        for marker in self.store.glob("_parts/*/*/attempt-*.json"):
            with contextlib.suppress(OSError, ValueError):
                if not marker.with_name("trial.json").exists():
                    pids.add(json.loads(marker.read_text())["pid"])
        return pids

    def _ended(self):
        parts = {one.parent.name for one in self.store.glob("_parts/*/*/trial.json")}
        merged = next(self.store.glob("trials/*/data.parquet"), None)
        if merged is not None:
            with contextlib.suppress(OSError):
                parts |= set(pd.read_parquet(merged, columns=["trial_id"])["trial_id"])
        return len(parts)

    def _status(self):
        words = [SICKBAY, "status", "toy", "--store", self.store, "--json"]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        return json.loads(done.stdout) if done.returncode == 0 else {"state": done.stderr}

    def _finished(self):
        return self.child.returncode == 0 and self._status()["state"] == "finished"

    def _check_status(self):
        """Nothing runs, and what has ended is counted."""
        found = self._status()
        if "ended" not in found:
            return  # killed before the sweep's row was written
        if found["state"] == "finished" and found["ended"] == TRIALS:
            return  # it was hit after its last trial: what it says is true
        if found["state"] not in ("interrupted", "cancelled", "stopped", "failed"):
            self.faults.append(f"status says {found['state']} of a sweep without a driver")
        if found["running"]:
            self.faults.append(f"status says that {found['running']} trials run")

    def _check_rows(self):
        trials = pd.read_parquet(self.store / "trials")
        epochs = pd.read_parquet(self.store / "epochs")
        each = epochs.groupby("trial_id")["epoch"].agg(["count", "nunique", "min", "max"])
        lost = TRIALS - trials["trial_id"].nunique() + int((each["nunique"] != EPOCHS).sum())
        doubled = len(trials) - trials["trial_id"].nunique()
        doubled += int((each["count"] - each["nunique"]).sum())
        wrong = sorted(set(trials["state"]) - {"completed"})
        if lost or doubled or wrong or len(each) != TRIALS:
            self.faults.append(f"sweep {self.sweeps}: {lost} lost, {doubled} doubled, {wrong}")

    def _wait(self, question):
        ends = time.monotonic() + HANG_SECONDS
        while time.monotonic() < ends:
            if question():
                return True
            time.sleep(0.1)
        self.faults.append(f"sweep {self.sweeps} hangs after {dict(self.kills)}")
        return False

    def close(self):
        """Leave no process behind."""
        if self.child is not None and self.child.poll() is None:
            for pid in [self.child.pid, *descendants(self.child.pid)]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.child.wait()


def group(pid):
    """The process group of a process; None for one that is gone."""
    with contextlib.suppress(ProcessLookupError):
        return os.getpgid(pid)
    return None


def title(pid):
    """The command line of a process; empty for one that is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""


def main():
    """Soak as `KILLS`, `MINUTES` and `SEED` in the environment say, print what came of it."""
    seed = int(os.environ.get("SEED") or time.time())
    kills = int(os.environ.get("KILLS") or 300)
    most = float(os.environ.get("MINUTES") or math.inf)
    print(f"seed {seed}: {kills} kills, at most {most:g} min", flush=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="sickbay-soak-") as folder:
        soak = Soak(folder, seed, seconds=60 * most)
        try:
            soak.run(kills)
        finally:
            soak.close()
    for kind, count in sorted(soak.kills.items()):
        print(f"{kind:>10} {count:4d}")
    minutes = (time.monotonic() - began) / 60
    print(f"{soak.kills.total()} kills in {soak.sweeps} sweeps, {minutes:.1f} min")
    print("\n".join(soak.faults) or "0 lost, 0 doubled, 0 hangs, status truthful")
    return int(bool(soak.faults))


if __name__ == "__main__":
    sys.exit(main())
