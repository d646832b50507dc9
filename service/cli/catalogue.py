"""The verbs about this installation: workloads, detectors, doctor."""

from typing import Annotated, Any

import typer

from sickbay.service.cli.completion import complete_detector, complete_workload
from sickbay.service.cli.options import JsonOption, StoreOption, console, print_json, store_uri

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
    """List workloads; with a name: its factors, levels, settings, objective."""
    from sickbay.trials import registry

    if name is None:
        _print_entries(registry.workload_entries(), as_json=as_json)
        return
    from sickbay.service.summary.catalogue import describe_workload, print_workload

    workload = registry.workload(name)
    if as_json:
        print_json(describe_workload(workload))
    else:
        print_workload(console(), workload)


def detectors(name: DetectorArgument = None, as_json: JsonOption = False) -> None:
    """List detectors; with a name: rule, formula, thresholds, source, remedy."""
    from sickbay.trials import registry
    from sickbay.trials.diagnosis.sweep_detectors import SWEEP_DETECTORS

    over_sweeps = {sweep_detector.name: sweep_detector for sweep_detector in SWEEP_DETECTORS}
    if name is None:
        listed = [
            registry.Entry(detector_name, "over a whole sweep", "sickbay")
            for detector_name in over_sweeps
        ]
        _print_entries([*registry.detector_entries(), *listed], as_json=as_json)
        return
    from sickbay.service.summary.catalogue import describe_detector, print_detector

    if name in over_sweeps:
        from sickbay.service.summary.sweep_findings import (
            describe_sweep_detector,
            print_sweep_detector,
        )

        over_sweep = over_sweeps[name]
        if as_json:
            print_json(describe_sweep_detector(over_sweep))
        else:
            print_sweep_detector(console(), over_sweep)
        return
    detector = registry.detector(name)
    if as_json:
        print_json(describe_detector(detector))
    else:
        print_detector(console(), detector)


def doctor(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Check the installation, Ray, GPU and store, and say what to fix."""
    from sickbay.service.doctor import examine

    checks = examine(store_uri(store))
    if as_json:
        print_json([vars(check) for check in checks])
    else:
        for check in checks:
            print(f"{'ok  ' if check.ok else 'FIX '} {check.what}: {check.found}")
            if not check.ok:
                print(f"       {check.advice}")
    if not all(check.ok for check in checks):
        raise typer.Exit(1)


def _print_entries(entries: Any, *, as_json: bool) -> None:
    if as_json:
        print_json([vars(entry) for entry in entries])
        return
    width = max((len(entry.name) for entry in entries), default=0)
    for entry in entries:
        broken = f"  BROKEN: {entry.error}" if entry.error else ""
        print(f"{entry.name:<{width}}  {entry.package}  {entry.target}{broken}")
