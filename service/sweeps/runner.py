"""A sweep from its spec to its stored, labelled trials: prepare, run, resume, stop, describe.

    result = sickbay.service.sweeps.run("examples/quickstart.yaml")

`run` runs only what is not stored yet. The state of a sweep lives in the store, not in Ray.
"""

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sickbay.service.query.lookup import SweepError
from sickbay.service.settings import settings
from sickbay.service.sweeps.jobs import (
    Running,
    both,
    check_scheduler,
    clear_scratch,
    cpu_of,
    run_here,
    run_on_ray,
)
from sickbay.service.sweeps.prepare import Prepared, enlist, prepare
from sickbay.service.sweeps.webhooks import Notifier, Webhook, WebhookFormat
from sickbay.trials.contract import TrialState
from sickbay.trials.events import ErrorStorm, Event, TrialEnded, Watch
from sickbay.trials.execution.lease import LeaseKeeper, driven, driving
from sickbay.trials.execution.standings import update_standings
from sickbay.trials.spec.model import SEARCHES
from sickbay.trials.store import Store, open_store, request, requested, write_sweep
from sickbay.trials.store.merge import consolidate
from sickbay.trials.store.reader import trial_states

__all__ = ["Options", "Prepared", "Stopper", "SweepResult", "ask", "prepare", "run", "run_prepared"]


GRACE_SECONDS = 30.0  # that a cancelled trial has to end after its present evaluation
# What trials that run when the budget's hours are over may take longer, before they are cancelled.
EXTRA_SECONDS, EXTRA_SHARE = 60.0, 0.1


@dataclass(frozen=True)
class Options:
    """Where and how to run. `address` None starts a local Ray with `cpus` cores (None: all).

    With `in_process` the trials run here one after another, without Ray.
    """

    address: str | None = None
    cpus: int | None = None
    in_process: bool = False


@dataclass(frozen=True)
class SweepResult:
    """The result of running a sweep: its state, and the numbers of trials run and planned.

    `states` is the state of every stored trial by its id, `note` what is no error and worth
    knowing.
    """

    sweep_id: str
    store: str
    state: str
    ran: int
    planned: int
    states: Mapping[str, str]
    error: str = ""
    note: str = ""

    @property
    def failed(self) -> int:
        """The number of failed trials in the store."""
        return sum(state == TrialState.FAILED for state in self.states.values())


class Stopper:
    """Lets a signal handler end a run. Idempotent.

    `on_cancel` tells the workers, from a thread of its own, as a signal may arrive at any moment.
    """

    def __init__(self) -> None:
        """Begin without a request to stop."""
        self._asked = threading.Event()
        self.cancelled = False
        self.on_cancel: Callable[[], None] = lambda: None

    def stop(self) -> None:
        """Start no further trials; running ones finish."""
        self._asked.set()

    def cancel(self) -> None:
        """Start no further trials, and end running ones after their current evaluation."""
        self.cancelled = True
        self._asked.set()
        threading.Thread(target=self.on_cancel, daemon=True).start()

    @property
    def asked(self) -> bool:
        """Whether a stop was requested."""
        return self._asked.is_set()


def run(
    source: "str | bytes | Path | dict[str, Any]",
    store: str = "./sickbay-results",
    options: Options | None = None,
    watch: Watch | None = None,
    stopper: Stopper | None = None,
) -> SweepResult:
    """Run what is missing of a sweep and wait; raises SpecError, StoreError, AlreadyDrivenError."""
    return run_prepared(prepare(source, store), options or Options(), watch, stopper)


