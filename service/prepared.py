"""A sweep before it runs: its spec read and planned, what the store has of it, its row written."""

import subprocess
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sickbay.trials import design, registry
from sickbay.trials.contract import TrialConfig, TrialState, Workload
from sickbay.trials.spec_check import load_spec
from sickbay.trials.spec_model import ObjectiveSpec, SweepSpec, spec_to_json
from sickbay.trials.store import Store, SweepRecord, open_store, write_sweep
from sickbay.trials.store_files import locate_store
from sickbay.trials.store_read import read_sweep, trial_states

FINAL = (TrialState.COMPLETED, TrialState.STOPPED)  # other trials are run again


@dataclass(frozen=True)
class Prepared:
    """A sweep that is ready to run: what it is, what is planned, what is missing from the store."""

    store: Store
    spec: SweepSpec
    workload: Workload
    sweep_id: str
    plan: design.Plan
    missing: tuple[TrialConfig, ...]


def prepare(source: "str | bytes | Path | dict[str, Any]", store_uri: str) -> Prepared:
    """Read a spec, plan it, and see what the store has of it. Writes nothing.

    Raises SpecError with every problem of the spec at once, StoreError if the store cannot be read.
    """
    spec, workload = load_spec(_source(source), registry.workload)
    plan = design.plan(spec, workload)
    sweep_id = design.sweep_identity(spec, workload)
    store = locate_store(store_uri)
    states = trial_states(store, sweep_id)
    missing = tuple(one for one in plan.trials if states.get(one.trial_id) not in FINAL)
    return Prepared(store, spec, workload, sweep_id, plan, missing)


def _source(source: "str | bytes | Path | dict[str, Any]") -> "str | bytes | Path | dict[str, Any]":
    """A one-line text that ends like a spec's file is the path of one."""
    is_path = isinstance(source, str) and source.endswith((".yaml", ".yml", ".json"))
    return Path(str(source)) if is_path and "\n" not in str(source) else source


def enlist(prepared: Prepared, state: str) -> SweepRecord:
    """Write the sweep's row: from now on the store knows of it. Gives the row."""
    spec, store = prepared.spec, open_store(prepared.store.uri)
    earlier = read_sweep(store, prepared.sweep_id)
    record = SweepRecord(
        sweep_id=prepared.sweep_id,
        name=spec.name,
        workload=spec.workload,
        design=spec.design,
        spec=spec_to_json(_with_objective(prepared)),
        state=state,
        submitted_at=earlier.submitted_at if earlier else time.time(),
        trials_planned=len(prepared.plan.trials),
        code_version=code_version(Path.cwd()),
        sickbay_version=version("sickbay"),
    )
    write_sweep(store, record)
    return record


def _with_objective(prepared: Prepared) -> SweepSpec:
    """The spec with its objective written out, so that readers need not load the workload."""
    goal = design.objective_of(prepared.spec, prepared.workload)
    return prepared.spec.model_copy(
        update={"objective": ObjectiveSpec(signal=goal.signal, goal=goal.goal.value)}
    )


def code_version(folder: Path) -> str:
    """The commit of the code in a folder, with `+` if it was changed since; "" outside git."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"],  # noqa: S607 - the user's own
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
