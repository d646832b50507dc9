"""Why a trial failed: one class per kind of cause, with its remedy.

What is known comes in three forms: the exception that ended the training code, how a process ended
(exit code or signal), and text, such as what Ray says of a lost worker or the tail of a log. The
most specific form that says anything wins, in this order of `classify`'s rules.
"""

import errno
import re
import signal
from collections.abc import Mapping
from enum import StrEnum


class Failure(StrEnum):
    """The cause of a failed trial, as the column `failure` of `trials` holds it."""

    GPU_OUT_OF_MEMORY = "gpu_out_of_memory"
    HOST_OUT_OF_MEMORY = "host_out_of_memory"
    KILLED = "killed"
    SEGFAULT = "segfault"
    CUDA_ERROR = "cuda_error"
    COLLECTIVE_TIMEOUT = "collective_timeout"
    MISSING_FILE = "missing_file"
    DISK_FULL = "disk_full"
    IMPORT_ERROR = "import_error"
    ASSERTION = "assertion"
    USER_ERROR = "user_error"
    TIMEOUT = "timeout"
    PREEMPTED = "preempted"
    UNKNOWN = "unknown"


REMEDIES: Mapping[Failure, str] = {
    Failure.GPU_OUT_OF_MEMORY: "lower the batch size, or set resources.gpu_memory or "
    "`gpu: pack` so that fewer trials share a GPU",
    Failure.HOST_OUT_OF_MEMORY: "lower the batch size or the number of data loader workers, or "
    "give each trial more cores (resources.cpu) so that fewer run at once",
    Failure.KILLED: "look for the out-of-memory killer in the system log (`dmesg`), or for the "
    "process that sent the signal",
    Failure.SEGFAULT: "a native library crashed: run one trial with `--in-process` and "
    "PYTHONFAULTHANDLER=1 to see where",
    Failure.CUDA_ERROR: "run one trial with CUDA_LAUNCH_BLOCKING=1 to see which operation failed; "
    "check the GPU's state with nvidia-smi",
    Failure.COLLECTIVE_TIMEOUT: "a process of a distributed job stopped answering: look at the log "
    "of every rank for the first error",
    Failure.MISSING_FILE: "check the path in the message; on a cluster every node must reach it",
    Failure.DISK_FULL: "free some space on the disk or quota that the message names, then resume",
    Failure.IMPORT_ERROR: "install the missing package where trials run; on a cluster see "
    "`runtime_env`",
    Failure.ASSERTION: "an assertion of the training code does not hold for this configuration",
    Failure.USER_ERROR: "see `sickbay logs SWEEP TRIAL` for the traceback",
    Failure.TIMEOUT: "raise resources.trial_hours or resources.silence_minutes, or find out what "
    "the trial waits for",
    Failure.PREEMPTED: "the machine was taken away: resume the sweep, raise `retries`",
    Failure.UNKNOWN: "see `sickbay logs SWEEP TRIAL`",
}