def run_prepared(
    prepared: Prepared, options: Options, watch: Watch | None = None, stopper: Stopper | None = None
) -> SweepResult:
    """Run the missing trials; the same exception in three trials in a row ends the sweep."""
    _check_address(options.address)
    check_scheduler(prepared, in_process=options.in_process)
    store = open_store(prepared.store.uri)
    with driving(store, prepared.sweep_id) as heart, _ray(prepared, options):
        request(store, prepared.sweep_id, None)
        record = enlist(prepared, "running" if prepared.left else "finished")
        notifier = Notifier(chosen_webhook(), prepared.sweep_id)
        ender = RunMonitor(prepared, stopper or Stopper(), both(watch or _ignore, notifier.see))
        ender.lost = lambda: heart.lost
        ender.stopper.on_cancel = lambda: request(store, prepared.sweep_id, "cancel")
        error = ""
        try:
            _run_jobs(prepared, options, ender, heart)
        except ErrorStorm as storm:
            error = str(storm)
        finally:
            heart.check()  # what another driver has taken over is its own to write
            clear_scratch(prepared)
            problems = consolidate(store, prepared.sweep_id)
        if not problems:
            update_standings(store, prepared.sweep_id)
        state = "failed" if error else ender.state()
        states = trial_states(store, prepared.sweep_id)
        # a sequential sweep or an exhausted search is complete with fewer trials than it might have
        planned = len(states) if ender.complete else prepared.planned
        record = replace(record, state=state, finished_at=time.time(), trials_planned=planned)
        write_sweep(store, record)
    notifier.end(state, dict(Counter(states.values())), error)
    messages = [*([error] if error else []), *map(str, problems), *notifier.troubles]
    if prepared.spec.sinks:
        from sickbay.service.sweeps.sinks import fill_sinks  # noqa: PLC0415  trackers are slow

        messages += fill_sinks(store, prepared.sweep_id, prepared.spec.sinks)
    error = "\n".join(messages)
    note = _used_up(prepared, len(states)) if ender.complete else ""
    return SweepResult(
        prepared.sweep_id, store.uri, state, ender.ended, planned, states, error, note
    )


def _used_up(prepared: Prepared, trials: int) -> str:
    """Why a search is complete with fewer trials than its budget; empty where it is not."""
    if prepared.spec.design not in SEARCHES or trials >= prepared.planned:
        return ""
    allowed = " that every constraint allows" if prepared.spec.constraints else ""
    return (
        f"the search ended after {trials} of {prepared.planned} trials: it found no further "
        f"configuration{allowed}. Widen factors, or relax constraints"
    )


def ask(store: Store, sweep_id: str, what: str) -> None:
    """Ask the driver and workers of a running sweep to `stop` or `cancel`; raises SweepError."""
    assert what in ("stop", "cancel"), what
    if not driven(store, sweep_id):
        raise SweepError(f"the sweep {sweep_id} is not running, so there is nothing to {what}")
    request(store, sweep_id, "stop" if what == "stop" else "cancel")
    if not driven(store, sweep_id):  # it has just ended: no driver reads the request
        request(store, sweep_id, None)


def chosen_webhook() -> Webhook | None:
    """The webhook of the environment; SweepError for an unknown format."""
    chosen = settings()
    if chosen.webhook is None:
        return None
    if chosen.webhook_format not in list(WebhookFormat):
        raise SweepError(
            f"SICKBAY_WEBHOOK_FORMAT: {chosen.webhook_format!r} is none of "
            f"{', '.join(WebhookFormat)}"
        )
    return Webhook(chosen.webhook, WebhookFormat(chosen.webhook_format), chosen.webhook_secret)


def _ignore(event: Event) -> None:
    """An observer that does nothing."""


