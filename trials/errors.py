"""Problems of a spec: all at once, each with what to do about it."""

import ast
import difflib
import json
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

SHOWN = 60  # characters of a bad value that are worth repeating
MOST_LISTED = 100  # problems listed in one message
_parsing = threading.Lock()
LISTED = 24  # names that are worth listing


@dataclass(frozen=True)
class SpecProblem:
    """One problem: where (`factors.initialization[2]`), the bad value, what is wrong or allowed.

    `key` is empty when the text as a whole is the problem, `value` is the bad value as it would be
    written in the spec and empty where there is none, `meant` is the nearest allowed word.
    """

    key: str
    message: str
    value: str = ""
    meant: str | None = None

    def __str__(self) -> str:
        """One paragraph for a person."""
        head = f"{self.key} = {self.value}" if self.key and self.value else self.key or self.value
        tail = f" Did you mean {self.meant!r}?" if self.meant is not None else ""
        return f"{head}: {self.message}{tail}" if head else f"{self.message}{tail}"


class SpecError(ValueError):
    """A spec that cannot be run: `problems` holds every problem, `str()` lists them, numbered."""

    def __init__(self, problems: Iterable[SpecProblem]) -> None:
        """Keep the problems as the only argument, so that the error survives pickling."""
        self.problems = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        """All problems, one numbered paragraph each."""
        count = len(self.problems)
        head = "the spec has 1 problem:" if count == 1 else f"the spec has {count} problems:"
        listed = self.problems[:MOST_LISTED]
        lines = [f"  {number}. {problem}" for number, problem in enumerate(listed, 1)]
        more = [f"  … and {count - MOST_LISTED} more"] if count > MOST_LISTED else []
        return "\n".join([head, *lines, *more])


def nearest(word: object, known: Iterable[object]) -> str | None:
    """The known word closest to a misspelt one, or None."""
    names = {str(name).casefold(): str(name) for name in known}
    text = str(word).casefold()
    matches = difflib.get_close_matches(text, names, n=3, cutoff=0.6)
    matches.sort(key=lambda name: sorted(name) != sorted(text))  # swapped letters first
    return names[matches[0]] if matches else None


def shown(value: object) -> str:
    """Format a value as in a spec, cut short."""
    text = json.dumps(value) if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def listed(names: Iterable[object]) -> str:
    """Join names with commas, cut short."""
    texts = [str(name) for name in names]
    more = f", … ({len(texts) - LISTED} more)" if len(texts) > LISTED else ""
    return (", ".join(texts[:LISTED]) or "nothing") + more


def parse_python(source: str | bytes, mode: str = "exec") -> Any:
    """`ast.parse`, one thread at a time; raises as it does.

    CPython 3.11 up to 3.11.8 counts the depth of all threads together, and fails with SystemError.
    """
    with _parsing:
        return ast.parse(source, mode=mode)


def ends_worker(error: BaseException) -> bool:
    """Whether a SystemExit comes from SIGTERM to a worker: its node or driver ends, not the trial.

    It may come anywhere, also while a plugin is imported, and is no fault of what it interrupts.
    """
    # so Ray marks its own; this module does not import Ray
    return isinstance(error, SystemExit) and hasattr(error, "ray_terminate_msg")
