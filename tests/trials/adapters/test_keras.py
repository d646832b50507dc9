"""The Keras callback inside a real `fit`, on the torch backend; in a process of its own."""

import json
import os
import subprocess
import sys

import pytest

CODE = """
import json, math, sys
import numpy as np
import keras
from sickbay.trials.adapters.keras import keras_callback
from sickbay.trials.contract import TaskFacts

def fit(callback, lr, epochs):
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).normal(size=(128, 4)).astype("float32")
    y = (x[:, :1] > 0).astype("float32")
    model = keras.Sequential([
        keras.layers.Dense(8, activation="relu", name="body"),
        keras.layers.Dense(1, name="head"),
    ])
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(lr), loss, metrics=["accuracy"])
    model.fit(x, y, validation_data=(x, y), epochs=epochs, batch_size=16, verbose=0,
              callbacks=[callback])

facts = TaskFacts(floors={"val_loss": math.log(2.0)}, n={"val": 128})
well = keras_callback(facts, path=sys.argv[1], tell=None)
fit(well, 0.1, 3)
ill = keras_callback(facts, stop=True, tell=None)
fit(ill, math.inf, 8)
print(json.dumps({
    "rows": [[row.epoch, row.step, dict(row.signals)] for row in well.diary.rows],
    "groups": well.diary.facts.groups, "planned": well.diary.planned,
    "label": str(well.diary.label.health),
    "ill": [len(ill.diary.rows), ill.diary.label.pathology],
}))
"""


@pytest.mark.slow
def test_rows_hold_what_was_logged_and_how_far_the_layers_moved(tmp_path):
    path = tmp_path / "history.jsonl"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CODE, str(path)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "KERAS_BACKEND": "torch", "KERAS_HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert [row[:2] for row in report["rows"]] == [[1, 8], [2, 16], [3, 24]]
    first, last = report["rows"][0][2], report["rows"][-1][2]
    assert last["val_loss"] < first["val_loss"]
    assert {"train_loss", "train_accuracy", "val_accuracy"} <= set(first)
    assert all(norm > 0 for norm in first["group_update_norm"])
    assert (report["groups"], report["planned"]) == (["body", "head"], 3)
    assert report["label"] in ("inconclusive", "healthy")
    assert len(path.read_text().splitlines()) == 3
    assert report["ill"][0] < 8
    assert report["ill"][1] == "non_finite"
