"""The command line and the client against a real server: they say what they say locally."""

import json
import subprocess
import sys

import pandas as pd
import pytest
import toy_sweeps
from serving_samples import InlineLauncher, served
from typer.testing import CliRunner

from sickbay.service.cli import options
from sickbay.service.cli.app import _address_first, app
from sickbay.service.client import Client, ServiceError
from sickbay.service.query.lookup import SweepError
from sickbay.service.server.tokens import Role, create_token
from sickbay.service.sweeps.remote import jobs_api, service_at
from sickbay.service.sweeps.runner import Options, run
from sickbay.trials.store import open_store

SPEC = toy_sweeps.spec(factors={"fault": ["none", "nan", "raise"]}, seeds=2)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("remote") / "store"
    run(SPEC, str(folder), Options(in_process=True))
    return open_store(str(folder))


@pytest.fixture(scope="module")
def url(store):
    with served(store, code_role=Role.SUBMIT) as url:
        yield url


@pytest.fixture
def client(url):
    with Client(url) as client:
        yield client


@pytest.fixture(autouse=True)
def _no_address():
    yield
    options.choose_address(None)


def said(*arguments):
    result = CliRunner().invoke(app, [str(word) for word in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize(
    "verb",
    [
        ["list", "--json"],
        ["status", "toy", "--json"],
        ["results", "toy", "--json"],
        ["results", "toy", "--label", "pathological", "--format", "csv"],
        ["query", "SELECT fault, label, count(*) FROM trials GROUP BY ALL ORDER BY ALL", "--json"],
        ["query", "SELECT epoch, avg(val_loss) FROM epochs GROUP BY 1 ORDER BY 1"],
        ["effects", "toy", "--json"],
        ["relabel", "toy", "--dry-run", "--json"],
    ],
    ids=lambda verb: " ".join(verb[:2]),
)
def test_reading_verbs_say_the_same_over_http(verb, store, url):
    assert said("--address", url, *verb) == said(*verb, "--store", store.uri)


def test_two_sweeps_of_a_service_are_compared(store, url):
    there = said("--address", url, "compare", "toy", "toy", "--json")
    assert there.replace(url, store.uri) == said(
        "compare", "toy", "toy", "--store", store.uri, "--json"
    )


def test_explain_and_logs_of_a_trial(store, url, client):
    trial = client.trials("toy", label="pathological")["trial_id"][0]
    for verb in (["explain", trial], ["logs", "toy", trial]):
        assert said("--address", url, *verb) == said(*verb, "--store", store.uri)
    assert "non_finite" in said("explain", trial, "--store", store.uri)


def test_a_report_is_made_over_http(url, tmp_path):
    target = tmp_path / "report.html"
    said("--address", url, "report", "toy", "-o", target)
    assert "<!doctype html>" in target.read_text()


def test_the_client_gives_data_frames(client):
    rows = client.trials("toy")
    assert isinstance(rows, pd.DataFrame)
    assert len(rows) == 6
    assert set(rows["fault"]) == {"none", "nan", "raise"}
    epochs = client.epochs("toy", rows[rows["fault"] == "nan"]["trial_id"].iloc[0])
    assert epochs["val_loss"].isna().any()
    counted = client.query("SELECT label, count(*) AS n FROM trials GROUP BY ALL ORDER BY ALL")
    assert list(counted["label"].dropna()) == ["healthy", "pathological"]
    assert list(counted["n"]) == [2, 2, 2]
    assert client.effects("toy")
    assert client.report("toy").startswith("<!doctype html>")
    assert client.plan(SPEC)["missing"] == 2  # those that failed are run again


def test_refusals_come_as_they_were_said(client):
    with pytest.raises(ServiceError, match="no sweep 'none'") as caught:
        client.sweep("none")
    assert caught.value.status == 404
    with pytest.raises(ServiceError) as caught:
        client.submit({**SPEC, "seedz": 1})
    assert caught.value.detail[0]["key"] == "seedz"
    with pytest.raises(ConnectionError, match="cannot reach a Sickbay service"):
        Client("http://127.0.0.1:9", timeout=2).sweeps()


def test_submit_waits_and_follows(tmp_path):
    launcher = InlineLauncher()
    store = open_store(str(tmp_path / "store"))
    with served(store, launcher, code_role=Role.SUBMIT) as url, Client(url) as client:
        sweep_id = client.submit({**SPEC, "factors": {"fault": ["none"]}, "seeds": 1})
        assert client.wait(sweep_id, poll=0.2, timeout=30)["state"] == "finished"
        assert list(client.trials(sweep_id)["label"]) == ["healthy"]
        spec = tmp_path / "spec.json"
        spec.write_text(json.dumps({**SPEC, "name": "more", "factors": {}, "seeds": 1}))
        result = CliRunner().invoke(app, ["submit", str(spec), "--address", url, "--wait"])
        assert result.exit_code == 0, result.output
        assert result.stdout.startswith("more-")
        assert "is finished: 1 of 1 ended" in result.stdout
    launcher.wait()


def test_a_token_is_taken_from_the_environment(tmp_path, monkeypatch):
    store = open_store(str(tmp_path / "store"))
    secret = create_token(store, "me", Role.READ)
    with served(store) as url:
        refused = CliRunner().invoke(app, ["--address", url, "list"])
        assert refused.exit_code != 0
        monkeypatch.setenv("SICKBAY_TOKEN", secret)
        assert "no sweep" in said("--address", url, "list")


def test_an_address_may_stand_after_the_verb():
    assert _address_first(["list", "--address", "u", "-v"]) == ["--address", "u", "list", "-v"]
    assert _address_first(["list", "--address=u"]) == ["--address=u", "list"]
    assert _address_first(["list", "--", "--address"]) == ["list", "--", "--address"]


@pytest.mark.parametrize(
    ("address", "jobs"),
    [
        (None, None),
        ("auto", None),
        ("head:6379", None),
        ("http://head:8265", "http://head:8265"),
        ("ray://head:10001", "http://head:8265"),
        ("ray://[::1]:10001", "http://[::1]:8265"),
        ("ray://head", "http://head:8265"),
    ],
)
def test_where_the_jobs_api_of_an_address_is(address, jobs):
    assert jobs_api(address) == jobs


def test_an_unknown_kind_of_address_says_which_there_are():
    with pytest.raises(SweepError, match=r"auto.*head:8265"):
        jobs_api("ftp://head")


def test_a_plan_of_a_service(url, tmp_path):
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps(SPEC))
    plan = json.loads(said("--address", url, "plan", spec, "--json"))
    assert (plan["total"], plan["missing"]) == (6, 2)  # those that raised are run again
    text = said("--address", url, "plan", spec)
    assert "6 trials = 3 arms x 2 seeds, grid; 2 to run, 4 stored" in text
    assert "the median of 4 stored trials of this workload" in text


def test_only_http_addresses_are_asked(url):
    assert service_at(None, None) is None
    assert service_at("auto", None) is None
    assert service_at("10.0.0.1:6379", None) is None
    assert service_at(url, None) is not None


@pytest.mark.slow
def test_a_real_process_serves_and_a_background_driver_runs(tmp_path):
    """`sickbay serve` as it is typed, and a sweep that outlives the request that began it."""
    program = [sys.executable, "-c", "from sickbay.service.cli.app import main; main()"]
    store = tmp_path / "store"
    command = [*program, "serve", "--store", str(store), "--port", "0", "--allow-code", "submit"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        line = next(line for line in process.stderr if "running on" in line)
        url = line.split("running on ")[1].split()[0]
        with Client(url) as client:
            sweep_id = client.submit({**SPEC, "factors": {"fault": ["none", "nan"]}, "seeds": 1})
            finished = client.wait(sweep_id, timeout=90)
            assert (finished["state"], finished["ended"]) == ("finished", 2)
            assert sweep_id in "".join(client.logs(sweep_id))
    finally:
        process.terminate()
        process.wait(20)
        process.stderr.close()
