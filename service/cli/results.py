"""The verbs that read a store and its verdicts: list, status, results, query, explain, relabel."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from sickbay.service.cli.completion import complete_sweep
from sickbay.service.cli.options import (
    Format,
    JsonOption,
    StoreOption,
    SweepArgument,
    console,
    existing_store,
    print_json,
    print_result,
    warn_of,
    warn_of_namesakes,
)

if TYPE_CHECKING:
    from sickbay.trials.store import Store

FormatOption = Annotated[Format, typer.Option("--format", help="How to print the rows.")]
LabelOption = Annotated[
    str | None, typer.Option(help="Only trials with this label: healthy, pathological, …")
]
WhereOption = Annotated[
    str | None, typer.Option(help="Only trials that meet this SQL condition, as in 'seed < 3'.")
]

ParetoOption = Annotated[
    list[str] | None,
    typer.Option(
        "--pareto",
        metavar="METRIC",
        help="The Pareto front of several metrics instead: signals or columns of trials, as in "
        "--pareto val_loss:min --pareto wall_seconds; `objectives` are the spec's.",
    ),
]
AnyLabelOption = Annotated[
    bool, typer.Option("--any-label", help="On the front, trials of any label, not healthy alone.")
]


def add_verbs(app: typer.Typer) -> None:
    """Add this file's verbs to the command line."""
    app.command("list")(list_)
    for verb in (status, results, query, explain, relabel):
        app.command()(verb)


