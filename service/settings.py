"""The one place that reads the environment."""

import os
from dataclasses import dataclass, field

DEFAULT_STORE = "./sickbay-results"


@dataclass(frozen=True)
class Settings:
    """Settings from the environment; the equivalent command-line option takes precedence.

    `store` is where results lie (SICKBAY_STORE), `address` where sweeps run (SICKBAY_ADDRESS);
    without one, a local Ray is started. `token` opens a service (SICKBAY_TOKEN): a variable and no
    option, as command lines are seen by everybody on a machine. What is worth telling of a sweep is
    posted to `webhook` (SICKBAY_WEBHOOK), as `webhook_format` (SICKBAY_WEBHOOK_FORMAT: json or
    slack), signed by `webhook_secret` (SICKBAY_WEBHOOK_SECRET). `mlflow` is MLflow's own variable
    (MLFLOW_TRACKING_URI), where a sweep's sink of that name goes. `trial_dir` is the folder of the
    trial that this process is the script of (SICKBAY_TRIAL_DIR), `rank` its place among the
    processes of a data-parallel run (RANK, as torchrun sets it).
    """

    store: str = DEFAULT_STORE
    address: str | None = None
    token: str | None = field(default=None, repr=False)
    webhook: str | None = None
    webhook_format: str = "json"
    webhook_secret: str | None = field(default=None, repr=False)
    mlflow: str | None = None
    trial_dir: str | None = None
    rank: int = 0


def settings() -> Settings:
    """Read the environment."""
    return Settings(
        store=os.environ.get("SICKBAY_STORE") or DEFAULT_STORE,
        address=os.environ.get("SICKBAY_ADDRESS") or None,
        token=os.environ.get("SICKBAY_TOKEN") or None,
        webhook=os.environ.get("SICKBAY_WEBHOOK") or None,
        webhook_format=os.environ.get("SICKBAY_WEBHOOK_FORMAT") or "json",
        webhook_secret=os.environ.get("SICKBAY_WEBHOOK_SECRET") or None,
        mlflow=os.environ.get("MLFLOW_TRACKING_URI") or None,
        trial_dir=os.environ.get("SICKBAY_TRIAL_DIR") or None,
        rank=int(rank) if (rank := os.environ.get("RANK", "0")).isdecimal() else 0,
    )
