"""Prepares a sweep: reads and plans its spec, finds the missing trials, writes its row."""

import json
import subprocess
import time
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sickbay.service.query.lookup import SweepError, find_sweep
from sickbay.trials import registry
from sickbay.trials.contract import TrialConfig, TrialState, Workload
from sickbay.trials.errors import SpecError, SpecProblem, shown
from sickbay.trials.source import library_versions
from sickbay.trials.spec import plan as design
from sickbay.trials.spec.check import load_spec
from sickbay.trials.spec.model import (
    SEARCHES,
    ConfirmedSeeds,
    ObjectiveSpec,
    SequentialSeeds,
    SweepSpec,
    spec_to_json,
)
from sickbay.trials.store import Store, SweepRecord, open_store, write_sweep
from sickbay.trials.store.files import locate_store
from sickbay.trials.store.reader import list_sweeps, read_sweep, trial_states

if TYPE_CHECKING:
    from sickbay.trials.search.sequential import Progress
    from sickbay.trials.search.study import SearchTask
    from sickbay.trials.search.warm_start import WarmStart

FINAL = (TrialState.COMPLETED, TrialState.STOPPED)  # other trials are run again


@dataclass(frozen=True)
class Prepared:
    """A sweep that is ready to run: its spec, its plan, and the trials missing from the store.

    The plan of a search holds what it has suggested so far; `unsuggested` is how many trials will
    come on top of that.
    """

    store: Store
    spec: SweepSpec
    workload: Workload
    sweep_id: str
    plan: design.Plan
    missing: tuple[TrialConfig, ...]
    unsuggested: int = 0
    progress: "Progress | None" = None  # of a sequential sweep
    earlier: "WarmStart | None" = None  # what a search takes over

    @property
    def planned(self) -> int:
        """How many trials the sweep will have."""
        return len(self.plan.trials) + self.unsuggested

    @property
    def left(self) -> int:
        """How many trials are still to be run."""
        return len(self.missing) + self.unsuggested

    @property
    def searches(self) -> bool:
        """Whether it draws its configurations instead of listing them."""
        return self.spec.design in SEARCHES

    @property
    def sequential(self) -> bool:
        """Whether it adds seeds until every arm is settled."""
        return isinstance(self.spec.seeds, SequentialSeeds)

    def done(self, state: str | None) -> bool:
        """Whether a trial in this state is not run again.

        One that a scheduler ended is, once the spec names no scheduler any more.
        """
        pruned = state == TrialState.PRUNED and self.spec.early_stop.scheduler != "none"
        return state in FINAL or pruned


def prepare(
    source: "str | bytes | Path | dict[str, Any]",
    store_uri: str,
    *,
    resumed: bool = False,
    trust_code: bool = False,
) -> Prepared:
    """Read a spec, plan it, and find the trials that are missing. Writes nothing.

    Changed training code makes another sweep; for a `resumed` one, whose spec is stored, it is a
    SweepError. With `trust_code` stored trials count whatever was changed. Raises SpecError with
    every problem of the spec, StoreError if the store cannot be read.
    """
    spec, workload = load_spec(_source(source), registry.workload)
    store = locate_store(store_uri)
    spec = _with_earlier_sweeps(spec, store)
    if resumed and not trust_code:
        _check_code(spec, workload)
    if resumed or trust_code:
        workload = replace(workload, code=_stored_code(spec, workload, store, resumed=resumed))
    try:
        sweep_id = design.sweep_identity(spec, workload)
        planned = Prepared(store, spec, workload, sweep_id, design.plan(spec, workload), ())
    except OSError as error:
        problem = SpecProblem("dataset", f"cannot read its files: {error}")
        raise SpecError([problem]) from error
    if planned.searches:
        planned = _with_suggestions(planned)
    elif planned.sequential:
        planned = _without_settled(planned)
    states = trial_states(store, sweep_id)
    missing = [
        trial for trial in planned.plan.trials if not planned.done(states.get(trial.trial_id))
    ]
    return replace(planned, missing=tuple(missing))


def _with_earlier_sweeps(spec: SweepSpec, store: Store) -> SweepSpec:
    """The spec with the ids of the sweeps that it starts from; SpecError for any other sweep."""
    ids, problems = [], []
    for place, name in enumerate(spec.warm_start):
        key = "warm_start" if len(spec.warm_start) == 1 else f"warm_start[{place}]"
        try:
            sweep = find_sweep(store, name)
        except SweepError as error:
            problems.append(SpecProblem(key, str(error), shown(name)))
            continue
        ids.append(sweep.sweep_id)
        if sweep.workload != spec.workload:
            message = f"is a sweep of {sweep.workload}; allowed are those of {spec.workload}"
            problems.append(SpecProblem(key, message, shown(name)))
    if problems:
        raise SpecError(problems)
    return spec.model_copy(update={"warm_start": tuple(dict.fromkeys(ids))})


def _check_code(spec: SweepSpec, workload: Workload) -> None:
    """Refuse to continue a sweep whose training code was changed since."""
    if spec.code is not None and spec.code != workload.code:
        raise SweepError(
            f"the training code of {spec.workload} has changed since this sweep began "
            f"({spec.code} then, {workload.code} now), so their trials are not comparable. "
            "`sickbay run SPEC` begins another sweep; --trust-code continues this one"
        )


