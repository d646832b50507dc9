from sickbay.trials.contract import Row, TaskFacts
from sickbay.trials.detectors.dead_units import detect
from sickbay.trials.history import History


def test_golden_histories(golden):
    golden.check(detect)


def test_golden_histories_show_all_states(golden_states):
    assert {"fired", "clear", "missing_signal", "insufficient_evidence"} <= golden_states


def test_layers_may_be_looked_at_in_every_second_evaluation_only():
    def row(epoch):
        looked = {"dead_unit_share": [0.1, 0.6]} if epoch % 2 else {}
        return Row(epoch, 10 * epoch, {"val_loss": 0.5, **looked})

    finding = detect(History([row(epoch) for epoch in range(1, 7)], TaskFacts(), 6, finished=True))
    assert (finding.state, finding.onset_epoch) == ("fired", 1)
