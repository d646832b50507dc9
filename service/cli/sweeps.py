"""The verbs that make or end work: validate, plan, run, resume, stop, cancel."""

import os
import shlex
import shutil
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sickbay.service.cli.options import (
    AddressOption,
    JsonOption,
    SpecArgument,
    StoreOption,
    SweepArgument,
    chosen_address,
    chosen_service,
    console,
    existing_store,
    print_json,
    store_uri,
    warn_of_namesakes,
)

if TYPE_CHECKING:
    from sickbay.service.sweeps.runner import Prepared, Stopper, SweepResult
    from sickbay.trials.store import Store

CpusOption = Annotated[
    int | None, typer.Option("--cpus", min=1, help="Cores of the local Ray. Default: all.")
]
InProcessOption = Annotated[
    bool, typer.Option("--in-process", help="Run the trials one by one in this process, no Ray.")
]
TrustOption = Annotated[
    bool,
    typer.Option("--trust-code", help="Reuse stored trials even if the training code has changed."),
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]


def add_verbs(app: typer.Typer) -> None:
    """Add this file's verbs to the command line."""
    for verb in (init, validate, plan, run, resume, stop, cancel):
        app.command()(verb)


def init(
    script: Annotated[
        Path, typer.Argument(help="The training script; it is parsed, not executed.")
    ] = Path("train.py"),
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Where to write the spec; - prints it. [SCRIPT.yaml]"),
    ] = None,
    lines: Annotated[
        bool, typer.Option("--lines", help="Also print the four lines to add to the script.")
    ] = False,
    yes: YesOption = False,
) -> None:
    """Write a first spec for a training script, from its argparse options."""
    from sickbay.service.sweeps.script_spec import LINES, script_spec

    if not script.is_file():
        raise typer.BadParameter(f"there is no file {script}", param_hint="SCRIPT")
    made = script_spec(script)
    path = out or script.with_suffix(".yaml")
    if str(path) == "-":
        print(made.text, end="")
    else:
        if path.exists() and not yes:
            typer.confirm(f"Replace {path}?", abort=True)
        path.write_text(made.text)
        print(f"wrote {path}; look at it, then: {_program()} run {path}")
    for remark in made.remarks:
        typer.echo(f"sickbay: {remark}", err=True)
    if lines:
        print(f"\n{LINES}", end="")


def validate(spec: SpecArgument, as_json: JsonOption = False) -> None:
    """Check a spec: every error at once, each with the key, the value, what is allowed."""
    from sickbay.trials import registry
    from sickbay.trials.errors import SpecError
    from sickbay.trials.spec import plan as design
    from sickbay.trials.spec.check import load_spec

    try:
        checked, workload = load_spec(source(spec), registry.workload)
    except SpecError as error:
        if as_json:
            print_json({"valid": False, "problems": [vars(problem) for problem in error.problems]})
            raise typer.Exit(2) from error
        raise
    n = len(checked.seed_list)  # of a search the plan is empty: it runs whole configurations
    count = len(design.plan(checked, workload).trials) or (checked.budget.trials or 0) // n * n
    if as_json:
        print_json({"valid": True, "problems": [], "trials": count})
    else:
        print(f"{spec} is valid: {checked.design} over {workload.name}, {count} trials")


