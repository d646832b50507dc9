"""Whether an address is a Sickbay service, and the client for it."""

from functools import cache
from typing import TYPE_CHECKING

from sickbay.service.query.lookup import SweepError

if TYPE_CHECKING:
    from sickbay.service.client import Client

SCHEMES = ("http://", "https://")
JOBS_PORT = 8265  # the default of a Ray's dashboard, and so of its Jobs API


def service_at(address: str | None, token: str | None) -> "Client | None":
    """The client of a Sickbay service at an address; None without an address, or for Ray's.

    Raises ConnectionError if something speaks HTTP there but cannot be reached.
    """
    if address is None or not address.startswith(SCHEMES):
        return None
    return _client(address, token)


def jobs_api(address: str | None) -> str | None:
    """The address of a Ray cluster's Jobs API; None for an address to connect to directly.

    Ray Tune cannot be driven through a Ray client, so `ray://head:10001` stands for the Jobs API of
    the same head.
    """
    if address is None or "://" not in address:
        return None
    if address.startswith(SCHEMES):
        return address
    scheme, _, place = address.partition("://")
    if scheme != "ray":
        raise SweepError(
            f"--address {address!r}: give `auto` or host:6379 of a Ray cluster, its Jobs API as "
            "http://head:8265, or a Sickbay service as http://host:8080"
        )
    host = place.partition("/")[0].rpartition(":")[0] or place
    return f"http://{host}:{JOBS_PORT}"


@cache
def _client(address: str, token: str | None) -> "Client | None":
    from sickbay.service.client import Client, ServiceError  # noqa: PLC0415  not every verb's wait

    client = Client(address, token)
    try:
        health = client.call("GET", "/healthz")
    except ServiceError:
        return None  # a Ray's dashboard has no such page
    except ValueError:
        return None  # nor does it answer JSON
    except ConnectionError as error:
        raise ConnectionError(
            f"cannot reach {address}, neither as a Sickbay service nor as the Jobs API of a Ray "
            f"cluster: {error.__cause__ or error}"
        ) from error
    return client if isinstance(health, dict) and health.get("service") == "sickbay" else None
