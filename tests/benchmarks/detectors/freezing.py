"""Freeze the thresholds before the held-out tasks are read: a hash of margins and detectors."""

import hashlib
import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from sickbay.trials.diagnose import labeller_version
from sickbay.trials.margins import MARGINS, MARGINS_VERSION
from tests.benchmarks.detectors.faults import CALIBRATION, HELD_OUT
from tests.benchmarks.detectors.judging import built_in

FROZEN = Path(__file__).parent / "frozen.json"


def fingerprint() -> str:
    """SHA-256 over every margin's value and every detector's name and version."""
    margins = {name: asdict(one)["value"] for name, one in sorted(MARGINS.items())}
    versions = {one.name: one.version for one in built_in()}
    text = json.dumps({"margins": margins, "detectors": versions}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def freeze(path: Path = FROZEN) -> dict[str, object]:
    """Record today's thresholds. Do this once, after calibration and before the held-out half."""
    record: dict[str, object] = {
        "fingerprint": fingerprint(),
        "labeller_version": labeller_version(built_in()),
        "margins_version": MARGINS_VERSION,
        "detectors": {one.name: one.version for one in built_in()},
        "frozen_at": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "calibration": list(CALIBRATION),
        "held_out": list(HELD_OUT),
    }
    path.write_text(json.dumps(record, indent=2) + "\n")
    return record


def frozen(path: Path = FROZEN) -> dict[str, object] | None:
    """What was frozen, None if nothing was yet."""
    return json.loads(path.read_text()) if path.exists() else None
