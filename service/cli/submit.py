"""The verbs about sweeps that run elsewhere: submit, logs; and run, resume, stop, cancel there."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sickbay.service.cli.options import (
    AddressOption,
    SpecArgument,
    StoreOption,
    SweepArgument,
    chosen_address,
    chosen_service,
    existing_store,
    store_uri,
)

if TYPE_CHECKING:
    from sickbay.service.client import Client
    from sickbay.service.sweeps.launcher import Launcher
    from sickbay.service.sweeps.prepare import Prepared
    from sickbay.trials.store import Store, SweepRecord

POLL_SECONDS = 1.0
LAST_POLLS = 20  # that a driver whose sweep is over is given to say its last
LIVE = ("queued", "running")

WaitOption = Annotated[bool, typer.Option("--wait", help="Follow the sweep until it is over.")]
EnvOption = Annotated[
    Path | None,
    typer.Option(
        "--runtime-env",
        help="A YAML or JSON file with Ray's runtime_env (working_dir, pip, …), for Ray jobs.",
    ),
]
FollowOption = Annotated[bool, typer.Option("-f", "--follow", help="Go on until it is over.")]


def add_verbs(app: typer.Typer) -> None:
    """Add this file's verbs to the command line."""
    for verb in (submit, logs):
        app.command()(verb)


def submit(
    spec: SpecArgument,
    store: StoreOption = None,
    address: AddressOption = None,
    runtime_env: EnvOption = None,
    wait: WaitOption = False,
) -> None:
    """Start a sweep on a service, a Ray cluster or in the background; prints its id."""
    from sickbay.service.cli.sweeps import source

    service = chosen_service(address)
    text = source(spec)
    if service is not None:
        sweep_id = service.submit(text)
        print(sweep_id)
        if wait:
            raise typer.Exit(follow_remote(service, sweep_id))
        return
    from sickbay.service.sweeps.prepare import prepare

    prepared = prepare(text, store_uri(store))
    code = submit_job(prepared, chosen_address(address), runtime_env, wait=wait)
    if wait:
        raise typer.Exit(code)


def logs(
    sweep: SweepArgument,
    trial: Annotated[
        str | None, typer.Argument(help="A trial's id, to follow this trial alone.")
    ] = None,
    store: StoreOption = None,
    address: AddressOption = None,
    follow: FollowOption = False,
) -> None:
    """The log of a submitted sweep's driver; with --trial, a trial's evaluations and its error."""
    if trial is not None:
        _print_trial(existing_store(store), sweep, trial)
        return
    service = chosen_service(address)
    if service is not None:
        for piece in service.logs(sweep, follow=follow):
            sys.stdout.write(piece)
            sys.stdout.flush()
        return
    from sickbay.service.query.lookup import find_sweep

    opened = existing_store(store)
    sweep_id = find_sweep(opened, sweep).sweep_id
    launcher = _launcher(chosen_address(address), None)
    if follow:
        _follow(opened, sweep_id, launcher)
        return
    said = launcher.log(opened, sweep_id, 0).decode(errors="replace")
    sys.stdout.write(said or f"no log: {sweep_id} was run in the foreground, or elsewhere\n")


def submit_job(
    prepared: "Prepared", address: str | None, runtime_env: Path | None = None, *, wait: bool = True
) -> int:
    """Start a sweep's driver elsewhere, print the sweep's id, and follow it; gives the exit code.

    What is missing is run; a sweep that runs already is followed.
    """
    from sickbay.service.sweeps.launcher import submit

    launcher = _launcher(address, runtime_env)
    began = len(launcher.log(prepared.store, prepared.sweep_id, 0)) if wait else 0
    submit(prepared, launcher)
    print(prepared.sweep_id, flush=True)
    return _follow(prepared.store, prepared.sweep_id, launcher, began, rest=True) if wait else 0


def cancel_job(store: "Store", record: "SweepRecord", address: str) -> None:
    """Cancel a sweep that runs as a Ray job; returns when it has ended."""
    from sickbay.service.sweeps.launcher import cancel

    cancel(store, record, _launcher(address, None))


def follow_remote(service: "Client", sweep: str) -> int:
    """Stream a sweep's log from a service until it is over; returns the exit code."""
    while True:
        for piece in service.logs(sweep, follow=True):
            sys.stdout.write(piece)
            sys.stdout.flush()
        record = service.sweep(sweep)
        if record["state"] not in LIVE:
            return _ending(record)
        time.sleep(POLL_SECONDS)  # still queued: its driver has not begun


