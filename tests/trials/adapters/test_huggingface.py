"""The Hugging Face callback inside a real Trainer; in a process of its own.

The library asks whether a package `datasets` can be imported, and would find the folder of that
name where the tests run.
"""

import json
import subprocess
import sys

import pytest

CODE = """
import json, math, sys, warnings
warnings.simplefilter("ignore")
import torch, transformers
from torch import nn
from sickbay.trials.adapters.huggingface import huggingface_callback
from sickbay.trials.contract import TaskFacts, TaskKind

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Sequential(nn.Linear(4, 8), nn.ReLU()), nn.Linear(8, 1)

    def forward(self, x, labels):
        logits = self.head(self.body(x))[:, 0]
        loss = nn.functional.binary_cross_entropy_with_logits(logits, labels)
        return {"loss": loss, "logits": logits}

def fit(callback, **changes):
    torch.manual_seed(0)
    x = torch.randn(64, 4)
    data = [{"x": one, "labels": (one[0] > 0).float()} for one in x]
    words = dict(output_dir=".", num_train_epochs=3, per_device_train_batch_size=8,
                 eval_strategy="epoch", save_strategy="no", logging_steps=2, learning_rate=0.05,
                 report_to=[], disable_tqdm=True, use_cpu=True)
    args = transformers.TrainingArguments(**{**words, **changes})
    transformers.Trainer(model=Net(), args=args, train_dataset=data, eval_dataset=data,
                         callbacks=[callback]).train()

facts = TaskFacts(kind=TaskKind.BINARY, floors={"val_loss": math.log(2.0)}, n={"val": 64})
well = huggingface_callback(facts, path="history.jsonl", tell=None)
fit(well)
by_steps = huggingface_callback(facts, tell=None)
fit(by_steps, eval_strategy="steps", eval_steps=4)
ill = huggingface_callback(facts, stop=True, tell=None)
fit(ill, learning_rate=1e38, max_grad_norm=0.0, num_train_epochs=9)
print(json.dumps({
    "rows": [[row.epoch, row.step, dict(row.signals)] for row in well.diary.rows],
    "groups": well.diary.facts.groups, "planned": well.diary.planned,
    "label": str(well.diary.label.health),
    "by_steps": [[row.epoch, row.step] for row in by_steps.diary.rows],
    "steps_planned": by_steps.diary.planned,
    "ill": [len(ill.diary.rows), ill.diary.label.pathology],
}))
"""


@pytest.mark.slow
def test_rows_hold_what_was_logged_and_what_the_probe_measured(tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CODE],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert [row[:2] for row in report["rows"]] == [[1, 8], [2, 16], [3, 24]]
    first, last = report["rows"][0][2], report["rows"][-1][2]
    assert last["val_loss"] < first["val_loss"]
    assert first["train_loss"] > last["train_loss"]
    assert first["grad_norm_p50"] > 0
    assert first["train_steps"] == 8
    assert all(ratio > 0 for ratio in first["group_update_ratio"])
    assert (report["groups"], report["planned"]) == (["body", "head"], 3)
    assert report["label"] in ("inconclusive", "healthy")
    assert len((tmp_path / "history.jsonl").read_text().splitlines()) == 3
    assert report["by_steps"] == [[n, 4 * n] for n in range(1, 7)]
    assert report["steps_planned"] == 6
    assert report["ill"][0] < 9
    assert report["ill"][1] == "non_finite"
