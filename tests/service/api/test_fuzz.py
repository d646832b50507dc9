"""Every route fuzzed from the service's own description."""

import time

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from serving_samples import InlineLauncher

from sickbay.service.api.app import create_app
from sickbay.service.server.tokens import Role, create_token
from sickbay.trials.store import open_store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

EXAMPLES = 25  # requests a route
SLOWEST = 60.0  # seconds of one request; a query may take 30


class NoLauncher(InlineLauncher):
    """Starts nothing: what a fuzzer submits should not be trained."""

    def start(self, store, sweep_id):
        del store
        self.started.append(sweep_id)


@pytest.fixture(scope="module")
def store(swept_copy):
    return open_store(str(swept_copy))


@pytest.fixture(scope="module")
def headers(store):
    return {"Authorization": f"Bearer {create_token(store, 'fuzzer', Role.ADMIN)}"}


@pytest.fixture(scope="module")
def described(store, headers):
    app = create_app(store, NoLauncher(), Role.ADMIN)
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, headers=headers)
    return schema.exclude(path="/api/events")  # a stream never ends; test_api_read has its tests


def test_no_route_breaks_or_hangs(described, headers):
    seen = set()
    for result in described.get_all_operations():
        operation = result.ok()

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def check(case):
            began = time.monotonic()
            answer = case.call(headers=headers)
            case.validate_response(answer, checks=[not_a_server_error])
            assert time.monotonic() - began < SLOWEST
            if answer.status_code >= 400:
                assert set(answer.json()["error"]) == {"code", "message", "detail"}

        check()
        seen.add(operation.label)
    assert len(seen) > 20
