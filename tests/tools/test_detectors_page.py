import hashlib
import re
from pathlib import Path

import pytest
from golden_histories import load

from docs.tools.detectors_page import catalogue_markdown
from sickbay.trials.evidence.thresholds import MARGINS, MARGINS_VERSION, margin
from sickbay.trials.history import History

ROOT = Path(__file__).parents[2]

# Whoever changes a margin raises MARGINS_VERSION and writes the new pair here.
PINNED = {
    "1.0": "2a441fb6372a1660",
    "1.1": "d817a93230cd4cc6",
    "1.2": "6d8d363018ff37a8",
    "1.3": "ffddae87b60d59f0",
    "1.4": "353964e60b968bf5",
    "1.5": "8f1190849f1a9954",
    "1.6": "b80f35d4285eec96",
    "1.7": "6f2f650646d239b2",
    "1.8": "7ad5d1750f817d0a",
    "1.9": "7f8ff58588dd8464",
    "2.0": "f05102b6a283a388",
}


def test_the_page_is_what_the_detectors_say_of_themselves(built_in):
    page = (ROOT / "docs" / "detectors.md").read_text()
    assert page == catalogue_markdown(built_in), "run `python -m docs.tools.detectors_page`"


def test_every_detector_explains_itself(built_in):
    for detector in built_in:
        texts = (
            detector.title,
            detector.rule,
            detector.formula,
            detector.source,
            detector.remedy,
            detector.false_alarms,
        )
        assert all(texts), detector.name
        assert detector.margins, detector.name
        assert set(detector.margins) <= set(MARGINS), detector.name


def test_detectors_declare_the_margins_they_use(built_in):
    for detector in built_in:
        source = (ROOT / "trials" / "detectors" / f"{detector.name}.py").read_text()
        used = set(re.findall(r'(?:margin|whole)\("(\w+)"\)', source))
        assert used <= set(detector.margins), detector.name


def test_every_margin_is_used():
    code = "\n".join(path.read_text() for path in (ROOT / "trials").rglob("*.py"))
    unused = [name for name in MARGINS if not re.search(rf'(?:margin|whole)\("{name}"\)', code)]
    assert unused == []


def test_every_margin_has_a_unit_and_a_reason():
    for name, limit in MARGINS.items():
        assert limit.unit, name
        assert limit.reason, name
    with pytest.raises(AssertionError, match="no_such"):
        margin("no_such")


def test_a_changed_margin_is_a_new_version():
    text = "\n".join(f"{name} {limit.value!r}" for name, limit in sorted(MARGINS.items()))
    assert PINNED[MARGINS_VERSION] == hashlib.sha256(text.encode()).hexdigest()[:16]


def test_every_signal_that_a_detector_reads_is_documented(built_in):
    page = (ROOT / "docs" / "signals.md").read_text()
    listed = set(re.findall(r"^\| `(\w+)`", page, re.MULTILINE))
    for detector in built_in:
        read = {part for names in detector.signals for part in names.split("|")}
        assert read | set(detector.optional_signals) <= listed, detector.name


def test_signals_read_in_a_detector_are_declared(built_in):
    for detector in built_in:
        source = (ROOT / "trials" / "detectors" / f"{detector.name}.py").read_text()
        read = set(re.findall(r'(?:column|vectors|has)\("(\w+)"\)', source))
        declared = {part for names in detector.signals for part in names.split("|")}
        assert read <= declared | set(detector.optional_signals), detector.name


def test_what_a_detector_reads_through_shared_evidence_is_declared(built_in, monkeypatch):
    """Ask each about its golden histories, and watch which columns it opens."""
    opened = set()
    array = History._array
    monkeypatch.setattr(
        History, "_array", lambda history, name: opened.add(name) or array(history, name)
    )
    for detector in built_in:
        opened.clear()
        for path in sorted((ROOT / "tests" / "golden" / detector.name).glob("*.json")):
            detector(load(path).history)
        declared = {part for names in detector.signals for part in names.split("|")}
        assert opened <= declared | set(detector.optional_signals), detector.name
