"""Trials as TensorBoard event files, one folder each, with settings for the HParams page."""

import logging
import re
from collections.abc import Iterator

from tensorboardX import SummaryWriter
from tensorboardX.summary import hparams

from sickbay.service.export.trackers import RunData, folder_of


def write_runs(sweep_id: str, name: str, runs: Iterator[RunData], target: str) -> int:
    """Write `<target>/<sweep>/<arm>-seed-<n>-<trial>/events…`, in place of what was there."""
    # NaN and infinity are data here: the library would print a line for each.
    logging.getLogger("tensorboardX.x2num").setLevel(logging.ERROR)
    root = folder_of(target) / sweep_id
    number = 0
    for run in runs:
        folder = root / f"{_plain(run.name)}-{run.trial_id}"
        for old in folder.glob("events.out.tfevents.*"):
            old.unlink()
        writer = SummaryWriter(str(folder))
        try:
            _write(writer, run, name)
        finally:
            writer.close()
        number += 1
    return number


def _write(writer: SummaryWriter, run: RunData, name: str) -> None:
    for point in run.points:
        writer.add_scalar(point.name, point.value, point.step, walltime=point.time)
    facts = "\n".join(f"- **{key}**: {value}" for key, value in run.facts.items())
    writer.add_text("sickbay", f"- **sweep**: {name}\n{facts}", 0, walltime=run.finished)
    results = {"objective": run.objective, "best_objective": run.best_objective}
    known = {key: value for key, value in results.items() if value is not None}
    for key, value in known.items():
        writer.add_scalar(key, value, 0, walltime=run.finished)
    settings = {**run.settings, "seed": run.facts["seed"], "label": run.facts.get("label", "none")}
    settings["pathology"] = run.facts.get("pathology", "none")
    for summary in hparams(settings, known):
        writer.file_writer.add_summary(summary, walltime=run.finished)


def _plain(name: str) -> str:
    """Make a folder name from an arm's name: short, and with safe characters only."""
    return re.sub(r"[^A-Za-z0-9_.=-]+", "-", name)[:80].strip("-.")