def plan(spec: SpecArgument, store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Show the exact trials of a spec, and which are stored already; runs nothing."""
    service = None if store else chosen_service()
    if service is not None:
        described = service.plan(source(spec))
    else:
        from sickbay.service.sweeps.plan_view import describe_plan
        from sickbay.service.sweeps.prepare import prepare

        described = describe_plan(prepare(source(spec), store_uri(store)))
    if as_json:
        print_json(described)
        return
    from sickbay.service.sweeps.plan_view import print_plan

    print_plan(console(), described)


def run(
    spec: SpecArgument,
    store: StoreOption = None,
    address: AddressOption = None,
    cpus: CpusOption = None,
    in_process: InProcessOption = False,
    trust_code: TrustOption = False,
) -> None:
    """Run a sweep here and wait; what is stored already is not run again."""
    service = chosen_service(address)
    if service is not None:
        from sickbay.service.cli.submit import follow_remote

        raise typer.Exit(follow_remote(service, service.submit(source(spec))))
    from sickbay.service.sweeps.prepare import prepare

    prepared = prepare(source(spec), store_uri(store), trust_code=trust_code)
    _run_somewhere(prepared, address, cpus, in_process=in_process)


def resume(
    sweep: SweepArgument,
    store: StoreOption = None,
    address: AddressOption = None,
    cpus: CpusOption = None,
    in_process: InProcessOption = False,
    trust_code: TrustOption = False,
) -> None:
    """Run what is missing, failed or was cancelled of a stored sweep."""
    service = chosen_service(address)
    if service is not None:
        from sickbay.service.cli.submit import follow_remote

        service.resume(sweep)
        raise typer.Exit(follow_remote(service, sweep))
    from sickbay.service.query.lookup import find_sweep, stored_spec
    from sickbay.service.sweeps.prepare import prepare

    opened = existing_store(store)
    record = find_sweep(opened, sweep)
    warn_of_namesakes(opened, sweep)
    spec = stored_spec(opened, record.sweep_id)
    prepared = prepare(spec, opened.uri, resumed=True, trust_code=trust_code)
    _run_somewhere(prepared, address, cpus, in_process=in_process)


def stop(sweep: SweepArgument, store: StoreOption = None) -> None:
    """Start no further trials of a running sweep; running ones finish."""
    _ask(sweep, store, "stop")


def cancel(sweep: SweepArgument, store: StoreOption = None, yes: YesOption = False) -> None:
    """End a running sweep and its running trials; `resume` continues them."""
    if not yes:
        typer.confirm(f"End the running trials of {sweep}?", abort=True)
    _ask(sweep, store, "cancel")


def source(spec: Path) -> Path | str:
    """The source of a spec: a file, or standard input for `-`."""
    if str(spec) == "-":
        return sys.stdin.read()
    if not spec.is_file():
        raise typer.BadParameter(f"there is no file {spec}", param_hint="SPEC")
    if spec.suffix in (".py", ".ipynb", ".sh"):
        reason = f"{spec} is a script, not a spec: `sickbay init {spec}` writes a spec that runs it"
        raise typer.BadParameter(reason, param_hint="SPEC")
    return spec


def _ask(sweep: str, store: str | None, what: str) -> None:
    service = None if store else chosen_service()
    if service is not None:
        (service.stop if what == "stop" else service.cancel)(sweep)
        print(f"asked {sweep} to {what}; follow it with: sickbay status {sweep}")
        return
    from sickbay.service.cli.submit import cancel_job
    from sickbay.service.query.lookup import find_sweep
    from sickbay.service.sweeps.remote import jobs_api
    from sickbay.service.sweeps.runner import ask

    opened = existing_store(store)
    record = find_sweep(opened, sweep)
    warn_of_namesakes(opened, sweep)
    address = chosen_address()
    if what == "cancel" and jobs_api(address):
        cancel_job(opened, record, str(address))
        print(f"{record.sweep_id} is cancelled; continue with: sickbay resume {record.sweep_id}")
        return
    ask(opened, record.sweep_id, what)
    print(f"asked {record.sweep_id} to {what}; follow it with: sickbay status {record.sweep_id}")


def _run_somewhere(
    prepared: "Prepared", address: str | None, cpus: int | None, *, in_process: bool
) -> None:
    """Run here, or as a job on the cluster of the given Jobs API, and follow it."""
    from sickbay.service.cli.submit import submit_job
    from sickbay.service.sweeps.remote import jobs_api

    chosen = chosen_address(address)
    if in_process or jobs_api(chosen) is None:
        _run(prepared, address, cpus, in_process=in_process)
    raise typer.Exit(submit_job(prepared, chosen))


def _run(prepared: "Prepared", address: str | None, cpus: int | None, *, in_process: bool) -> None:
    from sickbay.service.sweeps.progress import ProgressView
    from sickbay.service.sweeps.runner import Options, Stopper, run_prepared

    out, err = console(), console(stderr=True)
    planned, missing = prepared.planned, prepared.left
    if missing == 0:
        print(f"{prepared.sweep_id}: all {planned} trials are stored, nothing is missing")
    else:
        where = "in this process" if in_process else "on Ray"
        print(f"{prepared.sweep_id}: {missing} of {planned} trials to run {where}", flush=True)
        if prepared.earlier:
            print(f"  warm start: {prepared.earlier.line}", flush=True)
    options = Options(chosen_address(address), cpus, in_process)
    stopper = Stopper()
    restore = _on_interrupt(stopper, prepared)
    try:
        with ProgressView(err, planned, planned - missing) as progress:
            result = run_prepared(prepared, options, progress.see, stopper)
    finally:
        restore()
    _tell(out, prepared, result)
    if stopper.cancelled:
        _say_how_to_resume(prepared)
        raise typer.Exit(130)
    raise typer.Exit(1 if result.state == "failed" or result.failed else 0)


def _on_interrupt(stopper: "Stopper", prepared: "Prepared") -> Any:
    """First Ctrl-C (or SIGTERM): end cleanly. Second: end at once."""

    def handle(number: int, frame: object) -> None:
        del number, frame
        if stopper.cancelled:
            _say_how_to_resume(prepared)
            sys.stderr.flush()
            os._exit(130)  # nothing is waited for: what was written is safe, Ray ends by itself
        stopper.cancel()
        typer.echo(
            "stopping after the current evaluations (press Ctrl-C again to stop immediately)",
            err=True,
        )

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    return restore


def _say_how_to_resume(prepared: "Prepared") -> None:
    command = f"{_program()} resume {prepared.sweep_id}{_store_words(prepared.store)}"
    typer.echo(f"stopped before all trials were done; continue with: {command}", err=True)


def _tell(out: Any, prepared: "Prepared", result: "SweepResult") -> None:
    from sickbay.service.query.lookup import stored_spec
    from sickbay.service.reports.file import write_report
    from sickbay.service.reports.verdicts import print_verdicts
    from sickbay.service.summary.sweep_findings import print_advice_lines, sweep_advice

    store = prepared.store
    print_verdicts(out, store, result.sweep_id, stored_spec(store, result.sweep_id))
    print_advice_lines(out, sweep_advice(store, result.sweep_id))
    report = write_report(store, result.sweep_id)
    states = Counter(result.states.values())
    counts = ", ".join(f"{n} {state}" for state, n in sorted(states.items()))
    out.print(f"\n{result.sweep_id} {result.state}: {result.ran} trials ran; stored: {counts}")
    out.print(f"  results  {store.shown}/trials/{result.sweep_id}", soft_wrap=True, highlight=False)
    out.print(f"  report   {report}", soft_wrap=True, highlight=False)
    print_next(out, store, result.sweep_id)
    if result.error:
        typer.echo(f"sickbay: {result.error}", err=True)
    if result.note:
        typer.echo(f"sickbay: {result.note}", err=True)


def print_next(out: Any, store: "Store", sweep_id: str) -> None:
    """The next three commands to try, to be typed as they stand."""
    out.print("next:")
    for command in _helpful(store, sweep_id):
        line = f"  {_program()} {command}{_store_words(store)}"
        out.print(line, soft_wrap=True, highlight=False)


def _program() -> str:
    """How to call this program from this shell; `make demo` activates no environment."""
    return "sickbay" if shutil.which("sickbay") else shlex.quote(os.path.relpath(sys.argv[0]))


def _store_words(store: "Store") -> str:
    """The `--store` option for this store; empty if it is the default."""
    return "" if store.uri == store_uri(None) else f" --store {shlex.quote(store.shown)}"


def _helpful(store: "Store", sweep_id: str) -> list[str]:
    """Up to three commands: a failed trial's log, why another got its label, the counts by arm."""
    from sickbay.service.query.engine import trials

    rows = trials(store, sweep_id).records()
    failed = [row["trial_id"][:8] for row in rows if row["state"] == "failed"]
    labelled = sorted(
        (row for row in rows if row["label"]), key=lambda row: row["pathology"] is None
    )
    commands = [f"logs {sweep_id} {failed[0]}"] if failed else []
    commands += [f"explain {labelled[0]['trial_id'][:8]}"] if labelled else []
    counts = "SELECT arm, label, pathology, failure, count(*) FROM trials"
    commands.append(f"query \"{counts} WHERE sweep_id = '{sweep_id}' GROUP BY ALL\"")
    return [*commands, f"effects {sweep_id}", f"report {sweep_id}"][:3]
