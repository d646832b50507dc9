"""Runs a training script as a trial: starts it, reads its logs as it goes, ends it on request.

The script has its own folder (`SICKBAY_TRIAL_DIR`) until the trial ends, so a resumed trial finds
its checkpoints there; its output goes to a file in it. It runs in its own process group, which is
stopped by SIGTERM, and by SIGKILL after `GRACE` seconds.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sickbay.trials.contract import Config, Context, Objective, Row, Scalar, TaskFacts, Workload
from sickbay.trials.log_files.trial_folder import OUTPUT, LogWords, read_folder, reported_facts
from sickbay.trials.logs.facts import stated_facts
from sickbay.trials.spec.command import COMMAND, Command, filled

GRACE = 10.0  # seconds that a script is given to end by itself after SIGTERM
POLL = 0.1  # seconds between two looks at the script
PATIENCE = 20.0  # reading the logs again waits this many times as long as it took
PR_SET_PDEATHSIG = 1  # of prctl(2)
KEPT = 2**20  # bytes of what it printed that are stored
TAIL = 30  # last printed lines that an error repeats


class ScriptError(RuntimeError):
    """The script ended with an error; the message holds its exit status and its last lines."""


@dataclass(frozen=True)
class Restart:
    """Yielded by a running script: the rows so far are replaced by the following ones."""


@dataclass(frozen=True)
class Output:
    """Yielded by a running script that printed or wrote something, but no evaluation."""


_NOTHING = (
    "nothing that the script printed or wrote in its folder could be read as evaluations: print "
    "lines like `epoch=1 train_loss=0.52 val_loss=0.61`, write a CSV, JSON-lines or TensorBoard "
    "log into $SICKBAY_TRIAL_DIR, or name the columns in `facts: {map: {mine: val_loss}}`"
)

_LIBC = ctypes.CDLL(None)  # loaded here, as little may be done between fork and exec

# None: nothing new, but the caller may check on the rest
News = Row | TaskFacts | Restart | Output | None


@dataclass(frozen=True)
class Script:
    """One trial of a command: what is started, where, and how its logs are read."""

    command: Command
    config: Config
    context: Context
    threads: int
    words: LogWords

    @property
    def folder(self) -> Path:
        """The trial's folder."""
        return Path(self.context.workdir)

    def argv(self) -> list[str]:
        """The command with its settings in place, empty words left out."""
        arguments = [filled(word, self.config, self._given()) for word in self.command.words]
        return [word for word in arguments if word]

    def environment(self) -> dict[str, str]:
        """The variables of this process, those of the trial, and those of the spec over them."""
        seed, threads = str(self.context.seed), str(self.threads)
        ours = {
            "SICKBAY_TRIAL_DIR": str(self.folder),
            "PYTHONUNBUFFERED": "1",  # printed lines are to be seen when they are printed
            "PYTHONHASHSEED": seed,
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            "PATH": _path(os.environ),
        }
        if self.context.device == "cpu":
            ours["CUDA_VISIBLE_DEVICES"] = ""
        asked = {k: filled(v, self.config, self._given()) for k, v in self.command.env.items()}
        return {**os.environ, **ours, **asked}

    def _given(self) -> Mapping[str, Scalar]:
        return {
            "seed": self.context.seed,
            "epochs": self.context.epochs,
            "trial_dir": str(self.folder),
        }


def script_workload(
    command: Command, objective: Objective, threads: int, signals: Collection[str]
) -> Workload:
    """A command as the workload that a trial runs; `signals` are the names that detectors read.

    Its `train` yields `News`, not rows alone.
    """
    log_words = LogWords(
        command.facts.get("map") or {}, {*signals, objective.signal}, command.metrics
    )

    def train(config: Config, context: Context) -> Iterator[Row]:
        return run_script(Script(command, config, context, threads, log_words))  # type: ignore[return-value]

    return Workload(
        name=COMMAND,
        version=command.version,
        doc=" ".join(command.words),
        defaults={},
        factors=(),
        objective=objective,
        train=train,
        facts=lambda config, context: stated_facts(command.facts),  # noqa: ARG005
        code=command.code(),
    )


def run_script(script: Script) -> Iterator[News]:
    """Yield the script's evaluations while it runs; raises ScriptError if it fails.

    A row is yielded once the next evaluation has begun, the last when the script has ended. Then
    all is read again, and where that differs (a file that came late), `Restart` and all rows
    follow. Closing the iterator ends the script.
    """
    reader = _Reader(script)
    with _started(script) as process:
        while process.poll() is None:
            yield from reader.news()
            time.sleep(POLL)
        status = process.returncode
    if status != 0:
        raise ScriptError(_ending(script, status))
    yield from reader.rest()


