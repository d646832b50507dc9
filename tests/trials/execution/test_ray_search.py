"""Searches and schedulers on a real local Ray."""

import optuna
import pytest
import toy_sweeps

from sickbay.service.sweeps.runner import Options, run
from sickbay.trials.execution import ray_cluster
from sickbay.trials.search.study import is_configuration
from sickbay.trials.search.warm_start import is_earlier
from sickbay.trials.store import open_store
from sickbay.trials.store.tables import load_tables

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        # Ray's own, on our Python and packages
        "ignore::DeprecationWarning",
        "ignore::FutureWarning",
        "ignore::ResourceWarning",
        "ignore::pytest.PytestUnraisableExceptionWarning",
    ),
]

RANGE = {"lr": {"low": 1e-3, "high": 10.0, "log": True}}


@pytest.fixture(scope="module", autouse=True)
def local_ray():
    with ray_cluster.connected(ray_cluster.Cluster(cpus=2)):
        yield


def run_it(store, **changes):
    keys = {"factors": RANGE, "seeds": 2, "budget": {"trials": 12}, "fixed": {"epochs": 8}}
    return run(toy_sweeps.spec(**keys | changes), str(store), Options(cpus=2))


def table(store):
    return load_tables(open_store(str(store)), ["trials"]).tables["trials"].to_pylist()


def studies(store):
    [journal] = (store / "_studies").glob("*.journal")
    backend = optuna.storages.journal.JournalFileBackend(str(journal))
    storage = optuna.storages.JournalStorage(backend)
    return [
        optuna.load_study(study_name=name, storage=storage)
        for name in optuna.get_all_study_names(storage)
    ]


def test_a_search_on_ray_reports_what_the_store_holds(tmp_path):
    result = run_it(tmp_path, design="tpe")
    assert (result.state, result.ran, result.failed) == ("finished", 12, 0)
    rows = {row["trial_id"]: row for row in table(tmp_path)}
    [study] = studies(tmp_path)
    suggestions = [suggestion for suggestion in study.trials if is_configuration(suggestion)]
    assert len(suggestions) == 6
    assert {
        trial for suggestion in suggestions for trial in suggestion.user_attrs["trials"]
    } == set(rows)
    for suggestion in suggestions:
        labels = [rows[trial]["label"] for trial in suggestion.user_attrs["trials"]]
        assert suggestion.user_attrs["pathological"] == labels.count("pathological")
        assert suggestion.params["lr"] == rows[suggestion.user_attrs["trials"][0]]["lr"]
    assert run_it(tmp_path, design="tpe").ran == 0


def test_several_objectives_go_through_ray(tmp_path):
    goals = [
        {"signal": "val_loss", "goal": "minimize"},
        {"signal": "output_variance_ratio", "goal": "maximize"},
    ]
    assert run_it(tmp_path, design="nsga2", objective=goals).state == "finished"
    [study] = studies(tmp_path)
    assert all(
        len(suggestion.values) == 2 for suggestion in study.trials if is_configuration(suggestion)
    )


def test_a_scheduler_ends_a_suspect_trial_and_no_healthy_one_before_its_grace(tmp_path):
    result = run_it(
        tmp_path,
        design="grid",
        factors={"lr": [0.1, 0.05, 0.02, 0.0]},  # the last never moves
        seeds=1,
        budget={},
        fixed={"epochs": 12},
        early_stop={"pathology": False, "scheduler": "asha", "grace": 4, "reduction": 2},
    )
    assert result.state == "finished"
    ended = {row["lr"]: (row["state"], row["label"], row["epochs_run"]) for row in table(tmp_path)}
    assert ended[0.1] == ("completed", "healthy", 12)
    assert ended[0.0][:2] == ("pruned", "pathological")
    assert min(epochs for _, _, epochs in ended.values()) >= 4


def test_a_sequential_sweep_on_ray_runs_the_trials_that_it_runs_without(tmp_path):
    sequential = {"until": "resolved", "at_most": 8}
    spec = toy_sweeps.spec(
        design="one_factor", factors={"lr": [0.1, 0.02, 0.0]}, fixed={"epochs": 6}, seeds=sequential
    )
    ran = []
    for folder, options in (("ray", Options(cpus=2)), ("here", Options(in_process=True))):
        assert run(spec, str(tmp_path / folder), options).state == "finished"
        ran.append({(row["arm"], row["seed"]) for row in table(tmp_path / folder)})
    assert ran[0] == ran[1]
    assert len(ran[0]) < 24


@pytest.mark.parametrize("kind", ["asha", "hyperband", "median"])
def test_a_scheduler_prunes_what_falls_behind_and_never_the_baseline(tmp_path, kind):
    levels = [0.1, *(round(0.001 * n, 4) for n in range(1, 12))]
    result = run_it(
        tmp_path,
        design="grid",
        factors={"lr": levels},
        budget={},
        fixed={"epochs": 16},
        early_stop={"scheduler": kind},
    )
    assert result.state == "finished"
    rows = table(tmp_path)
    assert len(rows) == 24
    pruned = [row for row in rows if row["state"] == "pruned"]
    assert pruned
    assert all(row["epochs_run"] < 16 and row["label"] is None for row in pruned)
    assert {row["state"] for row in rows if not row["changed"]} == {"completed"}
    assert (
        run_it(
            tmp_path,
            design="grid",
            factors={"lr": levels},
            budget={},
            fixed={"epochs": 16},
            early_stop={"scheduler": kind},
        ).ran
        == 0
    )
    without = {"design": "grid", "factors": {"lr": levels}, "budget": {}, "fixed": {"epochs": 16}}
    again = run_it(tmp_path, **without)  # no scheduler any more: they are run to their end
    assert again.ran == len(pruned)
    assert {row["state"] for row in table(tmp_path)} <= {"completed", "stopped"}


def test_a_warm_search_by_cmaes_goes_through_ray(tmp_path):
    """Two slots, a diverging half: the study begins with the six earlier configurations."""
    levels = {"lr": [0.1, 0.05, 0.02, 0.01, 5.0, 8.0]}
    earlier = run_it(tmp_path, design="grid", name="first", factors=levels, seeds=1, budget={})
    warm = {"name": "second", "warm_start": earlier.sweep_id, "design": "cmaes", "seeds": 1}
    result = run_it(tmp_path, **warm)
    assert (result.state, result.ran, result.failed) == ("finished", 12, 0)
    [study] = studies(tmp_path)
    assert [is_earlier(trial) for trial in study.trials] == [True] * 6 + [False] * 12
    assert study.user_attrs["warm start"]["trials"] == 6
    assert run_it(tmp_path, **warm).ran == 0