def list_(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """List the sweeps of the store, the latest first."""
    from sickbay.service.query.status import overview
    from sickbay.trials.store.reader import sweep_problems
    from sickbay.trials.store.tables import damage

    opened = existing_store(store)
    sweeps = overview(opened)
    problems = [*sweep_problems(opened), *damage(opened, None, ("trials",))]
    warn_of(problems)
    if as_json:
        print_json(sweeps)
    elif problems and not sweeps:
        raise typer.Exit(1)
    elif not sweeps:
        print(f"no sweep in {opened.shown} yet; start with: sickbay run SPEC")
    else:
        _print_sweeps(sweeps)


def status(sweep: SweepArgument, store: StoreOption = None, as_json: JsonOption = False) -> None:
    """How far a sweep is: planned, done, running, by label and cause."""
    from sickbay.service.query.engine import trials
    from sickbay.service.query.lookup import stored_spec
    from sickbay.service.query.status import describe, sharing_lines
    from sickbay.service.reports.best import code_lines, headline_rows, headlines
    from sickbay.service.summary.sweep_findings import print_advice_lines, sweep_advice
    from sickbay.service.sweeps.plan_view import sequential_lines
    from sickbay.trials.diagnosis.failures import REMEDIES

    opened = existing_store(store)
    record = describe(opened, sweep)
    warn_of_namesakes(opened, sweep)
    if as_json:
        print_json(record)
        return
    print(
        f"{record['sweep_id']}: {record['state']}, {record['ended']} of {record['planned']} ended"
    )
    warn_of(record["problems"])
    for key in ("running", "states", "labels", "pathologies", "failures"):
        value = record[key]
        if value:
            text = value if isinstance(value, int) else _counted(value)
            print(f"  {key:<12} {text}")
    rows = trials(opened, record["sweep_id"]).records()
    spec = stored_spec(opened, record["sweep_id"])
    arms = sequential_lines(opened, record["sweep_id"], spec)
    first = headline_rows(headlines(opened, record["sweep_id"], rows, spec))
    shared = sharing_lines(opened, record["sweep_id"], spec.get("resources") or {})
    for line in (*"\n".join(first).splitlines(), *code_lines(rows), *arms, *shared):
        print(f"  {line}")
    for failure in record["failures"]:
        print(f"  {failure}: {REMEDIES.get(failure, 'see `sickbay logs SWEEP TRIAL`')}")
    print_advice_lines(console(), sweep_advice(opened, record["sweep_id"]))


def results(
    sweep: SweepArgument,
    store: StoreOption = None,
    label: LabelOption = None,
    where: WhereOption = None,
    style: FormatOption = Format.TABLE,
    pareto: ParetoOption = None,
    any_label: AnyLabelOption = False,
    as_json: JsonOption = False,
) -> None:
    """The trials of a sweep; formats other than the table have a column for every setting."""
    from sickbay.service.query.engine import trials
    from sickbay.service.query.lookup import find_sweep, stored_spec
    from sickbay.service.reports.best import code_lines, headline_rows, headlines
    from sickbay.service.reports.verdicts import (
        arm_table,
        in_spec_order,
        print_failures,
        print_trials,
        with_sweep_findings,
    )
    from sickbay.service.summary.sweep_findings import print_advice_lines, sweep_advice

    opened = existing_store(store)
    record = find_sweep(opened, sweep)
    warn_of_namesakes(opened, sweep)
    if pareto:
        _print_front(opened, record.sweep_id, pareto, any_label=any_label, as_json=as_json)
        return
    result = trials(opened, record.sweep_id, label=label, where=where)
    if as_json or style is Format.JSON:
        warn_of(result.problems)
        advice = sweep_advice(opened, record.sweep_id)
        print_json(with_sweep_findings(result.records(), advice))
        return
    if style is not Format.TABLE:
        print_result(result, style)
        return
    warn_of(result.problems)
    factors = stored_spec(opened, record.sweep_id).get("factors", {})
    rows = in_spec_order(result.records(), factors)
    out = console()
    print_trials(out, rows[:MOST_ROWS], factors)
    if len(rows) > MOST_ROWS:
        more = f"… {len(rows) - MOST_ROWS} more; --format csv prints all. By arm:"
        out.print(more, style="dim")
        out.print(arm_table(rows))
    out.print(f"{len(rows)} trials", style="dim")
    print_failures(out, rows)
    spec = stored_spec(opened, record.sweep_id)
    first = headline_rows(headlines(opened, record.sweep_id, rows, spec))
    for line in (*first, *code_lines(rows)):
        out.print(line, highlight=False, soft_wrap=True)
    print_advice_lines(out, sweep_advice(opened, record.sweep_id, list(factors)))


def _print_front(
    store: "Store", sweep_id: str, metrics: list[str], *, any_label: bool, as_json: bool
) -> None:
    """The trials that no other beats in every metric, and the best by the first objective."""
    from sickbay.service.query.engine import trials
    from sickbay.service.query.lookup import stored_spec
    from sickbay.service.reports import best
    from sickbay.service.reports.terminal import print_table

    spec = stored_spec(store, sweep_id)
    front = best.pareto_front(store, sweep_id, best.metrics_of(metrics, spec), any_label=any_label)
    if as_json:
        print_json(front.as_data())
        return
    out = console()
    print_table(out, best.pareto_table(front), sql=False)
    rows = trials(store, sweep_id).records()
    for line in best.headline_rows(best.headlines(store, sweep_id, rows, spec)):
        out.print(line, highlight=False, soft_wrap=True)


MOST_ROWS = 200  # of a table that a person reads


def query(
    sql: Annotated[str, typer.Argument(help="One SELECT over trials, epochs, findings, sweeps.")],
    store: StoreOption = None,
    style: FormatOption = Format.TABLE,
    as_json: JsonOption = False,
) -> None:
    """Read-only SQL over the tables trials, epochs, findings, labels, sweeps."""
    from sickbay.service.query.engine import query as ask

    print_result(ask(existing_store(store), sql), Format.JSON if as_json else style)


def _print_sweeps(sweeps: list[dict[str, Any]]) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("sweep", "state", "workload, design", "ended", "labels"):
        table.add_column(name, overflow="fold", no_wrap=name in ("state", "ended"))
    for sweep in sweeps:
        table.add_row(
            sweep["sweep_id"],
            sweep["state"],
            f"{sweep['workload']}, {sweep['design']}",
            f"{sweep['ended']} of {sweep['planned']}",
            _counted(sweep["labels"]),
        )
    console().print(table)


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{n} {name}" for name, n in counts.items())


def explain(
    trial: Annotated[str, typer.Argument(help="A trial's id, or the beginning of it.")],
    store: StoreOption = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All detectors, even those that found nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Why a trial got its label: its findings with evidence, and the smallest known fix."""
    from sickbay.service.reports.explain import explanation, print_explanation

    explained = explanation(existing_store(store), trial)
    if as_json:
        print_json(explained)
    else:
        print_explanation(console(), explained, everything=everything)


def relabel(
    sweep: Annotated[
        str | None,
        typer.Argument(
            help="A sweep; without one, the whole store.", autocompletion=complete_sweep
        ),
    ] = None,
    store: StoreOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Judge stored histories with today's detectors; prints what changed, trains nothing."""
    from sickbay.service.query.lookup import find_sweep
    from sickbay.trials.execution.relabel import counted
    from sickbay.trials.execution.relabel import relabel as judge_again
    from sickbay.trials.registry import all_detectors
    from sickbay.trials.store.reader import list_sweeps

    opened = existing_store(store)
    chosen = [find_sweep(opened, sweep)] if sweep else list(list_sweeps(opened))
    detectors = all_detectors()
    reports = [
        judge_again(opened, record.sweep_id, detectors, write=not dry_run) for record in chosen
    ]
    if as_json:
        print_json(
            [
                {
                    **vars(judged),
                    "counts": counted([judged]),
                    "changes": [vars(c) for c in judged.changes],
                }
                for judged in reports
            ]
        )
        return
    for report in reports:
        _print_report(report)
    for change, count in counted(reports).items():
        print(f"{count:>6}  {change}")


def _print_report(report: Any) -> None:
    from sickbay.service.summary.formatting import short_arm

    print(
        f"{report.sweep_id}: {report.trials} trials judged by {report.labeller_version}: "
        f"{report.same} as before, {len(report.changes)} changed, {report.written} labels written"
    )
    for change in report.changes:
        print(
            f"  {change.trial_id} ({short_arm(change.arm)}, seed {change.seed}): "
            f"{change.old} -> {change.new}: {change.reason}"
        )