def _follow(
    store: "Store", sweep_id: str, launcher: "Launcher", offset: int = 0, *, rest: bool = False
) -> int:
    """Stream a driver's log until its sweep is over; `rest` also prints the verdicts afterwards.

    A sweep that has begun is followed by its store alone when its cluster cannot be reached any
    more: if the head is lost, the sweep is soon known to be interrupted.
    """
    from sickbay.service.query.status import describe

    lasts, lost = 0, False
    while True:
        record = describe(store, sweep_id)
        over = record["state"] not in LIVE
        lasts += over
        waits = record["state"] == "queued" or (over and rest)
        gone, piece = None, b""
        try:
            gone = launcher.gone(store, sweep_id) if waits else None
            piece = launcher.log(store, sweep_id, offset)
        except ConnectionError as error:
            if record["state"] == "queued" or (over and not rest and not lost):
                raise
            if not lost:
                typer.echo(f"sickbay: {error}", err=True)
            lost, gone = True, "its cluster cannot be reached"
        offset += len(piece)
        sys.stdout.write(piece.decode(errors="replace"))
        sys.stdout.flush()
        if over and (gone is not None or not rest or lasts > LAST_POLLS):
            return _ending(record)
        if not over and gone is not None and describe(store, sweep_id)["state"] == "queued":
            _interrupt(store, sweep_id)
            typer.echo(f"sickbay: {sweep_id} never started: {gone}", err=True)
            return 1
        time.sleep(POLL_SECONDS)


def _interrupt(store: "Store", sweep_id: str) -> None:
    """Mark a sweep as interrupted if its driver will never start."""
    from dataclasses import replace

    from sickbay.trials.execution.lease import driven
    from sickbay.trials.store import write_sweep
    from sickbay.trials.store.reader import read_sweep

    record = read_sweep(store, sweep_id)
    if record is not None and record.state == "queued" and not driven(store, sweep_id):
        write_sweep(store, replace(record, state="interrupted"))


def _ending(record: dict[str, Any]) -> int:
    failed = record["states"].get("failed", 0)
    print(
        f"{record['sweep_id']} is {record['state']}: {record['ended']} of {record['planned']} ended"
    )
    return 1 if failed or record["state"] in {"failed", "interrupted"} else 0


def _launcher(address: str | None, runtime_env: Path | None) -> "Launcher":
    from sickbay.service.sweeps.launcher import launcher_at
    from sickbay.service.sweeps.remote import jobs_api

    if runtime_env is not None and jobs_api(address) is None:
        raise typer.BadParameter(
            "a runtime_env belongs to a Ray job: give --address http://head:8265",
            param_hint="--runtime-env",
        )
    return launcher_at(address, None, _environment(runtime_env) if runtime_env else None)


def _environment(file: Path) -> dict[str, Any]:
    """Read a file with Ray's runtime_env."""
    import yaml

    try:
        environment = yaml.safe_load(file.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = f"cannot read {file}: {error}"
        raise typer.BadParameter(reason, param_hint="--runtime-env") from error
    if not isinstance(environment, dict):
        reason = f"{file} is not a mapping; use Ray's keys, such as `working_dir: .`"
        raise typer.BadParameter(reason, param_hint="--runtime-env")
    return environment


def _print_trial(store: "Store", sweep: str, trial: str) -> None:
    """A trial's evaluations, one per line, and how it ended, from the store."""
    from sickbay.service.query.engine import epochs, find_trial
    from sickbay.service.query.engine import query as ask
    from sickbay.service.query.lookup import find_sweep
    from sickbay.service.summary.formatting import recorded
    from sickbay.trials.store.reader import read_output

    sweep_id = find_sweep(store, sweep).sweep_id
    rows = ask(
        store, "SELECT * FROM trials WHERE starts_with(trial_id, ?)", [trial], sweep_ids=[sweep_id]
    ).records()
    trial_id = rows[0]["trial_id"] if len(rows) == 1 else trial
    if len(rows) > 1:
        find_trial(store, trial)  # says which ones
    lines = epochs(store, sweep_id, trial_id).records()
    keys = {"sweep_id", "trial_id", "attempt", "epoch", "step", "seconds"}
    for line in lines:
        numbers = [
            f"{name} {recorded(value)}"
            for name, value in line.items()
            if name not in keys and value is not None and not isinstance(value, list)
        ]
        print(f"epoch {line['epoch']} step {line['step']}: {', '.join(numbers)}")
    if not rows and not lines:
        raise typer.BadParameter(
            f"no trial {trial!r} has started in {sweep_id}", param_hint="TRIAL"
        )
    for row in rows[:1]:
        verdict = row["label"] or "no label"
        print(f"{row['state']}, {verdict}: {row['reason'] or ''}".rstrip(": "))
        if row["error"]:
            print(row["error"].rstrip())
        printed = read_output(store, sweep_id, trial_id)
        if printed is not None:
            print(f"-- its script printed:\n{printed.decode(errors='replace').rstrip()}")
