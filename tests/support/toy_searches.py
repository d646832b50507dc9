"""Searches of the toy workload in this process: their specs, studies and stored trials."""

from dataclasses import replace

import optuna
import toy_sweeps

from sickbay.service.sweeps.runner import Options
from sickbay.trials import registry
from sickbay.trials.events import TrialEnded
from sickbay.trials.search.study import SearchTask, open_storage, study_file
from sickbay.trials.spec import check_spec, parse_spec, plan
from sickbay.trials.store import open_store
from sickbay.trials.store.tables import load_tables

HERE = Options(in_process=True)
RANGES = {"lr": {"low": 1e-3, "high": 10.0, "log": True}, "init": ["random", "zeros"]}


def raw(**changes):
    keys = {"design": "tpe", "factors": RANGES, "seeds": 2, "budget": {"trials": 20}}
    return toy_sweeps.spec(**keys | {"fixed": {"epochs": 8}} | changes)


def task_of(store, **changes):
    workload = registry.workload(toy_sweeps.TOY)
    spec = check_spec(parse_spec(raw(**changes)), workload)
    return SearchTask(spec, workload, plan.sweep_identity(spec, workload), open_store(str(store)))


def study_of(store, **changes):
    task = task_of(store, **changes)
    storage = open_storage(study_file(task.store, task.sweep_id))
    return optuna.load_study(study_name=task.study_name, storage=storage)


def table(store):
    return load_tables(open_store(str(store)), ["trials"]).tables["trials"].to_pylist()


def drive(search, task, store, trials):
    """Run so many trials by hand; gives back what was suggested."""
    given = []
    while len(given) < trials:
        trial = search.next()
        if trial is None:
            break
        given.append(trial)
        job = toy_sweeps.job(store)
        job = replace(job, sweep_id=task.sweep_id, trial=trial, objective=task.goals[0])
        search.ended(TrialEnded.of(toy_sweeps.run_to_end(replace(job, workdir=str(store) + "-w"))))
    return given