def _stored_code(spec: SweepSpec, workload: Workload, store: Store, *, resumed: bool) -> str:
    """The code that names the stored trials: of this sweep, or of the latest one of its name.

    Sweeps that were stored before codes were have none.
    """
    if resumed:
        return spec.code or ""
    named = [sweep for sweep in list_sweeps(store) if sweep.name == spec.name]
    named = [sweep for sweep in named if sweep.workload == spec.workload]
    if not named:
        return workload.code
    latest = max(named, key=lambda sweep: sweep.submitted_at or 0.0)
    return str(json.loads(latest.spec).get("code") or "")


def search_task(prepared: Prepared) -> "SearchTask":
    """The search of a spec; imports `trials.search` late, as that takes a second."""
    from sickbay.trials.search.study import SearchTask  # noqa: PLC0415  Optuna is slow

    return SearchTask(
        prepared.spec, prepared.workload, prepared.sweep_id, locate_store(prepared.store.uri)
    )


def _with_suggestions(prepared: Prepared) -> Prepared:
    """Add the suggestions of a search so far, in seed blocks, and the number of trials to come."""
    from sickbay.trials.search import study  # noqa: PLC0415  Optuna is slow
    from sickbay.trials.search.warm_start import warm_start  # noqa: PLC0415

    task, seeds = search_task(prepared), prepared.spec.seed_list
    file = study.study_file(prepared.store, prepared.sweep_id)
    stored = study.stored_trials(file, task.study_name)
    suggested = [trial for trial in stored if study.is_configuration(trial)]
    known = [task.trials(configuration.params) for configuration in suggested]
    arms = tuple(
        design.Arm(design.arm_name(trial.config, trial.changed), trial.config, trial.changed)
        for trial, *_ in known
    )
    blocks = tuple(trial for block in zip(*known, strict=True) for trial in block)
    unknown = max(0, task.configurations - len(known)) * len(seeds)
    if isinstance(prepared.spec.seeds, ConfirmedSeeds):
        from sickbay.trials.search.confirm import confirmation  # noqa: PLC0415  Optuna is slow

        if unknown or not all(configuration.state.is_finished() for configuration in suggested):
            unknown += prepared.spec.seeds.most_trials
        else:
            blocks += tuple(confirmation(task, suggested))
    made = design.Plan(blocks, arms, seeds)
    earlier = warm_start(task, stored) if prepared.spec.warm_start else None
    return replace(prepared, plan=made, unsuggested=unknown, earlier=earlier)


def _without_settled(prepared: Prepared) -> Prepared:
    """Drop the seeds that settled arms no longer need, by the stored trials."""
    from sickbay.trials.search import outcomes, sequential  # noqa: PLC0415  scipy is slow

    rule, made = prepared.spec.seeds, prepared.plan
    assert isinstance(rule, SequentialSeeds)
    trials = sequential.by_arm_and_seed(made.trials)
    goal = design.objective_of(prepared.spec, prepared.workload)
    outcomes_by_id = outcomes.read_outcomes(prepared.store, prepared.sweep_id)
    final = {
        key: outcome for key, outcome in outcomes_by_id.items() if prepared.done(outcome.state)
    }
    progress = sequential.stored_progress(rule, trials, goal, final)
    may = sequential.reachable(rule, progress, design.BASELINE_ARM)
    wanted = {trial.trial_id for place, trial in trials.items() if may(*place)}
    kept = tuple(
        trial for trial in made.trials if trial.trial_id in wanted or trial.trial_id in final
    )
    return replace(prepared, plan=replace(made, trials=kept), progress=progress)


def _source(source: "str | bytes | Path | dict[str, Any]") -> "str | bytes | Path | dict[str, Any]":
    """Treat a one-line string with a spec's file extension as a path."""
    is_path = isinstance(source, str) and source.endswith((".yaml", ".yml", ".json"))
    return Path(str(source)) if is_path and "\n" not in str(source) else source


def enlist(prepared: Prepared, state: str) -> SweepRecord:
    """Write the sweep's row to the store, and return it."""
    spec, store = prepared.spec, open_store(prepared.store.uri)
    earlier = read_sweep(store, prepared.sweep_id)
    record = SweepRecord(
        sweep_id=prepared.sweep_id,
        name=spec.name,
        workload=spec.workload,
        design=spec.design,
        spec=spec_text(prepared),
        state=state,
        submitted_at=earlier.submitted_at if earlier else time.time(),
        trials_planned=prepared.planned,
        code_version=code_version(Path.cwd()),
        sickbay_version=version("sickbay"),
        libraries=library_versions(),
        data_version=_data_version(prepared),
    )
    write_sweep(store, record)
    return record


def _data_version(prepared: Prepared) -> str:
    first = prepared.plan.trials[:1]
    return "".join(prepared.workload.data_identity(trial.config) for trial in first)[:16]


def spec_text(prepared: Prepared) -> str:
    """The spec as stored in a sweep's row."""
    return spec_to_json(_with_objective(prepared))


def _with_objective(prepared: Prepared) -> SweepSpec:
    """The spec with its objective and code, so that readers need not load the workload."""
    goal = design.objective_of(prepared.spec, prepared.workload)
    also = prepared.spec.objective.also if prepared.spec.objective else ()
    written = ObjectiveSpec(signal=goal.signal, goal=goal.goal.value, also=also)
    code = prepared.workload.code
    return prepared.spec.model_copy(update={"objective": written, "code": code})


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
