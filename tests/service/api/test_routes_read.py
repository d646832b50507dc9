"""The reading routes, over a real sweep in a real store."""

import asyncio
import json
import re
import time
from dataclasses import replace
from pathlib import Path
from urllib.parse import urljoin

import pytest
import toy_sweeps
from fastapi.testclient import TestClient

from sickbay.service.api import cache, models
from sickbay.service.api.app import create_app
from sickbay.service.api.cache import StoreCache
from sickbay.service.api.routes_events import Feed
from sickbay.service.server.guard import check_binding
from sickbay.service.server.tokens import Role, create_token, revoke_token
from sickbay.service.sweeps.runner import Options, run
from sickbay.trials.store import open_store

FAULTS = ["none", "nan", "raise"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("api") / "store"
    spec = toy_sweeps.spec(factors={"fault": FAULTS}, seeds=2)
    run(spec, str(folder), Options(in_process=True))
    return folder


@pytest.fixture
def client(folder):
    return TestClient(create_app(open_store(str(folder))), base_url="http://localhost")


@pytest.fixture
def sweep(client):
    return client.get("/api/sweeps").json()["sweeps"][0]["sweep_id"]


def test_sweeps_and_one_sweep(client, sweep):
    listed = models.Sweeps.model_validate(client.get("/api/sweeps").json())
    assert (listed.total, listed.sweeps[0].sweep_id) == (1, sweep)
    for word in (sweep, "toy", sweep[:5]):
        answer = models.Sweep.model_validate(client.get(f"/api/sweeps/{word}").json())
        assert answer.sweep_id == sweep
    assert answer.labels == {"healthy": 2, "pathological": 2}
    assert answer.states == {"completed": 2, "failed": 2, "stopped": 2}
    assert client.get(f"/api/sweeps/{sweep}").json()["spec"]["factors"]["fault"] == FAULTS


def test_trials_are_paged_and_filtered(client, sweep):
    rows = client.get(f"/api/sweeps/{sweep}/trials").json()
    models.Trials.model_validate(rows)
    assert rows["total"] == 6
    assert {row["fault"] for row in rows["trials"]} == set(FAULTS)
    page = client.get(f"/api/sweeps/{sweep}/trials?offset=2&limit=3").json()
    assert page["trials"] == rows["trials"][2:5]
    sick = client.get(f"/api/sweeps/{sweep}/trials?label=pathological").json()
    assert {row["pathology"] for row in sick["trials"]} == {"non_finite"}
    assert sick["total"] == 2
    assert client.get(f"/api/sweeps/{sweep}/trials?state=failed").json()["total"] == 2
    assert client.get(f"/api/sweeps/{sweep}/trials?offset=99").json()["trials"] == []


def test_trials_are_sorted_and_searched(client, sweep):
    def asked(words):
        return client.get(f"/api/sweeps/{sweep}/trials?{words}").json()["trials"]

    def cells(words, name):
        return [row[name] for row in asked(words)]

    up, down = cells("sort=objective", "objective"), cells("sort=objective&desc=true", "objective")
    finite = [one for one in up if isinstance(one, float)]
    assert len(finite) >= 2
    assert finite == sorted(finite)
    assert down[: len(finite)] == finite[::-1]
    assert not any(isinstance(one, float) for one in down[len(finite) :])  # NaN and none, last
    assert cells("sort=arm&desc=1", "arm") == sorted(cells("", "arm"), reverse=True)
    assert cells("sort=cause", "pathology")[:2] == ["non_finite"] * 2
    assert {row["state"] for row in asked("verdict=failed")} == {"failed"}
    assert len(asked("search=NON_finite")) == 2
    assert asked("search=non_finite nothing") == []
    wrong = client.get(f"/api/sweeps/{sweep}/trials?sort=nothing")
    assert wrong.status_code == 422
    assert "best_objective" in wrong.json()["error"]["message"]


def test_the_summary_names_the_best_and_counts_failures(client, sweep):
    found = client.get(f"/api/sweeps/{sweep}/summary").json()
    best, healthy = found["best"][:2]
    rows = client.get(f"/api/sweeps/{sweep}/trials?sort=objective&label=healthy").json()["trials"]
    assert healthy["trial_id"] == best["trial_id"] == rows[0]["trial_id"]
    assert healthy["value"] == rows[0]["objective"]
    [failure] = found["failures"]["rows"]
    assert failure[:2] == ["user_error", "2"]
    assert found["arms"]["groups"][0].startswith("Believe")
    assert client.get(f"/api/sweeps/{sweep}").json()["failures"] == {"user_error": 2}


def test_what_weighed_is_in_words(client, sweep):
    row = client.get(f"/api/sweeps/{sweep}/trials?label=healthy").json()["trials"][0]
    found = client.get(f"/api/sweeps/{sweep}/trials/{row['trial_id']}").json()["judgement"]
    odds = [one["log_odds"] for one in found["contributions"]]
    assert found["probability"] < 0.5
    assert sorted(odds, key=abs, reverse=True) == odds
    assert all(one["words"] for one in found["contributions"])


def test_a_trial_its_epochs_and_findings(client, sweep):
    row = client.get(f"/api/sweeps/{sweep}/trials?label=pathological").json()["trials"][0]
    path = f"/api/sweeps/{sweep}/trials/{row['trial_id']}"
    whole = models.Trial.model_validate(client.get(path).json())
    assert whole.trial.pathology == "non_finite"
    assert client.get(path).json()["fixes"][0]["change"]["fault"]["to"] == "none"
    epochs = client.get(f"{path}/epochs").json()
    assert "NaN" in [epoch["val_loss"] for epoch in epochs["epochs"]]
    findings = client.get(f"{path}/findings").json()["findings"]
    assert findings[0]["state"] == "fired"
    short = client.get(f"/api/sweeps/{sweep}/trials/{row['trial_id'][:8]}").json()
    assert short["trial"]["trial_id"] == row["trial_id"]


def test_effects_and_report(client, sweep):
    effects = client.get(f"/api/sweeps/{sweep}/effects")
    assert effects.status_code == 200
    json.loads(effects.text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    report = client.get(f"/api/sweeps/{sweep}/report")
    assert report.text.startswith("<!doctype html>")
    assert "sandbox" in report.headers["content-security-policy"]


def test_sql_answers_and_mistakes(client):
    body = {"sql": "SELECT label, count(*) AS n FROM trials GROUP BY ALL ORDER BY ALL"}
    table = models.SqlAnswer.model_validate(client.post("/api/query", json=body).json())
    assert table.rows == [["healthy", 2], ["pathological", 2], [None, 2]]
    nan = client.post("/api/query", json={"sql": "SELECT 'nan'::DOUBLE, 'inf'::DOUBLE"}).json()
    assert nan["rows"] == [["NaN", "Infinity"]]
    for sql in ("SELECT nothing FROM trials", "DROP TABLE trials", "SELECT 1; SELECT 2"):
        answer = client.post("/api/query", json={"sql": sql})
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "bad_request"


def test_sql_gives_at_most_ten_thousand_rows(client):
    answer = client.post("/api/query", json={"sql": "SELECT * FROM range(20000)"}).json()
    assert (len(answer["rows"]), answer["truncated"]) == (10_000, True)


def test_sql_reads_no_file(client, tmp_path):
    secret = tmp_path / "secret.csv"
    secret.write_text("a\n1\n")
    for sql in (
        f"SELECT * FROM '{secret}'",
        f"SELECT * FROM read_csv('{secret}')",
        f"SELECT * FROM read_text('{secret}')",
        "SELECT * FROM glob('/*')",
        f"COPY (SELECT 1) TO '{tmp_path}/out.csv'",
        "ATTACH 'x.db'",
        "INSTALL httpfs",
        "SET enable_external_access = true",
        "SELECT getenv('HOME')",
    ):
        assert client.post("/api/query", json={"sql": sql}).status_code == 400, sql
    assert not (tmp_path / "out.csv").exists()


def test_diagnose_takes_a_log(client):
    log = "epoch,val_loss\n1,0.5\n2,nan\n3,nan\n"
    judged = models.Judged.model_validate(
        client.post("/api/diagnose", json={"log": log, "epochs": 10}).json()
    )
    assert (judged.label, judged.pathology) == ("pathological", "non_finite")
    flat = "epoch,val_loss\n" + "".join(f"{n},1.0\n" for n in range(1, 21))
    judged = client.post("/api/diagnose", json={"log": flat, "floor": ["1.0"], "components": 4})
    assert judged.json()["facts"]["components"] == 4
    assert set(judged.json()["contributions"][0]) == {"words", "log_odds"}
    bad = client.post("/api/diagnose", json={"log": "no log"})
    assert bad.status_code == 422
    assert "/tmp" not in bad.text
    wrong = client.post("/api/diagnose", json={"log": log, "task": "ranking"})
    assert "it is one of binary" in wrong.json()["error"]["message"]


@pytest.mark.parametrize(
    "log",
    [
        "[" * 100_000,
        '{"a":' * 50_000 + "1" + "}" * 50_000,
        "epoch,val_loss\n1," + "9" * 200_000,
        '{"val_loss": ' + "9" * 5_000 + "}",
        "epoch,val_loss\n1,1\n1000000000000000000000,2\n",
        "epoch,step,val_loss\n1,inf,1\n2,nan,2\n3,1e30,3\n",
        ",".join(f"c{n}" for n in range(20_000)) + "\n1,2\n",
    ],
    ids=["list", "mapping", "cell", "number", "epoch", "step", "columns"],
)
def test_no_log_is_too_odd_to_be_answered(client, log):
    began = time.monotonic()
    assert client.post("/api/diagnose", json={"log": log}).status_code in (200, 422)
    assert time.monotonic() - began < 10.0


def test_counts_beyond_all_measure_are_refused(client):
    for more in ({"epochs": 10**30}, {"val_n": 10**400}, {"classes": [10**30, 1]}):
        body = {"log": "epoch,val_loss\n1,1\n", **more}
        assert client.post("/api/diagnose", json=body).status_code == 422


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/api/sweeps/nothing", 404, "no sweep 'nothing'"),
        ("/api/sweeps/nothing/trials", 404, "no sweep"),
        ("/api/sweeps/toy/trials/zzzz", 404, "no ended trial begins with 'zzzz'"),
        ("/api/sweeps/toy/trials/zzzz/epochs", 404, "no ended trial"),
        ("/api/sweeps/toy/trials?label=sick", 422, "label"),
        ("/api/sweeps/toy/trials?limit=100000", 422, "limit"),
        ("/api/sweeps/toy/trials?offset=-1", 422, "offset"),
        ("/api/sweeps/..%2F..%2Fetc/trials", 404, ""),
        ("/nothing", 404, "there is nothing at /nothing"),
    ],
)
def test_errors_have_one_shape(client, path, status, words):
    answer = client.get(path)
    assert answer.status_code == status
    assert set(answer.json()) == {"error"}
    assert set(answer.json()["error"]) == {"code", "message", "detail"}
    assert words in answer.json()["error"]["message"]


