"""A process that answers queries: the service's handle to ask, wait for and kill it."""

import contextlib
import signal
import subprocess
import sys
import threading
import weakref

from sickbay.service.query.frames import HEAD, MAIN, Kind, frame

START_SECONDS = 60.0  # that a process may take until it answers its first query


class Process:
    """A query process; one thread at a time may exchange with it, any may kill it."""

    def __init__(self, room: int) -> None:
        """Start a process whose queries may use `room` bytes. Raises OSError if that fails."""
        self._begun = self._worn = self._killed = False
        self._child = subprocess.Popen(  # noqa: S603  our own command
            # -P: no module is taken from the folder in which the service was started
            [sys.executable, "-P", "-c", MAIN, str(room)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C is the service's alone
        )
        self._release = weakref.finalize(self, _end, self._child)

    def fit(self) -> bool:
        """Whether it may answer another query."""
        return not (self._worn or self._killed) and self._child.poll() is None

    def ready(self) -> None:
        """Wait until it has started; starting does not count against a query's time."""
        if self._begun:
            return
        timer = threading.Timer(START_SECONDS, self.kill)
        timer.daemon = True
        timer.start()
        try:
            self._read(0)
        except EOFError as error:
            raise RuntimeError("a query process did not start") from error
        finally:
            timer.cancel()
        self._begun = True

    def exchange(self, request: bytes, most: int) -> tuple[Kind, bytes]:
        """Ask and wait. Raises EOFError when the process ends, or is killed, before it answers."""
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(frame(Kind.QUERY, request))
            self._child.stdin.flush()
        except OSError as error:
            self.kill()
            raise EOFError from error
        return self._read(most)

    def _read(self, most: int) -> tuple[Kind, bytes]:
        assert self._child.stdout is not None
        head = self._child.stdout.read(HEAD.size)
        if len(head) == HEAD.size:
            kind, self._worn, length = HEAD.unpack(head)
            payload = self._child.stdout.read(length) if length <= most else b""
            if len(payload) == length:
                return Kind(kind), payload
        self.kill()
        raise EOFError

    def kill(self) -> None:
        """Kill it at once, whatever it is doing."""
        self._killed = True
        self._child.kill()

    def end(self) -> None:
        """End it and release its resources; also called on garbage collection."""
        self._release()

    def why(self) -> str:
        """How it ended."""
        code = self._child.wait()
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _end(child: "subprocess.Popen[bytes]") -> None:
    child.kill()
    child.wait()
    for stream in (child.stdin, child.stdout):
        with contextlib.suppress(OSError):  # what was never read stays unread
            if stream is not None:
                stream.close()
