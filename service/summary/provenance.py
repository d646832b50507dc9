"""Where a report's numbers come from: versions, seeds, store."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from sickbay.service.analysis.statistics import FEWEST_SEEDS
from sickbay.service.query.engine import query
from sickbay.service.summary.values import Values
from sickbay.trials.store import Store

_NAMED_SEEDS = 12


def provenance_line(store: Store, values: Values) -> str:
    """The provenance of the numbers in one line."""
    known = provenance(store, values)
    return (
        f"Sweep {known['sweep']}, spec {known['spec hash']},"
        f" code {known['code version'] or 'unknown'},"
        f" workload {values.record.workload} {known['workload version'] or 'unknown'},"
        f" seeds {seeds_in_words(values.seeds)}, labels {known['labeller version'] or 'none'},"
        f" Sickbay {known['Sickbay version']}."
        + (
            f" Hardware {known['hardware'] or 'unknown'}, {known['compute']}; by arm"
            f" {known['budget by arm']}. Libraries: {known['libraries'] or 'unknown'}."
            if "compute" in known
            else ""
        )
    )


def provenance(store: Store, values: Values) -> dict[str, str]:
    """Versions, seeds and store behind a report, by their names."""
    record, trials = values.record, values.trials
    labellers = sorted({trial.labeller_version for trial in trials if trial.labeller_version})
    versions = sorted({trial.workload_version for trial in trials if trial.workload_version})
    return {
        "sweep": record.sweep_id,
        "spec hash": hashlib.sha256(record.spec.encode()).hexdigest()[:16],
        "workload version": ", ".join(versions),
        "code version": record.code_version,
        "Sickbay version": record.sickbay_version,
        "libraries": record.libraries or "",
        "data": record.data_version or "generated, or part of the workload's version",
        "labeller version": ", ".join(labellers),
        "seeds": ", ".join(map(str, values.seeds)),
        "store": _place(store),
        **compute(store, values),
    }


def compute(store: Store, values: Values) -> dict[str, str]:
    """Hardware, hours, budget and seeds, as the NeurIPS checklist and REFORMS ask for them."""
    rows = query(
        store,
        "SELECT arm, count(*) AS trials, sum(wall_seconds) AS wall, sum(gpu_seconds) AS gpu,\n"
        "  sum(epochs_run) AS epochs, list_sort(list(DISTINCT device)) AS devices\n"
        "FROM trials WHERE sweep_id = ? GROUP BY arm ORDER BY arm",
        [values.record.sweep_id],
        sweep_ids=[values.record.sweep_id],
    ).records()
    if not rows:
        return {}
    devices = sorted({device for row in rows for device in row["devices"] or () if device})
    trials, epochs = ([int(row[name] or 0) for row in rows] for name in ("trials", "epochs"))
    hours = {name: sum(row[name] or 0.0 for row in rows) / 3600 for name in ("wall", "gpu")}
    seeds = len(values.seeds)
    enough = "the same for all arms" if seeds >= FEWEST_SEEDS else "a verdict needs 3"
    return {
        "hardware": ", ".join(devices),
        "compute": f"{hours['wall']:.3g} hours of trials, {hours['gpu']:.3g} GPU hours",
        "budget by arm": f"{_span(trials)} trials, {_span(epochs)} epochs",
        "selection": "by the objective at the last evaluation; the best value is listed, too",
        "number of seeds": f"{seeds}; {enough}",
    }


def _span(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f"{low}" if low == high else f"{low} to {high}"


def seeds_in_words(seeds: Sequence[int]) -> str:
    """List seeds; of many, the first twelve and their number."""
    some = ", ".join(map(str, seeds[:_NAMED_SEEDS]))
    return f"{some}, … ({len(seeds)})" if len(seeds) > _NAMED_SEEDS else some or "none yet"


def _place(store: Store) -> str:
    """Path of the store, relative if it is below the current folder: a report may be moved."""
    here = Path.cwd()
    below = store.is_local and Path(store.root).resolve().is_relative_to(here)
    return str(Path(store.root).resolve().relative_to(here)) if below else store.uri
