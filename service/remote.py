"""Whether an address is a Sickbay service, and the client for it."""

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sickbay.service.client import Client

SCHEMES = ("http://", "https://")


def service_at(address: str | None, token: str | None) -> "Client | None":
    """The client of a Sickbay service at an address; None for no address, and for a Ray's.

    Raises ConnectionError if something speaks HTTP there but cannot be reached.
    """
    if address is None or not address.startswith(SCHEMES):
        return None
    return _client(address, token)


@cache
def _client(address: str, token: str | None) -> "Client | None":
    from sickbay.service.client import Client, ServiceError  # noqa: PLC0415  not every verb's wait

    client = Client(address, token)
    try:
        found = client.call("GET", "/healthz")
    except ServiceError:
        return None  # a Ray's dashboard has no such page
    except ValueError:
        return None  # nor does it answer JSON
    return client if isinstance(found, dict) and found.get("service") == "sickbay" else None