_SIGNALS = {
    signal.SIGKILL: Failure.KILLED,
    signal.SIGTERM: Failure.PREEMPTED,
    signal.SIGSEGV: Failure.SEGFAULT,
    signal.SIGBUS: Failure.SEGFAULT,
    signal.SIGILL: Failure.SEGFAULT,
    signal.SIGFPE: Failure.SEGFAULT,
    signal.SIGABRT: Failure.SEGFAULT,
}
# The first pattern that is found wins; those that say more come first.
_TEXTS: tuple[tuple[str, Failure], ...] = (
    (r"CUDA out of memory|HIP out of memory|CUBLAS_STATUS_ALLOC_FAILED", Failure.GPU_OUT_OF_MEMORY),
    (r"torch\.OutOfMemoryError|cuda\.OutOfMemoryError", Failure.GPU_OUT_OF_MEMORY),
    (r"collective operation timeout|collective.* timed out", Failure.COLLECTIVE_TIMEOUT),
    (r"(NCCL|Gloo).*tim(ed|e) ?out", Failure.COLLECTIVE_TIMEOUT),
    (r"out of memory \(OOM\)|OutOfMemoryError|oom-kill|\bOOM\b", Failure.HOST_OUT_OF_MEMORY),
    (r"MemoryError|Cannot allocate memory|can't allocate memory", Failure.HOST_OUT_OF_MEMORY),
    (r"memory usage threshold", Failure.HOST_OUT_OF_MEMORY),
    (r"CUDA error|cuDNN error|CUBLAS_STATUS_|cudaError", Failure.CUDA_ERROR),
    (r"device-side assert|NCCL error|Xid \d+", Failure.CUDA_ERROR),
    (r"No space left on device|Disk quota exceeded", Failure.DISK_FULL),
    (r"SIG(SEGV|BUS|ABRT|ILL|FPE)|Segmentation fault|core dumped", Failure.SEGFAULT),
    (r"preempt|spot (instance )?(interruption|terminat)|SIGTERM", Failure.PREEMPTED),
    (r"node (was|is|has) .*(lost|terminated|drained|died|dead)|NODE_DIED", Failure.PREEMPTED),
    (r"DUE TO (PREEMPTION|TIME LIMIT)", Failure.PREEMPTED),
    (r"ModuleNotFoundError|ImportError", Failure.IMPORT_ERROR),
    (r"FileNotFoundError|No such file or directory", Failure.MISSING_FILE),
    (r"TimeoutError|timed out|time limit", Failure.TIMEOUT),
    (r"AssertionError", Failure.ASSERTION),
    (r"SIGKILL|connection error code 2|\bKilled\b", Failure.KILLED),
)
# A signal says little where the log says why it was sent: the out-of-memory killer sends a plain
# SIGKILL, and a process group of a distributed job aborts itself.
_LOG_KNOWS_MORE = {
    (Failure.KILLED, Failure.HOST_OUT_OF_MEMORY),
    (Failure.KILLED, Failure.PREEMPTED),
    (Failure.SEGFAULT, Failure.CUDA_ERROR),
    (Failure.SEGFAULT, Failure.COLLECTIVE_TIMEOUT),
    (Failure.SEGFAULT, Failure.GPU_OUT_OF_MEMORY),
}


def classify(
    error: BaseException | None = None, *, exit_code: int | None = None, text: str = ""
) -> Failure:
    """The class of a failure.

    `error` is the exception that ended the training code, `exit_code` a process's as `subprocess`
    gives it (a signal's number below zero) or a shell (128 and the number above), `text` what was
    said of it: Ray's message or the end of a log.
    """
    if error is not None:
        return _of_exception(error)
    said = _of_text(text)
    if exit_code:
        ended = _of_exit(exit_code)
        return said if ended is None or (ended, said) in _LOG_KNOWS_MORE else ended
    return said


def _of_exception(error: BaseException) -> Failure:
    name, text = type(error).__name__, f"{type(error).__name__}: {error}"
    # torch's own classes are recognised by name, as this package does not import torch
    if name == "OutOfMemoryError":
        host = "CUDA" not in text and "GPU" not in text and "HIP" not in text
        return Failure.HOST_OUT_OF_MEMORY if host else Failure.GPU_OUT_OF_MEMORY
    if isinstance(error, MemoryError):
        return Failure.HOST_OUT_OF_MEMORY
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Failure.DISK_FULL
    by_type = (
        (ImportError, Failure.IMPORT_ERROR),
        (FileNotFoundError, Failure.MISSING_FILE),
        (TimeoutError, Failure.TIMEOUT),
        (AssertionError, Failure.ASSERTION),
    )
    for kind, failure in by_type:
        if isinstance(error, kind):
            return failure
    # Libraries raise RuntimeError for almost anything: its text says what.
    said = _of_text(text) if isinstance(error, RuntimeError | OSError) else Failure.UNKNOWN
    return Failure.USER_ERROR if said is Failure.UNKNOWN else said


def _of_exit(code: int) -> Failure | None:
    """The class of a signal; None for an exit code, which alone is not conclusive."""
    number = -code if code < 0 else code - 128
    return _SIGNALS.get(signal.Signals(number)) if number in list(signal.Signals) else None


def _of_text(text: str) -> Failure:
    failures = (failure for pattern, failure in _TEXTS if re.search(pattern, text, re.IGNORECASE))
    return next(failures, Failure.UNKNOWN)
