"""Check that a workload's floor fits the data it scores: no constant may beat it.

A model that cannot see its inputs learns at most the best constant answer. If that is called
healthy or beats the floor, the floor belongs to other data, another loss or other class shares.
"""

import math
from collections.abc import Sequence

from sickbay.trials import registry
from sickbay.trials.conformance.dry_run import Rehearsal, difference_of, rehearse
from sickbay.trials.conformance.report import ConformanceError
from sickbay.trials.contract import Config, Health, Workload
from sickbay.trials.diagnosis.diagnose import diagnose
from sickbay.trials.history import History

SEED = 0
SLACK = 1e-3  # share of the floor that the arithmetic of a loss may differ by
ERRORS = 3.0  # standard errors of a paired difference that are still chance


def check_constant(workload: Workload, blind: Config, balances: Sequence[Config]) -> str:
    """Train a model without inputs to the end, once under each class balance."""
    seen: list[tuple[str, Rehearsal]] = []
    for changes in ({}, *balances):
        what = f"{workload.name}, blind" + "".join(f", {k}={v!r}" for k, v in changes.items())
        run = rehearse(workload, {**blind, **changes}, SEED)
        for other, before in seen:
            if not difference_of(before.rows, run.rows):
                raise ConformanceError(f"{what} gives the same rows as {other}: is it read?")
        seen.append((what, run))
        _check_floor(what, run)
        history = History(run.rows, run.facts, int(blind["epochs"]), finished=True)
        label = diagnose(history, registry.all_detectors()).label
        if label.health is Health.HEALTHY:
            raise ConformanceError(
                f"{what} is called healthy, though a constant is all that it can learn: "
                f"{label.reason} Do floors and chance levels belong to the scored data?"
            )
    return f"a model that sees nothing is never healthy, under {len(seen)} balances of the classes"


def _check_floor(what: str, run: Rehearsal) -> None:
    floor, last = run.facts.floors.get("val_loss"), run.rows[-1].signals
    loss, error = last.get("val_loss"), last.get("val_floor_gap_se", 0.0)
    if floor is None or not isinstance(loss, int | float) or not isinstance(error, int | float):
        return
    slack = SLACK * abs(floor) + (ERRORS * error if math.isfinite(error) else 0.0)
    if loss < floor - slack:
        raise ConformanceError(
            f"{what} has a loss of {loss:.4g}, under the floor of {floor:.4g}, which no constant "
            "can beat: fit the floor through the loss that is scored, on the data that are scored"
        )
