"""The verb about what the factors do: effects."""

import typer

from sickbay.service.cli_options import (
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
    app.command()(effects)


def effects(sweep: SweepArgument, store: StoreOption = None, as_json: JsonOption = False) -> None:
    """What each level of each factor does: paired differences to the baseline, health beside."""
    from sickbay.service.effect_questions import load_effects
    from sickbay.service.effects_printed import print_effects
    from sickbay.service.stored import find_sweep

    opened = existing_store(store)
    found = load_effects(opened, find_sweep(opened, sweep).sweep_id)
    warn_of(found.problems)
    if as_json:
        print_json(found.as_data())
    else:
        print_effects(console(), found)
