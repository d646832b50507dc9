"""Failure classes: real failures that this machine can make, and the words of those it cannot."""

import signal
import subprocess
import sys

import pytest

from sickbay.trials.diagnosis.failures import REMEDIES, Failure, classify

F = Failure


def raised(code):
    with pytest.raises(BaseException) as caught:
        exec(code, {})
    return caught.value


@pytest.mark.parametrize(
    ("code", "failure"),
    [
        ("import no_such_module_anywhere", F.IMPORT_ERROR),
        ("from os import nothing_of_this_name", F.IMPORT_ERROR),
        ("open('/nonexistent/data.csv')", F.MISSING_FILE),
        ("assert 1 == 2", F.ASSERTION),
        ("import os; os.write(os.open('/dev/full', os.O_WRONLY), b'x')", F.DISK_FULL),
        ("bytearray(2 ** 62)", F.HOST_OUT_OF_MEMORY),
        ("import numpy; numpy.empty(2 ** 58)", F.HOST_OUT_OF_MEMORY),
        ("import torch; torch.empty(2 ** 55)", F.HOST_OUT_OF_MEMORY),
        ("raise TimeoutError('no batch for 60 s')", F.TIMEOUT),
        ("{}['missing']", F.USER_ERROR),
        ("raise ValueError('CUDA error is only in the words')", F.USER_ERROR),
        ("raise SystemExit(3)", F.USER_ERROR),
    ],
)
def test_real_exceptions(code, failure):
    assert classify(raised(code)) is failure


@pytest.mark.parametrize(
    ("code", "failure"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", F.KILLED),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", F.PREEMPTED),
        ("import ctypes; ctypes.string_at(0)", F.SEGFAULT),
        ("import os; os.abort()", F.SEGFAULT),
        ("raise FileNotFoundError('x')", F.MISSING_FILE),
        ("import no_such_module_anywhere", F.IMPORT_ERROR),
        ("b = []\nwhile True: b.append(bytearray(2**24))", F.HOST_OUT_OF_MEMORY),
    ],
)
def test_real_processes_that_ended(code, failure):
    command = [
        "sh",
        "-c",
        'ulimit -v 2000000; ulimit -c 0; exec "$@"',
        "sh",
        sys.executable,
        "-c",
        code,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert classify(exit_code=done.returncode, text=done.stderr) is failure
    shells = done.returncode if done.returncode > 0 else 128 - done.returncode
    assert classify(exit_code=shells, text=done.stderr) is failure


@pytest.mark.parametrize(
    ("text", "failure"),
    [
        (
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB",
            F.GPU_OUT_OF_MEMORY,
        ),
        ("RuntimeError: CUDA error: an illegal memory access was encountered", F.CUDA_ERROR),
        ("Watchdog caught collective operation timeout: WorkNCCL(SeqNum=4)", F.COLLECTIVE_TIMEOUT),
        ("Task was killed due to the node running low on memory: (OOM)", F.HOST_OUT_OF_MEMORY),
        ("slurmstepd: error: *** STEP 7.0 CANCELLED DUE TO PREEMPTION ***", F.PREEMPTED),
        ("The actor died because its node has died. Node Id: 12ab", F.PREEMPTED),
        ("Worker exit detail: connection error code 2. End of file.", F.KILLED),
        ("", F.UNKNOWN),
        ("all is well", F.UNKNOWN),
    ],
)
def test_words_of_others(text, failure):
    assert classify(text=text) is failure


def test_the_out_of_memory_killer_is_known_by_its_log():
    assert classify(exit_code=137, text="Memory cgroup out of memory (OOM): Killed") is (
        F.HOST_OUT_OF_MEMORY
    )
    assert classify(exit_code=-signal.SIGKILL) is F.KILLED
    assert classify(exit_code=1) is F.UNKNOWN


def test_every_class_has_a_remedy():
    assert set(REMEDIES) == set(Failure)
    assert all(REMEDIES.values())
