"""What a person reads in the first hour: every verb on a terminal of 80 columns, and the words for
what goes wrong first.
"""

import fcntl
import os
import pty
import re
import shlex
import socket
import struct
import sys
import termios

import pytest
import yaml

LONG = "adam_with_decoupled_weight_decay_and_cosine_restarts"
SCRIPT = """
import math, sys
optimizer, lr, seed = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
if optimizer == "lion":
    open("/no/such/folder/data.csv")
for epoch in range(1, 9):
    loss = 2.3 * (1 - lr) ** epoch + 0.001 * seed
    if optimizer == "sgd" and epoch > 5:
        loss = math.nan
    print(f"epoch={epoch} train_loss={loss} val_loss={loss + 0.0123456789}")
"""
SPEC = {
    "name": "the-optimizers-of-a-first-hour",
    "command": [sys.executable, "train.py", "{optimizer}", "{lr}", "{seed}"],
    "factors": {"optimizer": [LONG, "sgd", "lion"], "lr": [0.3, 0.1]},
    "design": "one_factor",
    "fixed": {"epochs": 8},
    "seeds": 3,
    "facts": {"task": "multiclass", "classes": [50] * 10, "floor": "cross_entropy", "val_n": 500},
}
NAME = SPEC["name"]


def on_a_terminal(folder, words, columns=80):
    """Run the command line on a terminal; gives its exit code and what stands on the screen."""
    command = [sys.executable, "-m", "sickbay.service.cli", *words]
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(folder)
        os.execve(sys.executable, command, {**os.environ, "TERM": "xterm", "NO_COLOR": "1"})
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    said = b""
    while True:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # how Linux says that the other end is closed
            break
        if not piece:
            break
        said += piece
    os.close(terminal)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said.decode()).replace("\r\n", "\n")
    return code, text


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A folder with a store: a sweep of 12 trials, three of which fail and three are pathological,
    and what `run` said of it.
    """
    folder = tmp_path_factory.mktemp("hour")
    (folder / "train.py").write_text(SCRIPT)
    (folder / "spec.yaml").write_text(yaml.safe_dump(SPEC))
    code, said = on_a_terminal(folder, ["run", "spec.yaml", "--in-process"])
    assert code == 1, said  # trials have failed
    return folder, said


def tables(text):
    """The lines that belong to a table: from a rule to the next empty line, and the head above."""
    blocks = [block.split("\n") for block in re.split(r"\n\s*\n", text)]
    return [line for block in blocks if any("──" in line for line in block) for line in block]


TABLES = [
    ("plan spec.yaml", LONG[:8]),
    (f"status {NAME}", "missing_file"),
    (f"results {NAME}", "missing_file"),
    (f"effects {NAME}", "optimizer"),
]
FURTHER_TABLES = [
    ("list", "6 healthy"),
    (f"effects {NAME} --all", "optimizer"),
    (f"compare {NAME} {NAME}", "baseline"),
    ("query 'SELECT * FROM sweeps'", "sweep_id"),
    ("workloads", "mvm_orientation"),
    ("workloads mvm_orientation", "initialization"),
    ("detectors", "throughput_decay"),
    ("detectors no_skill", "val_loss"),
    ("diagnose log.csv", "non_finite"),
    ("doctor", "python"),
]


@pytest.mark.parametrize(
    ("words", "shows"),
    [*TABLES, *(pytest.param(*case, marks=pytest.mark.slow) for case in FURTHER_TABLES)],
)
def test_every_table_fits_80_columns(store, words, shows):
    folder, _ = store
    rows = [f"{n},{0.5 / n},{0.5 / n if n < 6 else 'nan'}" for n in range(1, 9)]
    (folder / "log.csv").write_text("\n".join(["epoch,train_loss,val_loss", *rows]))
    _, said = on_a_terminal(folder, shlex.split(words))
    assert shows.lower() in said.lower(), said
    for line in tables(said):
        assert len(line) <= 80, line


def test_ids_and_levels_are_never_cut(store):
    folder, said = store
    _, listed = on_a_terminal(folder, ["list"])
    for text in (said, listed):
        assert "…" not in "".join(tables(text))


def test_a_run_says_what_failed_once_and_what_helps_next(store):
    _, said = store
    assert said.count("failed, missing_file: 3 of 12 trials") == 1
    assert "FileNotFoundError" in said
    assert "every node must reach it" in " ".join(said.split())
    following = said.split("next:\n")[1].split("\n")
    assert re.search(rf" logs {NAME}-\w{{6}} \w{{8}}", following[0])
    assert re.search(r" explain \w{8}", following[1])
    assert f"WHERE sweep_id = '{NAME}" in said


@pytest.mark.slow
def test_two_sweeps_of_one_name_are_distinguished(store):
    folder, _ = store
    small = {**SPEC, "factors": {"optimizer": ["sgd"], "lr": [0.1]}, "seeds": 1}
    for epochs in (7, 8):
        (folder / "other.yaml").write_text(yaml.safe_dump({**small, "fixed": {"epochs": epochs}}))
        on_a_terminal(folder, ["run", "other.yaml", "--in-process", "--store", "two"])
    code, said = on_a_terminal(folder, ["status", NAME, "--store", "two"])
    assert code == 0
    assert f"2 sweeps are called '{NAME}': this is the latest, {NAME}-" in " ".join(said.split())


def test_a_port_in_use_is_said_in_one_sentence(store):
    folder, _ = store
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code, said = on_a_terminal(folder, ["serve", "--port", port])
    assert code == 2
    assert f"{port} of 127.0.0.1 is in use by another program" in " ".join(said.split())


@pytest.mark.slow
def test_sweeps_of_two_workloads_cannot_be_compared(store, plugin_demo):
    folder, _ = store
    toy = {"name": "toy", "workload": "sickbay_demo.task:WORKLOAD", "seeds": 1, "factors": {}}
    (folder / "toy.yaml").write_text(yaml.safe_dump(toy))
    on_a_terminal(folder, ["run", "toy.yaml", "--in-process"])
    code, said = on_a_terminal(folder, ["compare", "toy", NAME])
    assert code == 2
    assert "trains sickbay_demo.task:WORKLOAD and B" in " ".join(said.split())
