"""A workload that sleeps for `sleep_ms`: what is left of its time is the cost of running trials."""

import time
from collections.abc import Iterator
from dataclasses import replace

from sickbay.trials.contract import Config, Context, Row, TaskFacts, TaskKind
from sickbay_demo.task import WORKLOAD as TOY
from sickbay_demo.task import evaluate, initial, make_data

SECONDS = 0.05
EPOCHS = 5


def train(config: Config, context: Context) -> Iterator[Row]:
    """Yield five rows within `sleep_ms`."""
    split, _ = make_data(config, context.seed)
    signals = evaluate(initial(config, context.seed), split)
    for epoch in range(1, EPOCHS + 1):
        time.sleep(float(config["sleep_ms"]) / 1000 / EPOCHS)
        yield Row(epoch, epoch, signals | {"train_loss": 1.0 / epoch})


def facts(config: Config, context: Context) -> TaskFacts:
    """Just enough for most detectors to have something to do."""
    del config, context
    return TaskFacts(kind=TaskKind.REGRESSION, floors={"val_loss": 2.5}, loss_minimum=0.0)


WORKLOAD = replace(
    TOY,
    name="sleeper",
    train=train,
    facts=facts,
    defaults={**TOY.defaults, "epochs": EPOCHS, "sleep_ms": 1000 * SECONDS},
)
