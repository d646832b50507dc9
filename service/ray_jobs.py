"""Drivers as jobs of a Ray cluster, through its Jobs API.

A job is named after its sweep and counts up, so that two drivers of one sweep never share a name.
The cluster needs Sickbay and the sweep's workload installed, or a `runtime_env` that brings them;
the store must be one that its nodes reach. Ray's own variables (RAY_AUTH_MODE, RAY_AUTH_TOKEN) say
how to authenticate.
"""

import contextlib
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ray.job_submission import JobStatus, JobSubmissionClient

from sickbay.service.stored import SweepError
from sickbay.trials.store_files import Store

ALIVE = (JobStatus.PENDING, JobStatus.RUNNING)


@dataclass(frozen=True)
class RayLauncher:
    """Starts drivers as jobs of the cluster whose dashboard is at `address` (http://head:8265).

    `runtime_env` is Ray's: `working_dir`, `pip` or `py_modules` bring the user's code.
    """

    address: str
    runtime_env: Mapping[str, Any] = field(default_factory=dict)

    def start(self, store: Store, sweep_id: str) -> None:
        """Submit `sickbay resume` as a job; raises SweepError if the cluster refuses it."""
        words = ["sickbay", "resume", sweep_id, "--store", store.absolute, "--address", "auto"]
        client = self._client()
        number = len(_jobs_of(client, sweep_id)) + 1
        try:
            client.submit_job(
                entrypoint=shlex.join(words),
                submission_id=f"{sweep_id}.{number}",
                runtime_env=dict(self.runtime_env),
                metadata={"sickbay_sweep": sweep_id},
            )
        except RuntimeError as error:
            raise SweepError(f"the Ray cluster refused the job: {error}") from error

    def kill(self, store: Store, sweep_id: str) -> None:
        """Stop the sweep's jobs; Ray kills what does not end by itself."""
        del store
        client = self._client()
        for job in _jobs_of(client, sweep_id):
            if job.status in ALIVE:
                with contextlib.suppress(RuntimeError):
                    client.stop_job(job.submission_id)

    def log(self, store: Store, sweep_id: str, offset: int) -> bytes:
        """What the sweep's jobs said, one after another, from a byte on."""
        del store
        client = self._client()
        said = b""
        for job in _jobs_of(client, sweep_id):
            with contextlib.suppress(RuntimeError):
                said += str(client.get_job_logs(job.submission_id)).encode()
        return said[offset:]

    def _client(self) -> JobSubmissionClient:
        try:
            return JobSubmissionClient(self.address)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ConnectionError(
                f"cannot reach the Jobs API of a Ray cluster at {self.address}: {error}"
            ) from error


def _jobs_of(client: JobSubmissionClient, sweep_id: str) -> list[Any]:
    """The jobs of a sweep, the oldest first."""
    mine = [
        job
        for job in client.list_jobs()
        if (job.metadata or {}).get("sickbay_sweep") == sweep_id and job.submission_id
    ]
    return sorted(mine, key=lambda job: job.start_time or 0)
