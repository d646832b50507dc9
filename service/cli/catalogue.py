"""The verbs about this installation: workloads, detectors, doctor."""

from typing import Annotated, Any

import typer

from sickbay.service.cli.completion import complete_detector, complete_workload
from sickbay.service.cli.options import (
    JsonOption,
    StoreOption,
    console,
    print_json,
    store_uri,
)

WorkloadArgument = Annotated[
    str | None, typer.Argument(help="One workload, in detail.", autocompletion=complete_workload)
]
DetectorArgument = Annotated[
    str | None, typer.Argument(help="One detector, in detail.", autocompletion=complete_detector)
]


def add_verbs(app: typer.Typer) -> None:
    """Add this file's verbs to the command line."""
    for verb in (workloads, detectors, doctor):
        app.command()(verb)


def workloads(name: WorkloadArgument = None, as_json: JsonOption = False) -> None:
    """What can be trained; with a name: its factors, levels, settings, objective."""
    from sickbay.trials import registry

    if name is None:
        _print_entries(registry.workload_entries(), as_json=as_json)
        return
    from sickbay.service.summary.catalogue import describe_workload, print_workload

    found = registry.workload(name)
    if as_json:
        print_json(describe_workload(found))
    else:
        print_workload(console(), found)


def detectors(name: DetectorArgument = None, as_json: JsonOption = False) -> None:
    """What can be detected; with a name: rule, formula, thresholds, source, remedy."""
    from sickbay.trials import registry
    from sickbay.trials.diagnosis.sweep_detectors import SWEEP_DETECTORS

    over_sweeps = {one.name: one for one in SWEEP_DETECTORS}
    if name is None:
        listed = [registry.Entry(one, "over a whole sweep", "sickbay") for one in over_sweeps]
        _print_entries([*registry.detector_entries(), *listed], as_json=as_json)
        return
    from sickbay.service.summary.catalogue import describe_detector, print_detector

    if name in over_sweeps:
        from sickbay.service.summary.sweep_findings import (
            describe_sweep_detector,
            print_sweep_detector,
        )

        one = over_sweeps[name]
        if as_json:
            print_json(describe_sweep_detector(one))
        else:
            print_sweep_detector(console(), one)
        return
    found = registry.detector(name)
    if as_json:
        print_json(describe_detector(found))
    else:
        print_detector(console(), found)


def doctor(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Check the installation, Ray, GPU and store, and say what to fix."""
    from sickbay.service.doctor import examine

    checks = examine(store_uri(store))
    if as_json:
        print_json([vars(one) for one in checks])
    else:
        for one in checks:
            print(f"{'ok  ' if one.ok else 'FIX '} {one.what}: {one.found}")
            if not one.ok:
                print(f"       {one.advice}")
    if not all(one.ok for one in checks):
        raise typer.Exit(1)


def _print_entries(entries: Any, *, as_json: bool) -> None:
    if as_json:
        print_json([vars(one) for one in entries])
        return
    width = max((len(one.name) for one in entries), default=0)
    for one in entries:
        broken = f"  BROKEN: {one.error}" if one.error else ""
        print(f"{one.name:<{width}}  {one.package}  {one.target}{broken}")
