"""What a trial changes in its process, the next one must not see."""

import hashlib
import json
import logging
import os
import random
import signal
import socket
import sys
import threading
import time
import uuid
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
import toy_sweeps

from sickbay.trials.execution.inline import run_to_end
from sickbay.trials.execution.process_state import SIGNALS, restored
from sickbay.trials.execution.trial import run_trial
from sickbay.trials.seeding import seed_everything


def seen():
    """Everything that the code below changes."""
    return {
        "cwd": Path.cwd(),
        "environment": dict(os.environ),
        "signals": [signal.getsignal(number) for number in SIGNALS],
        "timer": signal.getitimer(signal.ITIMER_REAL)[0] > 0,
        "warnings": list(warnings.filters),
        "path": list(sys.path),
        "argv": list(sys.argv),
        "streams": (sys.stdout, sys.stderr),
        "limit": sys.getrecursionlimit(),
        "socket": socket.getdefaulttimeout(),
        "logging": (logging.root.level, logging.root.manager.disable, list(logging.root.handlers)),
        "numpy": (np.geterr(), np.get_printoptions()["precision"]),
        "patched": (time.time, time.monotonic, random.random, np.mean, os.path.exists, open),
        "used by us": (hashlib.sha256, uuid.uuid4, json.JSONEncoder.encode, Path.open, Path.cwd),
        "torch": (torch.relu, torch.nn.Module.__call__, torch.Tensor.backward, torch.nn.Linear),
    }


def spoil(folder):
    os.chdir(folder)
    os.environ["SPOILT"] = "1"
    os.environ.pop("PATH", None)
    os.environ["HOME"] = "/elsewhere"
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, 100)
    warnings.simplefilter("ignore")
    sys.path.insert(0, str(folder))
    sys.argv.append("spoilt")
    sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115
    sys.setrecursionlimit(5000)
    socket.setdefaulttimeout(1.0)
    logging.disable(logging.CRITICAL)
    logging.root.setLevel(1)
    logging.root.handlers.clear()
    np.seterr(all="raise")
    np.set_printoptions(precision=1)
    time.time = time.monotonic = random.random = np.mean = lambda *_: 0.0
    os.path.exists = lambda _: True
    hashlib.sha256 = uuid.uuid4 = json.JSONEncoder.encode = Path.open = Path.cwd = None
    torch.relu = torch.nn.Module.__call__ = torch.Tensor.backward = torch.nn.Linear = None


def test_everything_is_put_back(tmp_path):
    before = seen()
    with restored():
        spoil(tmp_path)
        spoilt_stream = sys.stdout
    spoilt_stream.close()
    assert seen() == before


def test_it_is_put_back_after_an_error_too(tmp_path):
    before = seen()
    with suppress(ZeroDivisionError), restored():
        spoil(tmp_path)
        sys.stdout.close()
        raise ZeroDivisionError
    assert seen() == before


def test_a_folder_that_the_trial_is_in_and_that_is_removed(tmp_path):
    here = Path.cwd()
    (tmp_path / "work").mkdir()
    with restored():
        os.chdir(tmp_path / "work")
        (tmp_path / "work").rmdir()
    assert Path.cwd() == here


def test_outside_the_main_thread_too(tmp_path):
    here, ended = Path.cwd(), []

    def work():
        with restored():
            os.chdir(tmp_path)
        ended.append(Path.cwd())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert ended == [here]


def test_torch_defaults_are_settled_with_the_seeds():
    torch.set_default_device("meta")
    torch.set_default_dtype(torch.float64)
    torch.autograd.set_detect_anomaly(mode=True)
    seed_everything(0)
    assert torch.zeros(1).device.type == "cpu"
    assert torch.zeros(1).dtype is torch.float32
    assert not torch.is_anomaly_enabled()


def result_of(run):
    while True:
        try:
            next(run)
        except StopIteration as end:
            return end.value


def test_a_trial_that_goes_into_its_work_folder_spoils_no_other(tmp_path):
    here = Path.cwd()
    for seed in (0, 1):
        job = toy_sweeps.job(tmp_path / "store", seed=seed)
        run = run_trial(job)
        next(run)
        os.chdir(job.workdir)  # as its training code may, between two rows
        time.monotonic = lambda: 0.0
        record = result_of(run)
        assert record.state == "completed"
        assert record.wall_seconds > 0
        assert Path.cwd() == here
    assert run_to_end(toy_sweeps.job(tmp_path / "store", seed=2)).state == "completed"
