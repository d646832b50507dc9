"""The verbs about what the factors do: effects, frontier, compare, fix."""

from functools import cache
from pathlib import Path
from typing import Annotated

import typer

from sickbay.service.cli.completion import complete_sweep
from sickbay.service.cli.options import (
    AllPairsOption,
    JsonOption,
    StoreOption,
    SweepArgument,
    WithinOption,
    console,
    existing_store,
    print_json,
    warn_of,
)

SqlOption = Annotated[bool, typer.Option("--sql", help="Also the SQL that recomputes the numbers.")]


def add_verbs(app: typer.Typer) -> None:
    """Add this file's verbs to the command line."""
    for verb in (effects, frontier, compare, fix):
        app.command()(verb)


def effects(  # noqa: PLR0913, PLR0917  each is an option of the verb
    sweep: SweepArgument,
    store: StoreOption = None,
    interactions: Annotated[
        bool, typer.Option("--interactions", help="Also interactions of two factors.")
    ] = False,
    main_effects: Annotated[
        bool,
        typer.Option("--main-effects", help="Also main effects over a whole factorial design."),
    ] = False,
    importance: Annotated[
        bool,
        typer.Option(
            "--importance",
            help="Also the importance of each factor, for the objective and each pathology.",
        ),
    ] = False,
    everything: Annotated[bool, typer.Option("--all", help="All three of them.")] = False,
    reference: Annotated[
        str | None,
        typer.Option(
            "--reference",
            help="The arm to compare with: baseline, best, or FACTOR=LEVEL, … "
            "[the declared one if healthy, else the best healthy arm]",
        ),
    ] = None,
    smallest_effect: Annotated[
        float | None,
        typer.Option("--smallest-effect", help="Differences below this count as equivalent."),
    ] = None,
    all_pairs: AllPairsOption = False,
    within: WithinOption = None,
    sql: SqlOption = False,
    as_json: JsonOption = False,
) -> None:
    """Effect of each level of each factor: paired differences to the baseline, and health."""
    from sickbay.service.analysis.study import EffectOptions, load_study
    from sickbay.service.query.lookup import find_sweep
    from sickbay.service.reports.terminal import print_study

    if smallest_effect is not None and not smallest_effect > 0.0:
        raise typer.BadParameter("must be above 0", param_hint="--smallest-effect")

    asked = {"interactions": interactions, "main_effects": main_effects, "importance": importance}
    parts = [name for name, wanted in asked.items() if wanted or everything]
    opened = existing_store(store)
    options = EffectOptions(reference, smallest_effect, all_pairs, tuple(within or ()))
    study = load_study(opened, find_sweep(opened, sweep).sweep_id, parts, options)
    warn_of(study.effects.problems)
    if as_json:
        print_json(study.as_data())
    else:
        print_study(console(), study, sql=sql)


def frontier(sweep: SweepArgument, store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Where a sweep over ranges turns pathological: P(pathological) with its 95 % band."""
    from sickbay.service.analysis.frontier import as_plain, load_frontier
    from sickbay.service.query.lookup import find_sweep
    from sickbay.service.reports.terminal import print_frontier

    opened = existing_store(store)
    estimate = load_frontier(opened, find_sweep(opened, sweep).sweep_id)
    if as_json:
        print_json(as_plain(estimate))
    else:
        print_frontier(console(), estimate)


HalfArgument = Annotated[
    str,
    typer.Argument(
        help="A sweep of the store, STORE#SWEEP, or a whole store by its path.",
        autocompletion=complete_sweep,
    ),
]


def compare(
    a: HalfArgument,
    b: HalfArgument,
    store: StoreOption = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option("--ignore", help="A setting that may differ in matched arms; repeatable."),
    ] = None,
    sql: SqlOption = False,
    as_json: JsonOption = False,
) -> None:
    """Two sweeps or two stores side by side: drift, arms by configuration, labels that changed."""
    from sickbay.service.analysis.comparison import compare as side_by_side
    from sickbay.service.analysis.comparison import open_half
    from sickbay.service.reports.terminal import print_comparison

    opened = cache(lambda: existing_store(store))  # once, also over HTTP
    before, after = open_half(opened, a), open_half(opened, b)
    warn_of([*before.problems, *after.problems])
    comparison = side_by_side(before, after, ignore or [])
    if as_json:
        print_json(comparison.as_data())
    else:
        print_comparison(console(), comparison, sql=sql)


def fix(
    trial: Annotated[str, typer.Argument(help="A trial's id, or the beginning of it.")],
    store: StoreOption = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Where to write the spec; - prints it. [fix-TRIAL.yaml]"),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Replace an existing file.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the fixes and the spec as JSON besides.")
    ] = False,
) -> None:
    """Write the spec of the sweep that confirms a trial's smallest fix, or looks for one."""
    from dataclasses import asdict

    from sickbay.service.analysis.fixes import fix_lines, fixes_for
    from sickbay.service.analysis.follow_up import follow_up, spec_text, workload_levels, write_spec

    opened = existing_store(store)
    fixes = fixes_for(opened, trial)
    if not fixes.known and not fixes.healthy:
        fixes = fixes_for(opened, trial, workload_levels(fixes.workload))
    made = follow_up(opened, fixes)
    path = out or Path(f"fix-{fixes.trial_id[:8]}.yaml")
    if str(path) != "-":
        write_spec(made, path, replace=yes)
    if as_json:
        print_json(
            {**asdict(fixes), "path": str(path), "planned": made.trials, "spec": dict(made.spec)}
        )
        return
    if str(path) == "-":
        print(spec_text(made), end="")
        return
    for line in fix_lines(fixes):
        print(line)
    print(f"wrote {path}: {made.trials} trials. Run it with: sickbay run {path}")
    if not made.has_trial:
        print("its baseline is not a stored trial: the installed workload's version differs")