def test_answers_carry_a_policy_that_loads_nothing_from_elsewhere(client):
    headers = client.get("/api/sweeps").headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


def test_without_a_token_only_this_machine_is_served(folder):
    app = create_app(open_store(str(folder)))
    assert TestClient(app, base_url="http://evil.example").get("/api/sweeps").status_code == 403
    local = TestClient(app, base_url="http://127.0.0.1:8080")
    assert local.get("/api/sweeps").status_code == 200
    foreign = local.get("/api/sweeps", headers={"Origin": "http://evil.example"})
    assert foreign.status_code == 403


def test_tokens_and_roles(tmp_path):
    store = open_store(str(tmp_path / "store"))
    secret = create_token(store, "reader", Role.READ)
    client = TestClient(create_app(store), base_url="http://sickbay.example")
    assert client.get("/healthz").status_code == 200
    missing = client.get("/api/sweeps")
    assert missing.status_code == 401
    assert missing.headers["www-authenticate"] == "Bearer"
    bad = client.get("/api/sweeps", headers={"Authorization": "Bearer sickbay_wrong"})
    assert bad.status_code == 401
    good = {"Authorization": f"Bearer {secret}"}
    assert client.get("/api/sweeps", headers=good).json()["total"] == 0
    assert client.get("/metrics").status_code == 401


