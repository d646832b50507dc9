from sickbay.trials.detectors.loss_spike import detect


def test_golden_histories(golden):
    golden.check(detect)


def test_golden_histories_show_all_states(golden_states):
    assert {"fired", "clear", "missing_signal", "insufficient_evidence"} <= golden_states
