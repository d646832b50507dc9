"""A lane: one worker process that runs planned trials one after another."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ray
from ray.tune import Trainable

from sickbay.trials.events import TrialEnded
from sickbay.trials.execution.trial import TrialRun, job_from_text, run_trial
from sickbay.trials.store import open_store, requested

REPORT_SECONDS = 1.0  # a lane that runs a trial gives Tune a chance to end it this often
PAUSE_SECONDS = 0.2  # between two looks while the sweep is being stopped
# A process that holds so much more memory than after its first trial is replaced by a new one.
GROWTH_BYTES, GROWTH_SHARE = 512 * 2**20, 0.5
PAGE_BYTES = 4096


class Lane(Trainable):  # type: ignore[misc]
    """Takes one job after another from the dispenser; for Tune it is a single long trial."""

    def setup(self, config: dict[str, Any]) -> None:
        """Find the dispenser; the first step takes the first job."""
        self._dispenser = ray.get_actor(config["dispenser"])
        self._store, self._sweep_id = open_store(config["store"]), config["sweep_id"]
        self._run: TrialRun | None = None
        self._ended: dict[str, Any] | None = None  # of the last trial, until it is reported
        self._first_memory = 0
        self._over = False

    def step(self) -> dict[str, Any]:
        """Run trials for a while; done when there is no further job for this lane."""
        deadline = time.monotonic() + REPORT_SECONDS
        while self._run is not None or self._begin():
            assert self._run is not None
            try:
                next(self._run)
            except StopIteration as end:
                self._run, self._ended = None, asdict(TrialEnded.of(end.value))
                self._leave_if_grown(self._ended)
            if time.monotonic() >= deadline:
                break
        return {"done": self._over}

    def cleanup(self) -> None:
        """Let the workload's `finally` run if the lane is ended in the middle of a trial."""
        if self._run is not None:
            self._run.close()

    def _begin(self) -> bool:
        """Report the last trial and begin the next; false if there is none."""
        if requested(self._store, self._sweep_id):
            # The sweep was stopped, and the driver may not know yet: what waits leaves no trace.
            if self._ended is not None:
                ray.get(self._dispenser.end.remote(self.trial_id, self._ended))
                self._ended = None
            time.sleep(PAUSE_SECONDS)
            return False
        text = ray.get(self._dispenser.take.remote(self.trial_id, self._ended))
        self._ended = None
        if text is None:
            self._over = True
            return False
        self._run = run_trial(job_from_text(text))
        return True

    def _leave_if_grown(self, ended: dict[str, Any]) -> None:
        """End this process between two trials if it has grown: Tune begins the lane anew."""
        now = _memory()
        self._first_memory = self._first_memory or now
        if now - self._first_memory > max(GROWTH_BYTES, GROWTH_SHARE * self._first_memory):
            ray.get(self._dispenser.end.remote(self.trial_id, ended, leaves=True))
            ray.actor.exit_actor()


def _memory() -> int:
    """What this process holds in memory, in bytes; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES
    except OSError:
        return 0