def test_every_route_but_the_page_needs_a_token(tmp_path):
    store = open_store(str(tmp_path / "store"))
    create_token(store, "reader", Role.READ)
    client = TestClient(create_app(store))
    described = client.app.openapi()["paths"]
    asked = [(verb, path) for path, verbs in described.items() for verb in verbs]
    assert len(asked) > 20
    for verb, path in asked:
        answer = client.request(verb, path.replace("{", "").replace("}", ""))
        assert answer.status_code == (200 if path in {"/healthz", "/readyz"} else 401), path


def test_the_guide_lists_what_openapi_describes(client):
    """`…/x` in the guide stands for the path before it, or for that of a sweep."""
    guide = (Path(__file__).parents[3] / "docs" / "service.md").read_text()
    rows = [line.split("|")[1] for line in re.findall(r"^\| `(?:GET|POST) .*", guide, re.MULTILINE)]
    named = {tuple(entry) for row in rows for entry in documented(row)}
    described = client.app.openapi()["paths"]
    there = {(verb.upper(), path) for path, verbs in described.items() for verb in verbs}
    assert named == {
        (verb, path.replace("{sweep}", "{id}").replace("{trial}", "{trial_id}"))
        for verb, path in there
    }


def documented(row):
    """The verbs and paths of one row's first cell."""
    verb, whole = "", ""
    for code in re.findall(r"`([^`]+)`", row):
        *verbs, path = code.split()
        verb = verbs[0] if verbs else verb
        if path.startswith("…/trials"):
            path = "/api/sweeps/{id}" + path.removeprefix("…")
        elif not verbs and not path.startswith("/api"):
            path = whole.rpartition("/")[0] + "/" + path.removeprefix("…").removeprefix("/")
        whole = path
        yield verb, path


