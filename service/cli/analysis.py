"""The verbs about what the factors do: effects, frontier."""

from typing import Annotated

import typer

from sickbay.service.cli.options import (
    JsonOption,
    StoreOption,
    SweepArgument,
    console,
    existing_store,
    print_json,
    warn_of,
)


def add_verbs(app: typer.Typer) -> None:
    """Add this file's verbs to the command line."""
    for verb in (effects, frontier):
        app.command()(verb)


def effects(
    sweep: SweepArgument,
    store: StoreOption = None,
    interactions: Annotated[
        bool, typer.Option("--interactions", help="Also what two levels do only together.")
    ] = False,
    main_effects: Annotated[
        bool,
        typer.Option("--main-effects", help="Also each level over a whole factorial design."),
    ] = False,
    importance: Annotated[
        bool,
        typer.Option("--importance", help="Also which factors matter, and for which pathology."),
    ] = False,
    everything: Annotated[bool, typer.Option("--all", help="All three of them.")] = False,
    as_json: JsonOption = False,
) -> None:
    """What each level of each factor does: paired differences to the baseline, health beside."""
    from sickbay.service.analysis.study import load_study
    from sickbay.service.query.lookup import find_sweep
    from sickbay.service.reports.effects_more_printed import print_study

    asked = {"interactions": interactions, "main_effects": main_effects, "importance": importance}
    parts = [name for name, wanted in asked.items() if wanted or everything]
    opened = existing_store(store)
    found = load_study(opened, find_sweep(opened, sweep).sweep_id, parts)
    warn_of(found.effects.problems)
    if as_json:
        print_json(found.as_data())
    else:
        print_study(console(), found)


def frontier(sweep: SweepArgument, store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Where a sweep over ranges turns pathological: P(pathological) with its 95 % band."""
    from sickbay.service.analysis.frontier import as_plain, load_frontier, print_frontier
    from sickbay.service.query.lookup import find_sweep

    opened = existing_store(store)
    found = load_frontier(opened, find_sweep(opened, sweep).sweep_id)
    if as_json:
        print_json(as_plain(found))
    else:
        print_frontier(console(), found)
