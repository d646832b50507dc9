"""A workload or a detector, described for a person and as plain data."""

from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.text import Text

from sickbay.service.summary.formatting import shown
from sickbay.trials.contract import Factor, Workload
from sickbay.trials.detector import Detector
from sickbay.trials.evidence.thresholds import MARGINS


def describe_workload(workload: Workload) -> dict[str, Any]:
    """A workload's name, factors, settings and objective."""
    return {
        "name": workload.name,
        "version": workload.version,
        "doc": workload.doc,
        "objective": {"signal": workload.objective.signal, "goal": str(workload.objective.goal)},
        "factors": [asdict(factor) for factor in workload.factors],
        "defaults": dict(workload.defaults),
        "sizes": {name: dict(values) for name, values in workload.sizes.items()},
        "resources": asdict(workload.resources),
    }


def print_workload(console: Console, workload: Workload) -> None:
    """Print a workload as needed to write a spec."""
    goal = workload.objective
    console.print(Text.assemble((workload.name, "bold"), f" (version {workload.version})"))
    console.print(workload.doc, highlight=False)
    console.print(f"objective: {goal.goal} {goal.signal}", highlight=False)
    console.print("factors, the baseline first:")
    for factor in workload.factors:
        console.print(f"  {factor.name}: {levels_of(factor)}", highlight=False, markup=False)
        console.print(f"      {factor.doc}", highlight=False, markup=False)
    known = {factor.name for factor in workload.factors}
    console.print("other settings (`fixed`), with their defaults:")
    for name, value in workload.defaults.items():
        if name not in known:
            console.print(f"  {name}: {shown(value)}", highlight=False, markup=False)
    for size, values in workload.sizes.items():
        if values:
            settings = ", ".join(f"{name} {shown(value)}" for name, value in values.items())
            console.print(f"size {size} sets: {settings}", highlight=False, markup=False)


def levels_of(factor: Factor) -> str:
    """A factor's levels in the syntax of a spec, and its range if it has one."""
    levels = "[" + ", ".join(shown(level) for level in factor.levels) + "]"
    if factor.low is None or factor.high is None:
        return levels
    log = ", log: true" if factor.log else ""
    return f"{levels} or {{low: {factor.low:g}, high: {factor.high:g}{log}}}"


def describe_detector(detector: Detector) -> dict[str, Any]:
    """A detector as plain data, with its thresholds and their reasons."""
    fields = {name: value for name, value in vars(detector).items() if name != "function"}
    thresholds = {name: asdict(MARGINS[name]) for name in detector.margins if name in MARGINS}
    return {**fields, "kinds": [str(kind) for kind in detector.kinds], "thresholds": thresholds}


def print_detector(console: Console, detector: Detector) -> None:
    """Print a detector: its rule, formula, source, remedy, false alarms and thresholds."""
    described = describe_detector(detector)
    when = "may stop a running trial" if detector.online else "judges ended trials"
    console.print(
        Text.assemble(
            (detector.name, "bold"),
            f" {detector.version}: {detector.title} (at worst {detector.severity}; {when})",
        )
    )
    for key in ("rule", "formula", "source", "remedy", "false_alarms"):
        console.print(f"  {key:<13}{described[key]}", highlight=False, markup=False)
    signals = ", ".join(
        (*detector.signals, *(f"({signal})" for signal in detector.optional_signals))
    )
    console.print(f"  {'signals':<13}{signals}", highlight=False, markup=False)
    for name, margin in described["thresholds"].items():
        console.print(
            f"  {'threshold':<13}{name} = {margin['value']:g} {margin['unit']}: {margin['reason']}",
            highlight=False,
            markup=False,
        )
