"""A real Ray of several nodes on this machine: they come and go, and two sweeps share it."""

import json
import time
from pathlib import Path

import pandas as pd
import pytest
import toy_sweeps
import yaml
from fastapi.testclient import TestClient
from ray_clusters import RayCluster, descendants

from sickbay.service.api.app import create_app
from sickbay.service.query.engine import query
from sickbay.service.query.status import overview
from sickbay.service.sweeps.launcher import launcher_at
from sickbay.trials.store import open_store

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(280)]
EPOCHS = 16
CORES = 4
# Trials that outlast the start of a worker, which takes seconds on a busy machine: Tune hands a
# waiting trial to whichever worker is free first, and then stops the one that was starting for it.
LONG = {"sleep_ms": 400.0}  # an epoch


@pytest.fixture
def cluster():
    made = RayCluster()
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
def store(tmp_path):
    return tmp_path / "store"


def submit(cluster, head, store, **changes):
    raw = toy_sweeps.spec(**{"factors": {}, "fixed": LONG, **changes})
    path = store.parent / f"{raw['name']}.yaml"
    path.write_text(yaml.safe_dump(raw))
    begun = cluster.sickbay("submit", path, "--store", store, "--address", head.dashboard)
    assert begun.returncode == 0, begun.stderr


def wait_for(question, seconds=100.0):
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        if answer := question():
            return answer
        time.sleep(0.5)
    pytest.fail("waited in vain")


def listed(store):
    """What `sickbay list` says, without the start of a process."""
    return {sweep["name"]: sweep for sweep in overview(open_store(str(store)))}


def begun_by(pids, store):
    """The trials that processes have begun and not ended, and when each began."""
    started = {}
    for marker in Path(store).glob("_parts/*/*/attempt-*.json"):
        try:
            attempt = json.loads(marker.read_text())
            ended = marker.with_name("trial.json")
            latest = json.loads(ended.read_text())["row"]["attempt"] if ended.exists() else 0
        except (OSError, ValueError):
            continue  # it has just been merged
        if attempt["pid"] in pids and latest < attempt["attempt"]:
            started[marker.parent.name] = attempt["started_at"]
    return started


def running_on(node, store):
    return begun_by(set(descendants(node.process.pid)), store)


def just_begun_on(node, store):
    now = time.time()
    return any(now - began < 2.0 for began in running_on(node, store).values())


def ends_of(store):
    """What must never change again of a trial that has ended."""
    rows = query(open_store(str(store)), "SELECT trial_id, attempt, finished_at FROM trials").rows
    return {trial_id: (attempt, at) for trial_id, attempt, at in rows}


def test_a_worker_and_the_head_are_lost_and_nothing_else(cluster, store):
    """One sweep through all of it: lose a worker, gain one, lose the head, go on elsewhere."""
    n = 9
    head = cluster.head(cpus=1)
    submit(cluster, head, store, seeds=n, fixed={"sleep_ms": 600.0})
    lost = cluster.worker(head, cpus=1)

    wait_for(lambda: listed(store)["toy"]["ended"] >= 1)
    wait_for(lambda: just_begun_on(lost, store))
    victims = begun_by(lost.kill(), store)
    assert victims
    gained = cluster.worker(head, cpus=1)
    assert wait_for(lambda: running_on(gained, store)), "the new node got no trial"
    assert listed(store)["toy"]["state"] == "running"

    head.kill()
    wait_for(lambda: listed(store)["toy"]["state"] == "interrupted")
    time.sleep(2.0)  # an orphaned worker may store what it had done, and begins nothing more
    toy, before = listed(store)["toy"], ends_of(store)
    assert toy["states"] == {"completed": len(before)}
    assert 1 <= toy["ended"] == len(before) < toy["planned"] == n
    status = json.loads(cluster.sickbay("status", "toy", "--store", store, "--json").stdout)
    assert (status["state"], status["running"], status["ended"]) == ("interrupted", 0, len(before))
    app = create_app(open_store(str(store)), launcher_at(head.dashboard))
    service = TestClient(app, base_url="http://localhost")
    summary = service.get("/api/sweeps").json()["sweeps"][0]
    assert (summary["state"], summary["ended"], summary["planned"]) == (
        "interrupted",
        len(before),
        n,
    )

    again = cluster.head(cpus=CORES)
    resumed = cluster.sickbay("resume", "toy", "--store", store, "--address", again.dashboard)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert f"{n - len(before)} of {n} trials to run on Ray" in resumed.stdout
    trials = pd.read_parquet(store / "trials")
    epochs = pd.read_parquet(store / "epochs")
    assert len(trials) == n
    assert trials["trial_id"].is_unique
    assert set(trials["state"]) == {"completed"}
    assert set(trials["label"]) == {"healthy"}
    assert len(epochs) == n * EPOCHS
    assert not epochs.duplicated(["trial_id", "epoch"]).any()
    after = ends_of(store)
    assert before.items() <= after.items()
    assert all(after[trial][0] >= 2 for trial in victims)


@pytest.mark.parametrize(
    ("priority", "sizes", "low", "high"), [(1, (14, 12), 0.4, 0.6), (3, (18, 9), 0.65, 0.85)]
)
def test_two_sweeps_share_a_cluster_and_the_last_has_all_of_it(
    cluster, store, priority, sizes, low, high
):
    """Of the time that trials run while both sweeps do, the first has its part of the cores."""
    head = cluster.head(cpus=CORES)
    submit(cluster, head, store, name="one", seeds=sizes[0], priority=priority)
    # longer ones, so that more workers come up before the next trial ends
    submit(cluster, head, store, name="two", seeds=sizes[1], fixed={"sleep_ms": 1000.0})
    wait_for(lambda: {sweep["state"] for sweep in listed(store).values()} == {"finished"}, 220)
    one, two = spans(store, "one"), spans(store, "two")
    assert (len(one), len(two)) == sizes
    least = CORES // (priority + 1)  # trials: the second's part
    begin = two["started_at"].nsmallest(least).iloc[-1]  # what the first had begun alone has ended
    end = one["finished_at"].max()
    assert end - begin > 10
    part = busy(one, begin, end) / (busy(one, begin, end) + busy(two, begin, end))
    grown = [at - end for at in two["started_at"] if abreast(two, at) == CORES and at > end]
    assert grown, "the second never had the whole cluster"
    print(f"priority {priority}: {part:.2f} of {end - begin:.0f} s, all after {min(grown):.0f} s")
    assert low < part < high
    assert abreast(two, end - 0.1) < CORES


def spans(store, name):
    """When a sweep's trials ran, in seconds."""
    rows = pd.read_parquet(store / "trials")
    rows = rows[rows["sweep_id"].str.startswith(name)].copy()
    for column in ("started_at", "finished_at"):
        rows[column] = (rows[column] - pd.Timestamp(0, tz="UTC")).dt.total_seconds()
    return rows


def busy(rows, begin, end):
    """Seconds of trials between two moments."""
    inside = rows["finished_at"].clip(upper=end) - rows["started_at"].clip(lower=begin)
    return inside.clip(lower=0).sum()


def abreast(rows, moment):
    """How many trials run at a moment."""
    return int(((rows["started_at"] <= moment) & (rows["finished_at"] > moment)).sum())
