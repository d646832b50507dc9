"""Submitting, stopping and resuming over HTTP, with real sweeps."""

import json
import signal
import subprocess
import time

import pytest
import toy_sweeps
import yaml
from fastapi.testclient import TestClient
from serving_samples import InlineLauncher

from sickbay.service.api.app import create_app
from sickbay.service.query.lookup import state_of
from sickbay.service.server.tokens import Role, create_token
from sickbay.service.sweeps import launcher as launching
from sickbay.service.sweeps.launcher import LocalLauncher
from sickbay.trials.execution.lease import driving
from sickbay.trials.store import open_store
from sickbay.trials.store.files import sweep_parts, write_file
from sickbay.trials.store.reader import read_sweep, trial_states

SPEC = toy_sweeps.spec(factors={"fault": ["none", "nan"]}, seeds=1)


class Waiting(InlineLauncher):
    """Takes a sweep, and never begins it."""

    def start(self, store, sweep_id):
        self.started.append(sweep_id)


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path / "store"))


@pytest.fixture
def launcher():
    made = InlineLauncher()
    yield made
    made.wait()


@pytest.fixture
def client(store, launcher):
    app = create_app(store, launcher, Role.SUBMIT)
    return TestClient(app, base_url="http://localhost")


def test_a_spec_becomes_a_sweep(client, launcher):
    answer = client.post("/api/sweeps", content=yaml.safe_dump(SPEC))
    assert answer.status_code == 201
    body = answer.json()
    assert (body["state"], body["planned"], body["missing"]) == ("queued", 2, 2)
    launcher.wait()
    time.sleep(1.1)
    sweep = client.get(f"/api/sweeps/{body['sweep_id']}").json()
    assert (sweep["state"], sweep["labels"]) == ("finished", {"healthy": 1, "pathological": 1})


def test_submitting_again_runs_nothing_twice(client, launcher):
    first = client.post("/api/sweeps", json=SPEC)
    launcher.wait()
    again = client.post("/api/sweeps", json=SPEC)
    assert (again.status_code, again.json()["state"]) == (200, "finished")
    assert again.json()["sweep_id"] == first.json()["sweep_id"]
    assert len(launcher.started) == 1
    more = client.post("/api/sweeps", json={**SPEC, "seeds": 2})
    assert (more.status_code, more.json()["missing"]) == (201, 2)


def test_a_running_sweep_is_left_alone(client, store, launcher):
    sweep_id = client.post("/api/sweeps", json=SPEC).json()["sweep_id"]
    launcher.wait()
    with driving(store, sweep_id):
        more = client.post("/api/sweeps", json={**SPEC, "seeds": 2})
        assert (more.status_code, more.json()["state"]) == (200, "running")
        assert client.post(f"/api/sweeps/{sweep_id}/resume").status_code == 409
        asked = client.post(f"/api/sweeps/{sweep_id}/stop")
        assert asked.json() == {"sweep_id": sweep_id, "asked": "stop"}
    gone = client.post(f"/api/sweeps/{sweep_id}/stop")
    assert gone.status_code == 409
    assert "not running" in gone.json()["error"]["message"]


def test_an_idempotency_key_belongs_to_one_sweep(client, launcher):
    key = {"Idempotency-Key": "abc"}
    assert client.post("/api/sweeps", json=SPEC, headers=key).status_code == 201
    launcher.wait()
    assert client.post("/api/sweeps", json=SPEC, headers=key).status_code == 200
    other = {**SPEC, "name": "other"}
    answer = client.post("/api/sweeps", json=other, headers=key)
    assert answer.status_code == 409
    assert len(launcher.started) == 1


@pytest.mark.parametrize("path", ["/api/sweeps", "/api/plan"])
def test_a_bad_spec_is_reported_as_validate_does(client, path, launcher):
    bad = {**SPEC, "factors": {"fault": []}, "seedz": 3, "retries": -1}
    answer = client.post(path, json=bad)
    assert answer.status_code == 422
    problems = {problem["key"] for problem in answer.json()["error"]["detail"]}
    assert problems == {"factors.fault", "seedz", "retries"}
    assert launcher.started == []
    for text in ("", "- a\n- b", "{", "x" * 1000, "/etc/passwd.yaml", "name: &a [*a]"):
        assert client.post(path, content=text).status_code == 422, text
    assert client.post(path, content=b"\xff\xfe").status_code == 422


@pytest.mark.parametrize("path", ["/api/sweeps", "/api/plan"])
def test_a_spec_that_would_keep_others_waiting_is_refused_at_once(client, path, launcher):
    large = f"{yaml.safe_dump(SPEC)}# {'x' * 256 * 1024}\n"
    assert client.post(path, content=large).status_code == 413
    began = time.monotonic()
    answer = client.post(path, json={**SPEC, "seeds": 100_000})
    assert answer.status_code == 422
    assert "200,000 trials" in answer.json()["error"]["message"]
    levels = {"fault": ["none"], "lr": [round(1 + n / 10_000, 4) for n in range(20_000)]}
    answer = client.post(path, json={**SPEC, "factors": levels, "seeds": 1000})
    assert answer.status_code == 422
    assert time.monotonic() - began < 10.0
    assert launcher.started == []


def test_a_plan_runs_nothing(client, launcher):
    plan = client.post("/api/plan", json=SPEC).json()
    assert (plan["total"], plan["missing"]) == (2, 2)
    assert launcher.started == []
    assert client.get("/api/sweeps").json()["total"] == 0


def test_resume_runs_what_is_missing(client, store, launcher):
    sweep_id = client.post("/api/sweeps", json=SPEC).json()["sweep_id"]
    launcher.wait()
    answer = client.post(f"/api/sweeps/{sweep_id}/resume")
    assert (answer.status_code, answer.json()["missing"]) == (200, 0)
    assert client.post("/api/sweeps/nothing/resume").status_code == 404


