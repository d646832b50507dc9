"""Where a report's numbers come from: versions, seeds, store."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from sickbay.service.summary.values import Values
from sickbay.trials.store import Store

_NAMED_SEEDS = 12


def provenance_line(store: Store, values: Values) -> str:
    """Say in one line where the numbers come from."""
    known = provenance(store, values)
    return (
        f"Sweep {known['sweep']}, spec {known['spec hash']},"
        f" code {known['code version'] or 'unknown'},"
        f" workload {values.record.workload} {known['workload version'] or 'unknown'},"
        f" seeds {seeds_in_words(values.seeds)}, labels {known['labeller version'] or 'none'},"
        f" Sickbay {known['Sickbay version']}."
    )


def provenance(store: Store, values: Values) -> dict[str, str]:
    """Versions, seeds and store behind a report, by their names."""
    record, trials = values.record, values.trials
    labellers = sorted({one.labeller_version for one in trials if one.labeller_version})
    versions = sorted({one.workload_version for one in trials if one.workload_version})
    return {
        "sweep": record.sweep_id,
        "spec hash": hashlib.sha256(record.spec.encode()).hexdigest()[:16],
        "workload version": ", ".join(versions),
        "code version": record.code_version,
        "Sickbay version": record.sickbay_version,
        "labeller version": ", ".join(labellers),
        "seeds": ", ".join(map(str, values.seeds)),
        "store": _place(store),
    }


def seeds_in_words(seeds: Sequence[int]) -> str:
    """List seeds, the first twelve of many with their number."""
    some = ", ".join(map(str, seeds[:_NAMED_SEEDS]))
    return f"{some}, … ({len(seeds)})" if len(seeds) > _NAMED_SEEDS else some or "none yet"


def _place(store: Store) -> str:
    """Name the store from here, if it lies below: a report may travel."""
    here = Path.cwd()
    below = store.is_local and Path(store.root).resolve().is_relative_to(here)
    return str(Path(store.root).resolve().relative_to(here)) if below else store.uri
