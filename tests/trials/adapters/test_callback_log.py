"""What the callbacks share, without any of their libraries."""

import json
import math

from sickbay.trials.adapters.callback_log import Diary
from sickbay.trials.contract import TaskFacts

FACTS = TaskFacts(floors={"val_loss": 0.7}, loss_minimum=0.0, n={"val": 1000})


def test_every_evaluation_is_judged_and_kept(tmp_path):
    said = []
    diary = Diary(FACTS, planned=12, path=tmp_path / "history.jsonl", tell=said.append)
    for epoch in range(1, 13):
        diary.add(epoch, 10 * epoch, {"train_loss": 0.7 / epoch, "val_loss": 0.7 / epoch})
    label = diary.finish()
    assert label == diary.label
    assert label.health == "healthy"
    lines = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert len(lines) == 12
    assert lines[1] == {"epoch": 2, "step": 20, "train_loss": 0.35, "val_loss": 0.35}
    assert len(said) == 3  # nothing yet, healthy once skill is proven, and the last
    assert said[-1].startswith("sickbay, epoch 12: ")
    assert diary.history().finished


def test_a_certain_pathology_asks_to_stop_only_on_request():
    for stop in (True, False):
        diary = Diary(FACTS, stop=stop, planned=50, tell=None)
        diary.add(1, 10, {"train_loss": 0.7, "val_loss": 0.7})
        assert not diary.stopping
        diary.add(2, 20, {"train_loss": math.nan, "val_loss": math.nan})
        assert diary.stopping is stop
        assert diary.finish().pathology == "non_finite"


def test_a_stop_is_not_taken_for_the_end():
    diary = Diary(FACTS, stop=True, planned=50, tell=None)
    diary.add(1, 10, {"train_loss": math.nan})
    assert diary.finish().labeller_version
    assert diary.stopping


def test_metrics_get_their_names_here_and_yours_go_before():
    diary = Diary(tell=None, names={"ce": "val_loss"})
    signals = diary.signals({"loss": 1, "ce": 2.0, "val_acc": 0.5, "note": "text", "my_own": 3})
    assert signals == {"train_loss": 1.0, "val_loss": 2.0, "val_accuracy": 0.5, "my_own": 3.0}


def test_a_new_run_begins_its_file_anew(tmp_path):
    path = tmp_path / "history.jsonl"
    for _ in range(2):
        Diary(path=path, tell=None).add(1, 1, {"val_loss": 1.0})
    assert len(path.read_text().splitlines()) == 1
