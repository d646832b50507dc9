import itertools
from dataclasses import replace

import numpy as np
import pytest

from sickbay.trials import registry
from sickbay.trials.conformance import ConformanceError, check_detector
from sickbay.trials.contract import FindingState, Row, Severity, TaskFacts
from sickbay.trials.detector import RuleResult, as_detector, clear, detector, fired
from sickbay.trials.history import History
from sickbay_demo.alarm import detect

ONES = History([Row(epoch, epoch, {"val_n": 1.0}) for epoch in (1, 2)], TaskFacts(), 2)


def alarm(function, **fields):
    fields = {"signals": ("val_n",), "remedy": "do something", **fields}
    return detector(name="alarm", version="1", severity=Severity.INFO, online=False, **fields)(
        function
    )


def broken(says, function, **fields):
    with pytest.raises(ConformanceError, match=says):
        check_detector(alarm(function, **fields), [ONES])


def test_the_demo_detector_keeps_its_contract():
    report = check_detector(detect)
    assert report.name == "toy_small_validation"
    assert len(report.checked) == 5


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # infinities are subtracted on purpose
@pytest.mark.parametrize("name", [entry.name for entry in registry.detector_entries()])
def test_every_installed_detector_keeps_its_contract(name):
    check_detector(registry.detector(name))


def test_another_answer_to_the_same_question_is_caught():
    counter = itertools.count()
    broken("another finding when asked", lambda _: clear("fine", statistic=float(next(counter))))


def test_a_changed_history_is_caught():
    def scribble(history):
        history._columns["val_n"] = np.array([1.0])
        history._rows = history._rows[:1]
        return clear("fine")

    broken("alters the history", scribble)


def test_a_look_at_other_signals_is_caught():
    broken("depends on an unused column", lambda history: clear(f"{len(history.names)} signals"))


def test_a_judgement_without_evidence_is_caught():
    careless = as_detector("careless", lambda history: clear("all is well"))
    with pytest.raises(
        ConformanceError, match=r"careless says clear .* without any of its signals"
    ):
        check_detector(careless)


@pytest.mark.parametrize(
    ("outcome", "says"),
    [
        (clear(" "), "says clear without a reason"),
        (RuleResult(FindingState.FIRED, "alarm"), "fires without an onset epoch"),
        (fired("alarm", onset=77), "begins in epoch 77, which it never saw"),
        (clear("fine", confidence=1.5), "confident by 1.5"),
        ("alarm", "AttributeError"),
    ],
)
def test_findings_of_the_wrong_form_are_caught(outcome, says):
    broken(says, lambda _: outcome)


def test_an_alarm_without_a_remedy_is_caught():
    broken("but not what to change", lambda _: fired("alarm", onset=1), remedy="")


def test_an_exception_is_caught():
    broken("raises IndexError", lambda history: clear(str(history.column("val_n")[100])))


def test_a_wrong_name_is_caught():
    with pytest.raises(ConformanceError, match="'My-Alarm' is not in snake_case"):
        check_detector(replace(detect, name="My-Alarm"))