class _Reader:
    """Reads the logs of a running script, less often the larger they are."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._given: list[Row] = []
        self._facts: TaskFacts | None = None
        self._next = 0.0
        self._seen: object = None

    def news(self) -> Iterator[News]:
        """What is new since the last call: facts, complete evaluations, or None alone."""
        yield None
        now = time.monotonic()
        stamp = _stamp(self._script.folder) if now >= self._next else self._seen
        if stamp == self._seen:
            return
        self._seen = stamp
        yield Output()
        with suppress(OSError, ValueError):  # a file that is being written: the next look will do
            yield from self._facts_news()
            rows = read_folder(self._script.folder, self._script.words)[:-1]
            yield from self._after(rows)
        took = time.monotonic() - now
        self._next = now + took * (1 + PATIENCE)

    def rest(self) -> Iterator[News]:
        """Everything once more, now that nothing is written any longer."""
        yield from self._facts_news()
        rows = read_folder(self._script.folder, self._script.words)
        if not rows:
            raise ScriptError(_NOTHING)
        if repr(rows[: len(self._given)]) != repr(self._given):  # of equal text: NaN equals NaN
            yield Restart()
            self._given = []
        yield from self._after(rows)

    def _after(self, rows: list[Row]) -> Iterator[Row]:
        last = self._given[-1].epoch if self._given else -1
        for row in rows:
            if row.epoch > last:
                self._given.append(row)
                yield row

    def _facts_news(self) -> Iterator[TaskFacts]:
        facts = reported_facts(self._script.folder)
        if facts is not None and facts != self._facts:
            self._facts = facts
            yield facts


@contextmanager
def _started(script: Script) -> Iterator["subprocess.Popen[bytes]"]:
    """The script's process; it is ended, with its group, on leaving."""
    argv, folder = script.argv(), script.command.working_dir
    with _output(script.folder, _attempts(script.folder) + 1).open("xb") as output:
        try:
            process = subprocess.Popen(  # noqa: S603 - the user's own command
                argv,
                cwd=folder or None,
                env=script.environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_die_with_us if sys.platform == "linux" else None,  # noqa: PLW1509
            )
        except OSError as error:
            raise ScriptError(f"{argv[0]!r} cannot be started in {folder}: {error}") from error
    try:
        yield process
    finally:
        end_group(process, GRACE)


def _die_with_us() -> None:
    """Called in the script's process before it begins: a worker that is killed takes it along."""
    _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def end_group(process: "subprocess.Popen[bytes]", grace: float) -> None:
    """End a process and its group: SIGTERM, `grace` seconds, SIGKILL; at once if it is over."""
    if process.poll() is None:
        _signal(process, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(grace)
    _signal(process, signal.SIGKILL)  # what the script itself has left behind, too
    process.wait()


def _signal(process: "subprocess.Popen[bytes]", number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def printed(folder: Path) -> bytes:
    """What all attempts of a script printed; of more than `KEPT` bytes the last."""
    files = [_output(folder, number) for number in range(1, _attempts(folder) + 1)]
    return b"".join(file.read_bytes() for file in files)[-KEPT:]


def _attempts(folder: Path) -> int:
    number = 0
    while _output(folder, number + 1).exists():
        number += 1
    return number


def _output(folder: Path, attempt: int) -> Path:
    return folder / OUTPUT.format(attempt=attempt)


def _tail(folder: Path) -> str:
    """The last lines that the latest attempt of a script printed."""
    text = _output(folder, _attempts(folder)).read_text(encoding="utf-8", errors="replace")
    return "\n".join(text.rstrip().splitlines()[-TAIL:])


def _ending(script: Script, status: int) -> str:
    how = f"exit status {status}"
    if status < 0:
        how = f"signal {signal.Signals(-status).name}"
    elif status > 128 and status - 128 in list(signal.Signals):
        how = f"exit status {status} (signal {signal.Signals(status - 128).name})"
    tail = _tail(script.folder)
    return f"the script ended with {how}" + (f"; its last output:\n{tail}" if tail else "")


def _stamp(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """What changes when a file of the folder is written."""
    stamps = []
    for file in sorted(folder.rglob("*")):
        with suppress(OSError):
            status = file.stat()
            stamps.append((str(file), status.st_size, status.st_mtime_ns))
    return tuple(stamps)


def _path(environment: Mapping[str, str]) -> str:
    """PATH on which `python` is an activated environment's, else the one that runs this."""
    path = environment.get("PATH", os.defpath)
    if environment.get("VIRTUAL_ENV") or environment.get("CONDA_PREFIX"):
        return path
    return os.pathsep.join([str(Path(sys.executable).parent), path])
