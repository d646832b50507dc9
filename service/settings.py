"""The one place that reads the environment."""

import os
from dataclasses import dataclass

DEFAULT_STORE = "./sickbay-results"


@dataclass(frozen=True)
class Settings:
    """What the environment decides; a command-line option of the same meaning wins.

    `store` is where results lie (SICKBAY_STORE), `address` where sweeps run (SICKBAY_ADDRESS);
    without one, a local Ray is started. `token` opens a service (SICKBAY_TOKEN): a variable and no
    option, as command lines are seen by everybody on a machine.
    """

    store: str = DEFAULT_STORE
    address: str | None = None
    token: str | None = None


def settings() -> Settings:
    """Read the environment."""
    return Settings(
        store=os.environ.get("SICKBAY_STORE") or DEFAULT_STORE,
        address=os.environ.get("SICKBAY_ADDRESS") or None,
        token=os.environ.get("SICKBAY_TOKEN") or None,
    )