def test_behind_a_path_prefix_every_link_of_the_page_leads_to_the_service(client):
    prefix = "/lab/sickbay"

    async def proxy(scope, receive, send):
        assert scope["path"].startswith(f"{prefix}/"), scope["path"]
        inside = {**scope, "path": scope["path"].removeprefix(prefix)}
        await client.app(inside, receive, send)

    browser = TestClient(proxy, base_url="http://localhost")
    for page in (f"{prefix}/", f"{prefix}/docs"):
        links = re.findall(r'(?:src|href)="([^"#]+)"', browser.get(page).text)
        assert len(links) >= 4
        assert {browser.get(urljoin(page, link)).status_code for link in links} == {200}
    for script in (Path(__file__).parents[3] / "service" / "web").glob("*.js"):
        assert not re.findall(r"[\"'`]/(?:api|web|docs|healthz|openapi)\b.*", script.read_text())


def test_a_revoked_token_is_refused_once_the_tokens_are_read_again(tmp_path):
    store = open_store(str(tmp_path / "store"))
    create_token(store, "other", Role.ADMIN)
    headers = {"Authorization": f"Bearer {create_token(store, 'gone', Role.READ)}"}
    client = TestClient(create_app(store))
    assert client.get("/api/sweeps", headers=headers).status_code == 200
    revoke_token(store, "gone")
    client.app.state.guard.read()
    assert client.get("/api/sweeps", headers=headers).status_code == 401


def test_when_the_last_token_is_revoked_the_service_stays_closed(tmp_path):
    store = open_store(str(tmp_path / "store"))
    headers = {"Authorization": f"Bearer {create_token(store, 'last', Role.ADMIN)}"}
    client = TestClient(create_app(store), base_url="http://localhost")
    assert client.get("/api/sweeps", headers=headers).status_code == 200
    revoke_token(store, "last")
    client.app.state.guard.read()
    for sent in (headers, {}):
        answer = client.get("/api/sweeps", headers=sent)
        assert answer.status_code == 401
        assert "every token was revoked" in answer.json()["error"]["message"]
    headers = {"Authorization": f"Bearer {create_token(store, 'next', Role.READ)}"}
    client.app.state.guard.read()
    assert client.get("/api/sweeps", headers=headers).status_code == 200