class RunMonitor:
    """Watches a run: counts ended trials, and decides when no further trial may start."""

    def __init__(self, prepared: Prepared, stopper: Stopper, watch: Watch) -> None:
        self._prepared = prepared
        self.stopper = stopper
        self._watch = watch
        self._started = time.monotonic()
        self._polled = self._started
        self._gpu_seconds = 0.0
        self._requested: str | None = None
        self._cancelled_at: float | None = None
        self._gpu_share = 0.0
        self.complete = False  # a search may end with fewer trials than its budget has
        self.ended = 0
        self.lost: Callable[[], bool] = lambda: False  # whether another driver has taken over

    def see(self, event: Event) -> None:
        if isinstance(event, TrialEnded):
            self.ended += event.state != TrialState.CANCELLED
            self._gpu_seconds += event.wall_seconds * self._gpu_share
        self._watch(event)

    def grant(self, gpus: float) -> None:
        """Take in what each trial gets of the GPUs from now on."""
        self._gpu_share = gpus

    def stopping(self) -> bool:
        now = time.monotonic()
        if self.lost():
            return True
        if now - self._polled >= 1.0:
            self._polled = now
            self._requested = requested(self._prepared.store, self._prepared.sweep_id)
        if self._requested is None and (self.stopper.asked or self._over_budget()):
            self._requested = "stop"
            if not self.stopper.cancelled:  # which tells the workers itself
                # to those trials, too, that were handed to Ray and have not begun
                request(self._prepared.store, self._prepared.sweep_id, "stop")
        return self._requested is not None

    def overdue(self) -> bool:
        """Whether to kill running trials: they were cancelled, and did not end in time.

        So they are at once when another driver has taken the sweep over.
        """
        if self.lost():
            return True
        if self._requested == "stop" and self._long_over_budget():
            self._requested = "cancel"
            request(self._prepared.store, self._prepared.sweep_id, "cancel")
        if self._requested != "cancel" and not self.stopper.cancelled:
            return False
        if self._cancelled_at is None:
            self._cancelled_at = time.monotonic()
        return time.monotonic() - self._cancelled_at >= GRACE_SECONDS

    def state(self) -> str:
        """The state of the sweep when the run is over."""
        if self.complete or self.ended == self._prepared.left:
            return "finished"
        asked = requested(self._prepared.store, self._prepared.sweep_id)
        cancelled = self.stopper.cancelled or asked == "cancel"
        return "cancelled" if cancelled else "stopped"

    def _long_over_budget(self) -> bool:
        """Whether running trials have had time to end after the budget's hours were used up."""
        hours = self._prepared.spec.budget.hours
        if hours is None:
            return False
        extra = max(EXTRA_SECONDS, EXTRA_SHARE * hours * 3600)
        return time.monotonic() - self._started >= hours * 3600 + extra

    def _over_budget(self) -> bool:
        budget = self._prepared.spec.budget
        hours = (time.monotonic() - self._started) / 3600
        over = budget.hours is not None and hours >= budget.hours
        gpu_hours = self._gpu_seconds / 3600
        return over or (budget.gpu_hours is not None and gpu_hours >= budget.gpu_hours)


def _check_address(address: str | None) -> None:
    """Refuse an address that is no Ray to connect to, before anything is written."""
    if address is not None and "://" in address:
        raise SweepError(
            f"--address {address!r} is reached through its Jobs API, by `sickbay submit` and "
            "`sickbay run`; to drive a sweep from this process, give `auto` on a machine of the "
            "cluster, or the head's address as host:6379"
        )


def _run_jobs(prepared: Prepared, options: Options, ender: RunMonitor, heart: LeaseKeeper) -> None:
    if not prepared.left:
        return
    if options.in_process:
        running = Running(ender.see, ender.stopping, lease=heart.lease)
        ender.complete = run_here(prepared, running)
        return
    from sickbay.trials.execution import ray_cluster as ray  # noqa: PLC0415  Ray is slow

    asked = prepared.spec.resources
    wanted = prepared.workload.resources.gpu
    share = ray.share_of(cpu_of(prepared), asked.gpu, asked.gpu_memory, wanted)
    if options.address is None:
        ray.check_fits(share)
    shared = heart if options.address is not None else None  # a local Ray is not shared
    running = Running(ender.see, ender.stopping, shared, ender.overdue, heart.lease, ender.grant)
    ender.complete = run_on_ray(prepared, running, share)


def _ray(prepared: Prepared, options: Options) -> contextlib.AbstractContextManager[None]:
    """The connection to Ray, made before a sweep's row is written; none in process."""
    if options.in_process or not prepared.left:
        return contextlib.nullcontext()
    from sickbay.trials.execution import ray_cluster as ray  # noqa: PLC0415  Ray is slow

    return ray.connected(ray.Cluster(options.address, options.cpus))
