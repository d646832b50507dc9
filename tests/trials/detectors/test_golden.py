"""Golden histories: behaviours written down by hand, and what each detector must say of them.

`tests/golden/<detector>/*.json` holds a history and the finding that it must get, with the epoch of
its onset and the epoch at which the alarm would have come while the trial ran.
"""

import importlib

import pytest
from golden_histories import GOLDEN, load

from sickbay.trials.contract import Row, TaskFacts
from sickbay.trials.history import History

FOLDERS = sorted(
    folder.name for folder in GOLDEN.iterdir() if folder.is_dir() and folder.name != "store-v1"
)


@pytest.mark.parametrize("name", FOLDERS)
def test_golden_histories(name):
    detect = importlib.import_module(f"sickbay.trials.detectors.{name}").detect
    cases = [load(path) for path in sorted((GOLDEN / name).glob("*.json"))]
    for case in cases:
        case.check(detect)
    states = {case.expect["state"] for case in cases}
    assert {"fired", "clear", "missing_signal", "insufficient_evidence"} <= states


def test_every_detector_has_golden_histories(built_in):
    assert {detector.name for detector in built_in} <= set(FOLDERS)


def test_layers_may_be_looked_at_in_every_second_evaluation_only():
    def row(epoch):
        looked = {"dead_unit_share": [0.1, 0.6]} if epoch % 2 else {}
        return Row(epoch, 10 * epoch, {"val_loss": 0.5, **looked})

    history = History([row(epoch) for epoch in range(1, 7)], TaskFacts(), 6, finished=True)
    detect = importlib.import_module("sickbay.trials.detectors.dead_units").detect
    finding = detect(history)
    assert (finding.state, finding.onset_epoch) == ("fired", 1)
