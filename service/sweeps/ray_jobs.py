"""Drivers as jobs of a Ray cluster, through its Jobs API.

A job is named after its sweep and counts up. The cluster needs Sickbay and the workload installed,
or a `runtime_env` that brings them, and must reach the store. Ray's own variables (RAY_AUTH_MODE,
RAY_AUTH_TOKEN) say how to authenticate.
"""

import contextlib
import shlex
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient

from sickbay.service.query.lookup import SweepError
from sickbay.service.sweeps.launcher import MAIN
from sickbay.trials.execution.lease import driven
from sickbay.trials.store.files import Store

ALIVE = (JobStatus.PENDING, JobStatus.RUNNING)
MARK = "sickbay_sweep"  # the key of a job's metadata that names its sweep
LEAVING_SECONDS = 20.0  # in which a driver that has let go of its sweep is out of the way


@dataclass(frozen=True)
class RayLauncher:
    """Starts drivers as jobs of the cluster whose dashboard is at `address` (http://head:8265).

    `runtime_env` is Ray's: `working_dir`, `pip` or `py_modules` bring the user's code. Every method
    raises ConnectionError if the cluster cannot be reached, or refuses the token.
    """

    address: str
    runtime_env: Mapping[str, Any] = field(default_factory=dict)

    def start(self, store: Store, sweep_id: str) -> None:
        """Submit `sickbay resume` as a job; raises SweepError if the cluster refuses it.

        A job of this sweep that is about to begin is enough.
        """
        with self._client() as client:
            jobs = _jobs_of(client, sweep_id)
            ends = time.monotonic() + LEAVING_SECONDS
            while _alive(jobs) and not driven(store, sweep_id) and time.monotonic() < ends:
                time.sleep(0.5)
                jobs = _jobs_of(client, sweep_id)
            if _alive(jobs):
                return
            try:
                client.submit_job(
                    entrypoint=entrypoint(store, sweep_id),
                    submission_id=f"{sweep_id}.{len(jobs) + 1}",
                    runtime_env=dict(self.runtime_env),
                    metadata={MARK: sweep_id},
                )
            except (RuntimeError, ValueError) as error:
                raise SweepError(f"the Ray cluster refused the job: {_first(error)}") from error

    def kill(self, store: Store, sweep_id: str) -> None:
        """Stop the sweep's jobs; Ray kills what does not end by itself."""
        del store
        with self._client() as client:
            for job in _alive(_jobs_of(client, sweep_id)):
                with contextlib.suppress(RuntimeError):
                    client.stop_job(job.submission_id)

    def log(self, store: Store, sweep_id: str, offset: int) -> bytes:
        """The logs of the sweep's jobs, concatenated, from a byte offset."""
        del store
        said = b""
        with self._client() as client:
            for job in _jobs_of(client, sweep_id):
                with contextlib.suppress(RuntimeError):
                    said += str(client.get_job_logs(job.submission_id)).encode()
        return said[offset:]

    def gone(self, store: Store, sweep_id: str) -> str | None:
        """Why a queued sweep's driver will never start; None while it may."""
        del store
        with self._client() as client:
            jobs = _jobs_of(client, sweep_id)
        if _alive(jobs):
            return None
        if not jobs:
            return f"the Ray cluster at {self.address} has no job of it"
        last = jobs[-1]
        return f"its job {last.submission_id} {last.status.value.lower()}: {_first(last.message)}"

    def pending(self, sweep_id: str) -> bool:
        """Whether a job of the sweep waits or runs."""
        with self._client() as client:
            return bool(_alive(_jobs_of(client, sweep_id)))

    @contextlib.contextmanager
    def _client(self) -> Iterator[JobSubmissionClient]:
        try:
            yield JobSubmissionClient(self.address)
        except AuthenticationError as error:
            raise ConnectionError(
                f"the Ray cluster at {self.address} refuses this token: set RAY_AUTH_MODE=token "
                f"and RAY_AUTH_TOKEN to the cluster's ({_first(error)})"
            ) from error
        except (ConnectionError, RuntimeError) as error:
            raise ConnectionError(
                f"cannot reach the Jobs API of a Ray cluster at {self.address}: {_first(error)}. "
                "It is the address of the dashboard, http://HEAD:8265 unless set otherwise"
            ) from error


def entrypoint(store: Store, sweep_id: str) -> str:
    """The driver's command line, where `sickbay` may not be on the head's path.

    The environment that Ray makes for `pip` of the runtime_env has a Python that sees what was
    installed, but no `sickbay`; a head that shares this file system finds the one that submits.
    """
    arguments = ["resume", sweep_id, "--trust-code", "--store", store.absolute, "--address", "auto"]
    folder = shlex.quote(str(Path(sys.executable).parent))
    return (
        f'export PATH="$PATH":{folder}; python="$VIRTUAL_ENV/bin/python"; '
        'if [ -n "$VIRTUAL_ENV" ] && "$python" -c "import sickbay.service" 2>/dev/null; '
        f'then exec "$python" -c {shlex.join([MAIN, *arguments])}; fi; '
        f"exec {shlex.join(['sickbay', *arguments])}"
    )


def _alive(jobs: list[Any]) -> list[Any]:
    return [job for job in jobs if job.status in ALIVE]


def _jobs_of(client: JobSubmissionClient, sweep_id: str) -> list[Any]:
    """The jobs of a sweep, the oldest first."""
    mine = [
        job
        for job in client.list_jobs()
        if (job.metadata or {}).get(MARK) == sweep_id and job.submission_id
    ]
    return sorted(mine, key=lambda job: job.start_time or 0)


def _first(error: object) -> str:
    """The first line of Ray's message; the rest is its own traceback or advice."""
    return str(error).strip().partition("\n")[0].rstrip(".")
