"""Webhooks, received by a real server: what is told, how often, and signed by whom."""

import contextlib
import http.server
import json
import threading

import pytest
import toy_sweeps

from sickbay.service.query.lookup import SweepError
from sickbay.service.sweeps import webhooks
from sickbay.service.sweeps.runner import Options, chosen_webhook, run
from sickbay.service.sweeps.webhooks import Message, Webhook, WebhookFormat, send, signature

MESSAGE = Message("sweep_ended", "s-1", "s-1 finished: 2 completed", {"state": "finished"})


@contextlib.contextmanager
def receiver(*statuses):
    """A server that answers with these statuses, then 200; gives its URL and what it got."""
    got, answers = [], list(statuses)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            got.append((dict(self.headers), body))
            self.send_response(answers.pop(0) if answers else 200)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook", got
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    monkeypatch.setattr(webhooks, "WAITS", (0.01, 0.01))


def test_a_message_is_signed_over_its_time_and_body():
    with receiver() as (url, got):
        assert send(Webhook(url, secret="s3cret"), MESSAGE) == ""
    headers, body = got[0]
    signed = headers["X-Sickbay-Signature"]
    assert signed == f"sha256={signature('s3cret', headers['X-Sickbay-Time'], body)}"
    assert signed != f"sha256={signature('other', headers['X-Sickbay-Time'], body)}"
    assert json.loads(body)["event"] == "sweep_ended"
    assert b"s3cret" not in body


def test_the_signature_is_the_usual_one():
    import hashlib
    import hmac

    expected = hmac.new(b"key", b"17.body", hashlib.sha256).hexdigest()
    assert signature("key", "17", b"body") == expected


def test_failures_of_the_receiver_are_tried_again_with_one_id():
    with receiver(503, 429) as (url, got):
        assert send(Webhook(url), MESSAGE) == ""
    assert len(got) == 3
    assert len({headers["X-Sickbay-Id"] for headers, _ in got}) == 1


def test_a_refusal_is_not_repeated():
    with receiver(404, 200) as (url, got):
        assert send(Webhook(url), MESSAGE) == "status 404"
    assert len(got) == 1


def test_an_unreachable_webhook_is_given_up_without_naming_the_address():
    trouble = send(Webhook("http://127.0.0.1:9/secret-path"), MESSAGE)
    assert "ConnectError" in trouble
    assert "secret-path" not in trouble
    assert "secret" not in repr(Webhook("http://x", secret="secret"))


def test_redirects_are_not_followed():
    with receiver(307) as (url, got):
        assert send(Webhook(url), MESSAGE) == "status 307"
    assert len(got) == 1


def test_slack_gets_a_text():
    with receiver() as (url, got):
        send(Webhook(url, WebhookFormat.SLACK), MESSAGE)
    assert json.loads(got[0][1]) == {"text": MESSAGE.text}


def test_a_sweep_reports_its_first_pathology_and_its_end(tmp_path, monkeypatch):
    spec = toy_sweeps.spec(factors={"fault": ["none", "nan"]}, seeds=2)
    with receiver() as (url, got):
        monkeypatch.setenv("SICKBAY_WEBHOOK", url)
        run(spec, str(tmp_path / "store"), Options(in_process=True))
    messages = [json.loads(body) for _, body in got]
    assert [message["event"] for message in messages] == ["first_pathology", "sweep_ended"]
    assert messages[0]["pathology"] == "non_finite"
    assert messages[1]["counts"] == {"completed": 2, "stopped": 2}


def test_a_storm_of_failures_is_reported(tmp_path, monkeypatch):
    spec = toy_sweeps.spec(factors={"fault": ["raise"]}, seeds=5)
    with receiver() as (url, got):
        monkeypatch.setenv("SICKBAY_WEBHOOK", url)
        run(spec, str(tmp_path / "store"), Options(in_process=True))
    messages = [json.loads(body) for _, body in got]
    assert [message["event"] for message in messages] == ["failure_storm", "sweep_ended"]
    assert messages[1]["state"] == "failed"


def test_a_dead_webhook_costs_a_sentence_and_no_trial(tmp_path, monkeypatch):
    monkeypatch.setenv("SICKBAY_WEBHOOK", "http://127.0.0.1:9")
    spec = toy_sweeps.spec(factors={"fault": ["none"]}, seeds=1)
    result = run(spec, str(tmp_path / "store"), Options(in_process=True))
    assert result.state == "finished"
    assert "the webhook rejected sweep_ended: ConnectError" in result.error


def test_an_unknown_format_is_refused(monkeypatch):
    monkeypatch.setenv("SICKBAY_WEBHOOK", "http://127.0.0.1:9")
    monkeypatch.setenv("SICKBAY_WEBHOOK_FORMAT", "teams")
    with pytest.raises(SweepError, match="'teams' is none of json, slack"):
        chosen_webhook()
