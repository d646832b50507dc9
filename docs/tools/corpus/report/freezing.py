"""Freeze the thresholds before the held-out tasks are read: a hash of margins and detectors."""

import hashlib
import json
from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from docs.tools.corpus.corpus import outcomes
from docs.tools.corpus.faults import CALIBRATION, HELD_OUT
from docs.tools.corpus.report.judging import built_in
from sickbay import trials
from sickbay.trials.diagnosis.diagnose import labeller_version
from sickbay.trials.evidence.thresholds import MARGINS, MARGINS_VERSION

FROZEN = Path(__file__).parent / "frozen.json"
JUDGING = ("detector.py", "history.py")
JUDGING_ROOMS = ("detectors", "diagnosis", "evidence")
KEPT = ("fingerprint", "labeller_version", "margins_version", "frozen_at", "held_out_runs")


def fingerprint() -> str:
    """SHA-256 over every margin's value and the labeller: detectors, labelling, stored model."""
    margins = {name: asdict(margin)["value"] for name, margin in sorted(MARGINS.items())}
    whole = {"margins": margins, "labeller": labeller_version(built_in())}
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def sources() -> str:
    """SHA-256 over all that judges: verdicts that are kept hold for this code and model alone."""
    folder = Path(trials.__file__).parent
    files = [folder / name for name in JUDGING]
    for room in JUDGING_ROOMS:
        files += [file for file in sorted((folder / room).iterdir()) if file.is_file()]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def freeze(path: Path = FROZEN) -> dict[str, object]:
    """Record today's thresholds, after calibration and before the held-out half is judged.

    What was frozen before stays on record under `earlier`: whoever froze again has seen the figures
    of the page that came of it.
    """
    old = frozen(path)
    earlier: list[object] = list(old.pop("earlier", [])) if old else []  # type: ignore[call-overload]
    if old:
        earlier.append({key: old[key] for key in KEPT if key in old})
    record: dict[str, object] = {
        "fingerprint": fingerprint(),
        "labeller_version": labeller_version(built_in()),
        "margins_version": MARGINS_VERSION,
        "detectors": {detector.name: detector.version for detector in built_in()},
        "frozen_at": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "calibration": list(CALIBRATION),
        "held_out": list(HELD_OUT),
        "held_out_runs": dict(Counter(outcome.task for outcome in outcomes() if outcome.held_out)),
        "earlier": earlier,
    }
    path.write_text(json.dumps(record, indent=2) + "\n")
    return record


def frozen(path: Path = FROZEN) -> dict[str, object] | None:
    """What was frozen, None if nothing was yet."""
    return json.loads(path.read_text()) if path.exists() else None
