"""Trials as the readable files of Weights & Biases' runs.

Its `run-*.wandb` file, which `wandb sync` uploads, is an internal format and not written, but what
scripts read is: `files/config.yaml`, `files/wandb-summary.json`, `files/wandb-metadata.json`, and
the history as JSON lines. The guide shows how to upload them.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from sickbay.service.export.trackers import RunData, folder_of
from sickbay.service.query.engine import plain


def write_runs(sweep_id: str, name: str, runs: Iterator[RunData], target: str) -> int:
    """Write `<target>/wandb/run-<time>-<trial>/files/…`, in place of what was there."""
    root = folder_of(target) / "wandb"
    number = 0
    for run in runs:
        begun = datetime.fromtimestamp(run.started, UTC)
        files = root / f"run-{begun:%Y%m%d_%H%M%S}-{run.trial_id}" / "files"
        files.mkdir(parents=True, exist_ok=True)
        _write(files, run, {"project": name, "group": sweep_id})
        number += 1
    return number


def _write(files: Path, run: RunData, where: dict[str, str]) -> None:
    config = {**run.settings, "seed": run.facts["seed"]}
    wrapped = {key: {"desc": None, "value": value} for key, value in config.items()}
    text = yaml.safe_dump({"wandb_version": 1, **wrapped}, sort_keys=False, allow_unicode=True)
    (files / "config.yaml").write_text(text, encoding="utf-8")
    history = list(_history(run))
    lines = "".join(f"{json.dumps(plain(row), allow_nan=False)}\n" for row in history)
    (files / "wandb-history.jsonl").write_text(lines, encoding="utf-8")
    last: dict[str, Any] = {}
    for row in history:
        last |= row
    facts = {f"sickbay/{key}": value for key, value in run.facts.items()}
    results = {"objective": run.objective, "best_objective": run.best_objective}
    known = {key: value for key, value in results.items() if value is not None}
    _json(files / "wandb-summary.json", {**last, **known, **facts})
    begun = datetime.fromtimestamp(run.started, UTC).isoformat()
    metadata = {**where, "name": run.name, "id": run.trial_id, "startedAt": begun}
    _json(files / "wandb-metadata.json", {**metadata, "state": run.facts.get("state")})


def _history(run: RunData) -> Iterator[dict[str, Any]]:
    """Return one row per step, as `run.log` would have written it."""
    row: dict[str, Any] = {}
    for point in run.points:
        if row and row["_step"] != point.step:
            yield row
            row = {}
        if not row:
            row = {
                "_step": point.step,
                "_timestamp": point.time,
                "_runtime": point.time - run.started,
            }
        row[point.name] = point.value
    if row:
        yield row


def _json(path: Path, value: dict[str, Any]) -> None:
    text = json.dumps(plain(value), indent=1, allow_nan=False, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