def test_no_answer_reveals_the_keys_of_a_store(tmp_path):
    keyed = replace(open_store(str(tmp_path)), uri="s3://KEY:SECRET@bucket/folder")
    client = TestClient(create_app(keyed), base_url="http://localhost")
    message = client.get("/api/sweeps/nothing").json()["error"]["message"]
    assert "s3://…@bucket/folder" in message
    assert "SECRET" not in message


def test_another_address_needs_a_token(tmp_path):
    store = open_store(str(tmp_path / "store"))
    for host in ("127.0.0.1", "localhost", "::1", "127.8.8.8"):
        check_binding(host, store)
    for host in ("0.0.0.0", "::", "10.0.0.3", "head.example"):
        with pytest.raises(ValueError, match="sickbay token create"):
            check_binding(host, store)
    create_token(store, "a", Role.READ)
    check_binding("0.0.0.0", store)


def test_large_bodies_are_refused(client):
    huge = b'{"sql": "' + b"x" * (5 * 2**20) + b'"}'
    assert client.post("/api/query", content=huge).status_code == 413
    chunks = (b"x" * 2**20 for _ in range(6))
    assert client.post("/api/query", content=chunks).status_code == 413


def test_metrics_count_trials_and_costs(client):
    client.get("/api/sweeps")
    text = client.get("/metrics").text
    assert 'sickbay_trials{state="stopped"} 2.0' in text
    assert 'sickbay_trials_labelled{label="pathological"} 2.0' in text
    assert 'sickbay_trials_pathological{pathology="non_finite"} 2.0' in text
    assert 'sickbay_wall_seconds_lost{pathology="non_finite"}' in text
    assert 'route="/api/sweeps",status="200"' in text


def test_a_page_is_read_again_when_a_trial_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "FRESH_SECONDS", 0.0)
    store = open_store(str(tmp_path / "store"))
    spec = toy_sweeps.spec(factors={"fault": ["none"]}, seeds=1)
    sweep_id = run(spec, store.uri, Options(in_process=True)).sweep_id
    kept = StoreCache(store)
    first = kept.trials(sweep_id)
    assert kept.trials(sweep_id) is first
    run({**spec, "seeds": 2}, store.uri, Options(in_process=True))
    assert len(kept.trials(sweep_id).rows) == 2


def test_listeners_receive_changes_and_what_they_missed(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "FRESH_SECONDS", 0.0)
    store = open_store(str(tmp_path / "store"))
    spec = toy_sweeps.spec(factors={"fault": ["none"]}, seeds=1)

    async def scenario():
        feed = Feed(StoreCache(store))
        looking = asyncio.create_task(feed.run())
        await asyncio.sleep(0.5)
        listener = feed.listen(None, None)
        assert (await anext(listener)).startswith("retry")
        waiting = asyncio.ensure_future(anext(listener))
        await asyncio.to_thread(run, spec, store.uri, Options(in_process=True))
        text = await asyncio.wait_for(waiting, 10)
        await listener.aclose()
        again = feed.listen(None, 0)
        await anext(again)
        assert await anext(again) == text
        looking.cancel()
        return text, feed.listening

    text, listening = asyncio.run(scenario())
    assert text.startswith("id: 1\nevent: sweep\ndata: {")
    assert json.loads(text.split("data: ")[1])["name"] == "toy"
    assert listening == 1


def test_a_hung_query_ends_when_its_time_is_over(client, monkeypatch):
    from sickbay.service.api import routes_read
    from sickbay.service.query.engine import Limits

    monkeypatch.setattr(routes_read, "SQL_LIMITS", Limits(seconds=0.5))
    began = time.monotonic()
    sql = (
        "SELECT count(*) FROM range(10000000) a, range(10000000) b WHERE a.range % 7 = b.range % 3"
    )
    answer = client.post("/api/query", json={"sql": sql})
    assert answer.status_code == 400
    assert "took longer than 0.5 s" in answer.json()["error"]["message"]
    assert time.monotonic() - began < 10
