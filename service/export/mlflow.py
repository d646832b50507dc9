"""Trials as runs of MLflow, through its own client: a local database, or any tracking server."""

import logging
import math
from collections.abc import Iterator
from typing import Any

from mlflow.entities import Metric, Param, RunTag
from mlflow.tracking import MlflowClient

from sickbay.service.export.trackers import RunData, folder_of

_BATCH = 1000  # what a server takes at once
_TRIAL = "sickbay.trial_id"
_TEXT = 500  # of a parameter; a tag takes more


def write_runs(sweep_id: str, name: str, runs: Iterator[RunData], target: str) -> int:
    """Write an experiment named like the sweep's id; a target without `://` is a folder.

    The tags of existing runs are renewed, as they hold the label. MLflow stores infinity as the
    largest float, so a tag counts what was not finite.
    """
    uri = target if "://" in target else f"sqlite:///{folder_of(target).resolve()}/mlflow.db"
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)  # tells of its tables
    client = MlflowClient(uri)
    existing = client.get_experiment_by_name(sweep_id)
    experiment = existing.experiment_id if existing else client.create_experiment(sweep_id)
    known = _known(client, experiment)
    number = 0
    for run in runs:
        run_id = known.get((run.trial_id, str(run.facts.get("attempt", ""))))
        if run_id is None:
            run_id = _write(client, experiment, run)
        tags = {f"sickbay.{key}": str(value) for key, value in run.facts.items()}
        tags |= {"sickbay.sweep_name": name, "sickbay.not_finite": _not_finite(run)}
        client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
        number += 1
    return number


def _known(client: Any, experiment: str) -> dict[tuple[str, str], str]:
    """Find the existing runs: (trial, attempt) -> run."""
    runs, token = {}, None
    while True:
        page = client.search_runs([experiment], max_results=1000, page_token=token)
        for run in page:
            key = run.data.tags.get(_TRIAL, ""), run.data.tags.get("sickbay.attempt", "")
            runs[key] = run.info.run_id
        token = page.token
        if not token:
            return runs


def _write(client: Any, experiment: str, run: RunData) -> str:
    made = client.create_run(experiment, start_time=int(1000 * run.started), run_name=run.name)
    run_id = str(made.info.run_id)
    params = [Param(key, str(value)[:_TEXT]) for key, value in run.settings.items()]
    client.log_batch(run_id, params=[*params, Param("seed", str(run.facts["seed"]))])
    metrics = [
        Metric(point.name, point.value, int(1000 * point.time), point.step) for point in run.points
    ]
    last = int(1000 * run.finished)
    for key, value in (("objective", run.objective), ("best_objective", run.best_objective)):
        if value is not None:
            metrics.append(Metric(key, value, last, 0))
    for start in range(0, len(metrics), _BATCH):
        client.log_batch(run_id, metrics=metrics[start : start + _BATCH])
    failed = run.facts.get("state") == "failed"
    client.set_terminated(run_id, "FAILED" if failed else "FINISHED", last)
    return run_id


def _not_finite(run: RunData) -> str:
    """Count the NaN and infinite values, by signal: `val_loss inf 2, train_loss nan 1`."""
    counts: dict[str, int] = {}
    for point in run.points:
        if not math.isfinite(point.value):
            key = f"{point.name} {point.value}"
            counts[key] = counts.get(key, 0) + 1
    return ", ".join(f"{key} {n}" for key, n in counts.items())
