"""Webhooks: the end of a sweep, its first pathology, and what ended it early.

Where they go is set by the environment, never by a spec, which may be untrusted: SICKBAY_WEBHOOK is
the URL, SICKBAY_WEBHOOK_FORMAT "json" or "slack", SICKBAY_WEBHOOK_SECRET signs the messages. They
are sent from a thread, three times at most, and never hold up or end a sweep.
"""

import hashlib
import hmac
import json
import queue
import threading
import time
import uuid
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import httpx2

from sickbay.trials.contract import Health
from sickbay.trials.events import Event, TrialEnded, error_line

TRIES = 3
WAITS = (1.0, 4.0)  # seconds between two tries
TIMEOUT = 10.0
LAST_WORDS = 20.0  # seconds that the end of a sweep waits for its messages
RETRIED = (408, 425, 429)  # and all of 5xx


class WebhookFormat(StrEnum):
    """Format of a message: our own JSON, or that of Slack's incoming webhooks."""

    JSON = "json"
    SLACK = "slack"


@dataclass(frozen=True)
class Webhook:
    """Target of messages. With a secret, each is signed over its time and body."""

    url: str
    style: WebhookFormat = WebhookFormat.JSON
    secret: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Message:
    """An event of a sweep, as a sentence and as data."""

    event: str  # sweep_ended, first_pathology, failure_storm
    sweep_id: str
    text: str
    data: dict[str, Any]


class Notifier:
    """Watches one run of a sweep and sends messages."""

    def __init__(self, webhook: Webhook | None, sweep_id: str) -> None:
        """Begin to watch; without a webhook nothing is ever sent."""
        self._webhook = webhook
        self._sweep_id = sweep_id
        self._reported = False
        self._waiting: queue.Queue[Message | None] = queue.Queue()
        self._sender: threading.Thread | None = None
        self.lost: list[str] = []  # messages that could not be delivered, and why

    def see(self, event: Event) -> None:
        """Take in an event; the first pathological trial is reported."""
        first = (
            isinstance(event, TrialEnded)
            and event.health == Health.PATHOLOGICAL
            and not self._reported
        )
        if not first or not isinstance(event, TrialEnded):
            return
        self._reported = True
        cause = event.pathology or "a pathology"
        text = f"{self._sweep_id}: the first pathological trial, {event.trial_id} ({cause})"
        data = {"trial_id": event.trial_id, "pathology": event.pathology}
        self._tell(Message("first_pathology", self._sweep_id, text, data))

    def end(self, state: str, counts: dict[str, int], error: str = "") -> None:
        """Report how the sweep ended, and wait a little for delivery."""
        ended = f"{self._sweep_id} {state}: " + (
            ", ".join(f"{n} {what}" for what, n in sorted(counts.items())) or "nothing ran"
        )
        if error:
            text = f"{self._sweep_id} was ended: {error_line(error)}"
            data = {"error": error[-4000:]}
            self._tell(Message("failure_storm", self._sweep_id, text, data))
        outcome = {"state": state, "counts": counts}
        self._tell(Message("sweep_ended", self._sweep_id, ended, outcome))
        if self._sender is not None:
            self._waiting.put(None)
            self._sender.join(LAST_WORDS)

    @property
    def troubles(self) -> list[str]:
        """An error for each message that could not be delivered."""
        return [f"the webhook rejected {message}" for message in self.lost]

    def _tell(self, message: Message) -> None:
        if self._webhook is None:
            return
        if self._sender is None:
            self._sender = threading.Thread(target=self._send_all, daemon=True)
            self._sender.start()
        self._waiting.put(message)

    def _send_all(self) -> None:
        assert self._webhook is not None
        while (message := self._waiting.get()) is not None:
            trouble = send(self._webhook, message)
            if trouble:
                self.lost.append(f"{message.event}: {trouble}")


def send(webhook: Webhook, message: Message) -> str:
    """Send one message, up to three times; returns the error if it was not delivered.

    Every try carries the same id, so that a receiver can tell a repetition.
    """
    body = _body(webhook.style, message)
    number, trouble = uuid.uuid4().hex, ""
    for turn in range(TRIES):
        if turn:
            time.sleep(WAITS[turn - 1])
        try:
            headers = _headers(webhook, body, number)
            answer = httpx2.post(
                webhook.url, content=body, headers=headers, timeout=TIMEOUT, follow_redirects=False
            )
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            trouble = f"{type(error).__name__}"  # its text may name the URL, which may be a secret
            continue
        if answer.is_success:
            return ""
        trouble = f"status {answer.status_code}"
        if answer.status_code < 500 and answer.status_code not in RETRIED:
            break
    return trouble


def signature(secret: str, at: str, body: bytes) -> str:
    """HMAC-SHA256 over the time and the body, as hexadecimal: what a receiver checks."""
    return hmac.new(secret.encode(), at.encode() + b"." + body, hashlib.sha256).hexdigest()


def _headers(webhook: Webhook, body: bytes, number: str) -> dict[str, str]:
    at = str(int(time.time()))
    headers = {"Content-Type": "application/json", "X-Sickbay-Id": number, "X-Sickbay-Time": at}
    if webhook.secret:
        headers["X-Sickbay-Signature"] = f"sha256={signature(webhook.secret, at, body)}"
    return headers


def _body(style: WebhookFormat, message: Message) -> bytes:
    if style is WebhookFormat.SLACK:
        return json.dumps({"text": message.text}).encode()
    payload = {
        "event": message.event,
        "sweep_id": message.sweep_id,
        "text": message.text,
        **message.data,
    }
    return json.dumps(payload).encode()
