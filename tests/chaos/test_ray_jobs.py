"""Sweeps as jobs of a real Ray cluster with token authentication, by the command line."""

import json
import subprocess
import time

import pandas as pd
import pytest
import toy_sweeps
import yaml
from ray_clusters import BIN, RayCluster, free_port

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(280)]


@pytest.fixture(scope="module")
def cluster():
    """A head with two cores."""
    made = RayCluster()
    try:
        made.at = made.head(cpus=2).dashboard
        yield made
    finally:
        made.stop()


def spec_file(folder, **changes):
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump(toy_sweeps.spec(**changes)))
    return path


SLOW = {"factors": {}, "fixed": {"sleep_ms": 150.0}, "seeds": 100}


def wait_for(question, seconds=90.0):
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        if answer := question():
            return answer
        time.sleep(0.3)
    pytest.fail("waited in vain")


def status(cluster, store):
    return json.loads(cluster.sickbay("status", "toy", "--store", store, "--json").stdout)


def test_submit_follows_a_job_to_its_verdicts_and_again_runs_nothing(cluster, tmp_path):
    spec, store = spec_file(tmp_path), tmp_path / "store"
    done = cluster.sickbay("submit", spec, "--store", store, "--address", cluster.at, "--wait")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 of 4 trials to run" in done.stdout
    assert "non_finite" in done.stdout  # the verdicts, which the driver says last
    assert done.stdout.rstrip().endswith("is finished: 4 of 4 ended")
    trials = pd.read_parquet(store / "trials").sort_values("trial_id")
    assert sorted(trials["label"]) == ["healthy"] * 2 + ["pathological"] * 2
    again = cluster.sickbay("run", spec, "--store", store, "--address", cluster.at)
    assert again.returncode == 0, again.stderr
    assert "running" not in again.stdout
    after = pd.read_parquet(store / "trials").sort_values("trial_id")
    assert list(after["finished_at"]) == list(trials["finished_at"])


def test_logs_stop_resume_and_cancel_of_a_job(cluster, tmp_path):
    spec, store = spec_file(tmp_path, **SLOW), tmp_path / "store"
    at = ("--store", store, "--address", cluster.at)
    begun = cluster.sickbay("submit", spec, *at)
    sweep_id = begun.stdout.strip()
    assert begun.returncode == 0, begun.stderr
    assert cluster.sickbay("submit", spec, *at).stdout.strip() == sweep_id  # and no second job
    wait_for(lambda: status(cluster, store)["ended"] >= 1)
    following = subprocess.Popen(
        [BIN / "sickbay", "logs", "toy", "-f", *map(str, at)],
        env=cluster.env,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert cluster.sickbay("stop", "toy", *at).returncode == 0
    said, _ = following.communicate(timeout=60)
    assert said.count("100 of 100 trials to run on Ray") == 1
    assert said.rstrip().splitlines()[-1].startswith(f"{sweep_id} is stopped")
    ended = status(cluster, store)["ended"]
    assert 1 <= ended < 100
    resuming = subprocess.Popen(
        [BIN / "sickbay", "resume", "toy", *map(str, at)],
        env=cluster.env,
        stdout=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: status(cluster, store)["ended"] > ended)
    cancelled = cluster.sickbay("cancel", "toy", "-y", *at)
    assert cancelled.returncode == 0, cancelled.stderr
    said, _ = resuming.communicate(timeout=60)
    assert f"{100 - ended} of 100 trials to run on Ray" in said
    assert "is cancelled" in said
    assert status(cluster, store)["state"] == "cancelled"


def test_a_runtime_env_brings_the_user_s_own_code(cluster, tmp_path):
    folder, store = tmp_path / "mine", tmp_path / "store"
    folder.mkdir()
    (folder / "own_task.py").write_text(
        "import os\nfrom dataclasses import replace\n"
        "from sickbay_demo.task import WORKLOAD as TOY, train as learn\n"
        "def train(config, context):\n"
        "    assert os.environ['OWN_WORD'] == 'yes'\n"
        "    yield from learn(config, context)\n"
        "WORKLOAD = replace(TOY, name='own', train=train)\n"
    )
    environment = tmp_path / "env.yaml"
    environment.write_text(
        yaml.safe_dump({"working_dir": str(folder), "env_vars": {"OWN_WORD": "yes"}})
    )
    spec = spec_file(tmp_path, workload="own_task:WORKLOAD", factors={}, seeds=2)
    at = ("--store", store, "--address", cluster.at, "--runtime-env", environment)
    done = cluster.sickbay("submit", spec, *at, "--wait", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(pd.read_parquet(store / "trials")["label"]) == ["healthy"] * 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"RAY_AUTH_TOKEN": "f" * 64}, "refuses this token: set RAY_AUTH_MODE=token"),
        ({"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": ""}, "refuses this token"),
    ],
)
def test_a_wrong_token_is_a_sentence_and_leaves_nothing_waiting(cluster, tmp_path, change, said):
    spec, store = spec_file(tmp_path), tmp_path / "store"
    at = ("--store", store, "--address", cluster.at)
    refused = cluster.sickbay("submit", spec, *at, env=change)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert said in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1
    assert status(cluster, store)["state"] == "interrupted"


def test_an_address_where_no_ray_is_and_one_of_a_ray_client(cluster, tmp_path):
    spec, store = spec_file(tmp_path), tmp_path / "store"
    nowhere = f"http://127.0.0.1:{free_port()}"
    missed = cluster.sickbay("run", spec, "--store", store, "--address", nowhere)
    assert missed.returncode == 1
    assert "cannot reach" in missed.stderr
    client = cluster.sickbay("run", spec, "--store", store, "--address", "ray://127.0.0.1:1")
    assert client.returncode == 1
    assert "Jobs API of a Ray cluster at http://127.0.0.1:8265" in client.stderr


def test_a_job_that_never_begins_is_reported(cluster, tmp_path):
    spec, store = spec_file(tmp_path), tmp_path / "store"
    environment = tmp_path / "env.yaml"
    environment.write_text("env_vars: {PYTHONPATH: /nowhere}\n")  # there is no workload there
    at = ("--store", store, "--address", cluster.at, "--runtime-env", environment)
    failed = cluster.sickbay("submit", spec, *at, "--wait")
    assert failed.returncode == 1
    assert "never started: its job" in failed.stderr
    assert status(cluster, store)["state"] == "interrupted"


def test_the_service_runs_its_sweeps_as_jobs(cluster, tmp_path):
    spec, store = spec_file(tmp_path), tmp_path / "store"
    arguments = ["serve", "--port", str(port := free_port()), "--store", store]
    arguments += ["--address", cluster.at, "--allow-code", "submit"]
    with subprocess.Popen([BIN / "sickbay", *arguments], env=cluster.env) as service:
        try:
            at = ("--address", f"http://127.0.0.1:{port}")
            wait_for(lambda: cluster.sickbay("list", *at).returncode == 0)
            plan = cluster.sickbay("plan", spec, *at)
            assert "4 trials = 2 arms x 2 seeds, grid; 4 to run, 0 stored" in plan.stdout
            done = cluster.sickbay("submit", spec, *at, "--wait")
            assert done.returncode == 0, done.stderr
            assert "4 of 4 trials to run on Ray" in done.stdout
            assert "resume toy" in cluster.sickbay("logs", "toy", *at).stdout
        finally:
            service.terminate()
