"""What training code can change in its process, restored before the next trial begins there.

Seeds and torch's switches are set anew by `seeding`; this is the rest. Threads that a trial leaves
running cannot be ended.
"""

import contextlib
import gc
import logging
import operator
import os
import signal
import socket
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import numpy as np

# Where training code patches something "for a moment": a function or class that was replaced in one
# of these is put back.
PATCHED = tuple(
    """
        builtins collections contextlib copy dataclasses datetime functools glob hashlib io
        itertools json logging math os os.path pathlib random re shutil signal socket struct
        subprocess tempfile threading time traceback uuid warnings numpy numpy.linalg numpy.random
        pyarrow pyarrow.parquet torch torch.nn torch.nn.functional torch.nn.init torch.optim
        torch.utils.data
    """.split()
)
CLASSES = (
    ("json", "JSONDecoder"),
    ("json", "JSONEncoder"),
    ("pathlib", "Path"),
    ("pathlib", "PurePath"),
    ("subprocess", "Popen"),
    ("threading", "Thread"),
    ("torch", "Tensor"),
    ("torch.nn", "Module"),
    ("torch.optim", "Optimizer"),
    ("torch.utils.data", "DataLoader"),
)
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM, signal.SIGUSR1, signal.SIGUSR2)

Undo = Callable[[], object]


@contextlib.contextmanager
def restored() -> Iterator[None]:
    """Leave the process as it was, whatever the code inside did to it."""
    undo = _snapshot()
    try:
        yield
    finally:
        for step in undo:
            step()


def _snapshot() -> list[Undo]:
    return [
        *_patches(),
        _folder(),
        _environment(),
        *_signals(),
        *_interpreter(),
        *_warnings(),
        *_logging(),
        *_numbers(),
    ]


def _patches() -> list[Undo]:
    """Put back functions and classes of well-known modules that were replaced."""
    places: list[object] = [sys.modules[name] for name in PATCHED if name in sys.modules]
    places += [
        getattr(sys.modules[module], name) for module, name in CLASSES if module in sys.modules
    ]
    return [partial(_put_back, place, dict(vars(place))) for place in places]


def _put_back(place: object, before: Mapping[str, object]) -> None:
    now = vars(place)
    if len(now) == len(before) and all(map(operator.is_, now.values(), before.values())):  # mostly
        return
    for name, value in before.items():
        if now.get(name) is not value and (callable(value) or isinstance(value, classmethod)):
            setattr(place, name, value)


def _folder() -> Undo:
    try:
        before = os.getcwd()  # noqa: PTH109  may be gone, which pathlib tells no better
    except FileNotFoundError:
        before = tempfile.gettempdir()

    def undo() -> None:
        try:
            os.chdir(before)
        except OSError:  # the trial removed it: anywhere that exists is better
            os.chdir(tempfile.gettempdir())

    return undo


def _environment() -> Undo:
    before = dict(os.environ)

    def undo() -> None:
        for name in set(os.environ) - set(before):
            del os.environ[name]
        for name, value in before.items():
            if os.environ.get(name) != value:
                os.environ[name] = value

    return undo


def _signals() -> list[Undo]:
    if threading.current_thread() is not threading.main_thread():
        return []  # only the main thread may set handlers, so this trial cannot have either
    before = [(number, signal.getsignal(number)) for number in SIGNALS]
    steps: list[Undo] = []
    if signal.getitimer(signal.ITIMER_REAL)[0] == 0:
        steps.append(lambda: signal.setitimer(signal.ITIMER_REAL, 0))
    for number, handler in before:
        if handler is not None:  # one that Python did not install cannot be put back
            steps.append(partial(signal.signal, number, handler))
    return steps


def _interpreter() -> list[Undo]:
    path, arguments, streams = list(sys.path), list(sys.argv), (sys.stdout, sys.stderr, sys.stdin)
    hook, limit, collecting = sys.excepthook, sys.getrecursionlimit(), gc.isenabled()
    mask = os.umask(0o077)
    os.umask(mask)
    wait = socket.getdefaulttimeout()

    def undo() -> None:
        sys.path[:], sys.argv[:] = path, arguments
        sys.stdout, sys.stderr, sys.stdin = streams
        sys.excepthook = hook
        if sys.getrecursionlimit() != limit:
            sys.setrecursionlimit(limit)
        (gc.enable if collecting else gc.disable)()
        os.umask(mask)
        socket.setdefaulttimeout(wait)

    return [undo]


def _warnings() -> list[Undo]:
    filters, show = list(warnings.filters), warnings.showwarning

    def undo() -> None:
        if warnings.filters != filters:
            warnings.filters[:] = filters  # type: ignore[index]
            warnings._filters_mutated()  # type: ignore[attr-defined]  # noqa: SLF001
        warnings.showwarning = show

    return [undo]


def _logging() -> list[Undo]:
    root = logging.getLogger()
    level, handlers, disabled = root.level, list(root.handlers), logging.root.manager.disable

    def undo() -> None:
        if logging.root.manager.disable != disabled:  # both forget what every logger has cached
            logging.disable(disabled)
        if root.level != level:
            root.setLevel(level)
        root.handlers[:] = handlers

    return [undo]


def _numbers() -> list[Undo]:
    errors, printing = np.geterr(), np.get_printoptions()
    return [partial(np.seterr, **errors), partial(np.set_printoptions, **printing)]
