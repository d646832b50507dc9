"""The Lightning callback inside a real Trainer."""

import json
import math
import warnings

import pytest
import torch
from torch import nn

from sickbay.trials.adapters.lightning import lightning_callback
from sickbay.trials.contract import TaskFacts, TaskKind

FACTS = TaskFacts(kind=TaskKind.BINARY, floors={"val_loss": math.log(2.0)}, n={"val": 64})


@pytest.fixture(scope="module")
def pl():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pytorch_lightning

        return pytorch_lightning


def fit(pl, callback, folder, *, lr=0.05, epochs=4):
    class Net(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.body, self.head = nn.Sequential(nn.Linear(4, 8), nn.ReLU()), nn.Linear(8, 1)

        def forward(self, x):
            return self.head(self.body(x))[:, 0]

        def loss(self, batch):
            x, y = batch
            return nn.functional.binary_cross_entropy_with_logits(self(x), y)

        def training_step(self, batch, _):
            return self.loss(batch)

        def validation_step(self, batch, _):
            self.log("val_loss", self.loss(batch))

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=lr)

    torch.manual_seed(0)
    x = torch.randn(128, 4)
    data = torch.utils.data.TensorDataset(x, (x[:, 0] > 0).float())
    loader = torch.utils.data.DataLoader(data, batch_size=16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = pl.Trainer(
            max_epochs=epochs,
            callbacks=[callback],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            accelerator="cpu",
            default_root_dir=folder,
        )
        trainer.fit(Net(), loader, loader)
    return trainer


def test_rows_hold_what_was_logged_and_what_the_probe_measured(pl, tmp_path):
    path = tmp_path / "history.jsonl"
    callback = lightning_callback(FACTS, path=path, tell=None, batch=torch.randn(32, 4))
    fit(pl, callback, tmp_path, lr=0.5)
    rows = callback.diary.rows
    assert [row.epoch for row in rows] == [1, 2, 3, 4]
    assert [row.step for row in rows] == [8, 16, 24, 32]
    assert rows[-1].signals["val_loss"] < rows[0].signals["val_loss"]
    assert rows[0].signals["train_steps"] == 8
    assert rows[0].signals["grad_norm_max"] > 0
    assert len(rows[0].signals["dead_unit_share"]) == 1
    assert callback.diary.facts.groups == ("body", "head")
    assert callback.diary.planned == 4
    assert callback.diary.label.health == "healthy"
    assert len([json.loads(line) for line in path.read_text().splitlines()]) == 4


def test_a_certain_pathology_stops_the_trainer(pl, tmp_path):
    callback = lightning_callback(FACTS, stop=True, tell=None)
    trainer = fit(pl, callback, tmp_path, lr=math.inf, epochs=6)
    assert trainer.current_epoch < 5
    assert callback.diary.label.pathology == "non_finite"