def test_a_cancelled_driver_that_will_not_end_is_ended(store, launcher, monkeypatch):
    monkeypatch.setattr(launching, "KILL_SECONDS", 0.2)
    with driving(store, "stays-1"):
        launching.insist(store, "stays-1", launcher)
    assert launcher.killed == ["stays-1"]


def test_a_driver_that_was_started_after_a_cancel_is_left_alone(client, store, launcher):
    sweep_id = client.post("/api/sweeps", json=SPEC).json()["sweep_id"]
    launcher.wait()
    with client, driving(store, sweep_id):
        assert client.post(f"/api/sweeps/{sweep_id}/cancel").json()["asked"] == "cancel"
    assert client.app.state.launcher.killed == []
    launching.insist(store, sweep_id, launcher)  # nobody drives it any more
    assert launcher.killed == []


@pytest.mark.parametrize(("verb", "state"), [("stop", "stopped"), ("cancel", "cancelled")])
def test_a_sweep_that_waits_can_be_ended(store, verb, state):
    launcher = Waiting()
    client = TestClient(create_app(store, launcher, Role.SUBMIT), base_url="http://localhost")
    sweep_id = client.post("/api/sweeps", json=SPEC).json()["sweep_id"]
    answer = client.post(f"/api/sweeps/{sweep_id}/{verb}")
    assert (answer.status_code, answer.json()) == (200, {"sweep_id": sweep_id, "asked": verb})
    assert launcher.killed == [sweep_id]
    assert state_of(store, read_sweep(store, sweep_id)) == state
    assert client.post(f"/api/sweeps/{sweep_id}/{verb}").status_code == 409
    assert client.post(f"/api/sweeps/{sweep_id}/resume").json()["state"] == "queued"


def test_a_driver_that_has_not_begun_is_ended(store, monkeypatch):
    monkeypatch.setattr(launching, "MAIN", "import time; time.sleep(600)")  # it never begins
    launcher = LocalLauncher()
    client = TestClient(create_app(store, launcher, Role.SUBMIT), base_url="http://localhost")
    sweep_id = client.post("/api/sweeps", json=SPEC).json()["sweep_id"]
    assert client.post(f"/api/sweeps/{sweep_id}/cancel").status_code == 200
    assert launcher._children[sweep_id].returncode == -signal.SIGTERM
    assert state_of(store, read_sweep(store, sweep_id)) == "cancelled"
    assert trial_states(store, sweep_id) == {}


def test_a_driver_of_another_machine_is_never_killed_here(store, monkeypatch):
    stranger = subprocess.Popen(["sleep", "60"])
    beat = {"host": "elsewhere", "pid": stranger.pid, "at": time.time()}
    write_file(store, f"{sweep_parts(store, 'far-1')}/driver.json", json.dumps(beat).encode())
    monkeypatch.setattr(launching, "KILL_SECONDS", 0.2)
    LocalLauncher().kill(store, "far-1")
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


def test_logs_are_streamed(client, launcher):
    sweep_id = client.post("/api/sweeps", json=SPEC).json()["sweep_id"]
    launcher.wait()
    for follow in ("false", "true"):
        answer = client.get(f"/api/sweeps/{sweep_id}/logs?follow={follow}")
        assert answer.text == f"a line of {sweep_id}\n"


def test_relabel_over_http(client, launcher):
    sweep_id = client.post("/api/sweeps", json=SPEC).json()["sweep_id"]
    launcher.wait()
    report = client.post(f"/api/sweeps/{sweep_id}/relabel?dry_run=true").json()
    assert (report["trials"], report["same"], report["changes"]) == (2, 2, [])


def test_code_is_refused_before_it_is_imported(store, launcher, tmp_path, monkeypatch):
    marker = tmp_path / "imported"
    (tmp_path / "evil_code.py").write_text(f"open({str(marker)!r}, 'w')\nWORKLOAD = None\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    client = TestClient(create_app(store, launcher), base_url="http://localhost")
    for path in ("/api/sweeps", "/api/plan"):
        answer = client.post(path, json={**SPEC, "workload": "evil_code:WORKLOAD"})
        assert answer.status_code == 403
        assert "--allow-code" in answer.json()["error"]["message"]
    assert not marker.exists()


def test_roles_decide_who_may_submit(store, launcher):
    reader = {"Authorization": f"Bearer {create_token(store, 'r', Role.READ)}"}
    submitter = {"Authorization": f"Bearer {create_token(store, 's', Role.SUBMIT)}"}
    client = TestClient(create_app(store, launcher, Role.ADMIN))
    for path in ("", "/x/stop", "/x/cancel", "/x/resume", "/x/relabel"):
        answer = client.post(f"/api/sweeps{path}", json=SPEC, headers=reader)
        assert answer.status_code == 403
        assert client.post(f"/api/sweeps{path}", json=SPEC).status_code == 401
    code = client.post("/api/sweeps", json=SPEC, headers=submitter)
    assert code.status_code == 403  # code is for admins here
    admin = {"Authorization": f"Bearer {create_token(store, 'a', Role.ADMIN)}"}
    client.app.state.guard.read()
    sweep_id = client.post("/api/sweeps", json=SPEC, headers=admin).json()["sweep_id"]
    launcher.wait()
    assert client.post(f"/api/sweeps/{sweep_id}/resume", headers=submitter).status_code == 403
    assert client.post(f"/api/sweeps/{sweep_id}/resume", headers=admin).status_code == 200
    registered = {"name": "m", "workload": "mvm_orientation", "factors": {}, "seeds": 1}
    assert client.post("/api/plan", json=registered, headers=reader).status_code == 200
