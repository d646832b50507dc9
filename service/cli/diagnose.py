"""The verb about logs that Sickbay did not make: diagnose."""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sickbay.service.cli.options import JsonOption, console, print_json

if TYPE_CHECKING:  # numpy, scipy and the detectors, for which --help need not wait
    from sickbay.service.external_logs.many import Outcome
    from sickbay.service.external_logs.options import LogOptions


def add_verbs(app: typer.Typer) -> None:
    """Add this file's verb to the command line."""
    app.command()(diagnose)


def diagnose(  # noqa: PLR0913, PLR0917  each is an option of the verb
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Logs or folders of logs: CSV, JSON, JSON lines, printed logs, Markdown tables, "
            "TensorBoard events, W&B's offline runs, MLflow. Several print a table.",
            metavar="FILE_OR_FOLDER...",
        ),
    ],
    names: Annotated[
        list[str] | None,
        typer.Option("--map", help="A column's signal: mine=val_loss; mine=- leaves it out."),
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="binary, multiclass, regression, density or detection.")
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
    epochs: Annotated[
        int | None, typer.Option(help="Planned length of the run, in epochs.")
    ] = None,
    components: Annotated[
        int | None, typer.Option(help="Number of mixture components, if no column shows it.")
    ] = None,
    running: Annotated[
        bool, typer.Option("--running", help="The run is not finished: do not judge its end.")
    ] = False,
    run: Annotated[
        str | None, typer.Option(help="One run of a file or folder that holds several.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Label training logs that Sickbay did not make; trains and stores nothing.

    Facts about the task may also stand beside a log, in NAME.facts.yaml, under the options' names.
    """
    from sickbay.service.external_logs.options import (
        LogOptions,
        parse_classes,
        parse_count,
        parse_floors,
        parse_names,
        parse_task,
    )

    try:
        options = LogOptions(
            names=parse_names(names or []),
            task=parse_task(task),
            classes=parse_classes(classes),
            floors=parse_floors(floor or []),
            val_n=parse_count("val-n", val_n),
            epochs=parse_count("epochs", epochs),
            components=parse_count("components", components, least=2),
            running=running,
            run=run,
        )
        _diagnose(files, options, as_json=as_json)
    except ValueError as error:  # a log that cannot be read, an option that makes no sense
        print(f"sickbay: {error}", file=sys.stderr)
        raise typer.Exit(2) from error


def _diagnose(files: list[Path], options: "LogOptions", *, as_json: bool) -> None:
    from sickbay.service.external_logs.judge import as_plain, judge_source
    from sickbay.service.external_logs.many import judge_many, sources_of
    from sickbay.service.external_logs.screen import print_judgement
    from sickbay.trials.registry import all_detectors

    sources, failures = sources_of(files, options.run)
    if len(files) > 1 or len(sources) > 1:
        _print_many([*failures, *judge_many(sources, options)], as_json=as_json)
        return
    if failures:
        raise ValueError(failures[0].error)
    judged = judge_source(sources[0], options, all_detectors())
    if len(judged) > 1:
        _print_many(map(as_plain, judged), as_json=as_json)
    elif as_json:
        print_json(as_plain(judged[0]))
    else:
        print_judgement(console(), str(files[0]), judged[0])


def _print_many(outcomes: "Iterable[Outcome]", *, as_json: bool) -> None:
    """Print a line of JSON or a row of a table each; exit code 2 if one could not be judged."""
    from sickbay.service.external_logs.many import Failure
    from sickbay.service.external_logs.screen import print_table
    from sickbay.service.query.engine import plain

    known = list(outcomes)
    failures = [outcome for outcome in known if isinstance(outcome, Failure)]
    if as_json:
        for outcome in known:
            values: dict[str, Any] = (
                {"file": outcome.file, "label": None, "error": outcome.error}
                if isinstance(outcome, Failure)
                else outcome
            )
            print(json.dumps(plain(values), allow_nan=False, default=str))
    else:
        print_table(console(), known)
    for failure in failures:
        print(f"sickbay: {failure.error}", file=sys.stderr)
    if failures:
        raise typer.Exit(2)
