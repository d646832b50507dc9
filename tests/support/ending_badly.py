"""`ending_badly:WORKLOAD`: a workload whose process hangs, crashes or leaves on demand."""

import ctypes
import os
import signal
import sys
import time

from sickbay.trials.contract import Factor, Goal, Objective, Row, Workload

ENDINGS = ("none", "hang", "segfault", "exit", "kill", "raise")


def train(config, context):
    for epoch in range(1, context.epochs + 1):
        if epoch == 3:
            end(config["ending"])
        time.sleep(float(config["seconds"]))
        yield Row(epoch, epoch, {"val_loss": 1.0 / epoch})


def end(how):
    if how == "hang":
        while True:
            time.sleep(1)
    if how == "segfault":
        ctypes.string_at(0)
    if how == "exit":
        os._exit(7)
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "raise":
        sys.exit("told to leave")


WORKLOAD = Workload(
    name="ending_badly",
    version="1",
    doc="Ends as it is told to.",
    defaults={"epochs": 5, "ending": "none", "seconds": 0.05},
    factors=(
        Factor("ending", ENDINGS, "how the process ends in epoch 3"),
        Factor("seconds", (0.05, 0.5), "seconds of one epoch"),
    ),
    objective=Objective("val_loss", Goal.MINIMIZE),
    train=train,
)
