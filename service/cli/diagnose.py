"""The verb about logs that Sickbay did not make: diagnose."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from sickbay.service.cli.options import JsonOption, console, print_json


def add_verbs(app: typer.Typer) -> None:
    """Add this file's verb to the command line."""
    app.command()(diagnose)


def diagnose(  # noqa: PLR0913, PLR0917  each is an option of the verb
    file: Annotated[
        Path,
        typer.Argument(
            help="A log: CSV, JSON lines, JSON, TensorBoard events (file or folder), an MLflow "
            "metrics folder."
        ),
    ],
    names: Annotated[
        list[str] | None,
        typer.Option("--map", help="A column's signal: mine=val_loss; mine=- leaves it out."),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(help="binary, multiclass, regression, density or detection."),
    ] = None,
    classes: Annotated[
        str | None, typer.Option(help="Training samples of each class, the negative first: 90,10.")
    ] = None,
    floor: Annotated[
        list[str] | None,
        typer.Option(
            help="Loss of the best constant predictor: a number, cross_entropy (by --classes), or "
            "signal=number."
        ),
    ] = None,
    val_n: Annotated[int | None, typer.Option(help="Samples of the validation split.")] = None,
    epochs: Annotated[int | None, typer.Option(help="How long the run was meant to be.")] = None,
    running: Annotated[
        bool, typer.Option("--running", help="The log still grows: its end is not judged.")
    ] = False,
    run: Annotated[str | None, typer.Option(help="One run of a W&B export of several.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Label a training log that Sickbay did not make; trains and stores nothing."""
    from sickbay.service.external_logs.judge import LogOptions, as_plain, judge_log
    from sickbay.service.external_logs.options import (
        parse_classes,
        parse_floors,
        parse_names,
        parse_task,
    )
    from sickbay.trials.registry import all_detectors

    try:
        told = LogOptions(
            names=parse_names(names or []),
            task=parse_task(task),
            classes=parse_classes(classes),
            floors=parse_floors(floor or []),
            val_n=val_n,
            epochs=epochs,
            running=running,
            run=run,
        )
        found = judge_log(file, told, all_detectors())
    except ValueError as error:  # a log that cannot be read, an option that makes no sense
        print(f"sickbay: {error}", file=sys.stderr)
        raise typer.Exit(2) from error
    if as_json:
        print_json(as_plain(found))
        return
    from sickbay.service.external_logs.printed import print_judgement

    print_judgement(console(), str(file), found)
