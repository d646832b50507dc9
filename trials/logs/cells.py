"""One cell of a log as a number: the spellings of NaN, gaps, per cent, decimal commas, tensors."""

import math
import re
from collections.abc import Sequence
from typing import Any

GAPS = frozenset({"", "-", "--", "none", "null", "n/a", "na", "no log", "nil", "not logged"})
WORDS = {"true": 1.0, "false": 0.0}
NOT_A_NUMBER = re.compile(r"[-+]?(?:1\.#(?:qnan|snan|ind)\d*|nan(?:\(.*\))?)")
INFINITE = re.compile(r"([-+]?)(?:1\.#inf\d*|inf(?:inity)?)")
WRAPPED = re.compile(r"(?:[a-z_]+\.)*(?:tensor|array|float\d*)\(\s*\[?\s*([^,\])]+)[^)]*\)")
MEMORY = re.compile(r"([-+]?\d+(?:\.\d*)?)\s*([kmgt])(?:i?b)?")  # `2.1G`, `3815 MiB`
POWERS = {"k": 1, "m": 2, "g": 3, "t": 4}
THOUSANDS = re.compile(r"[-+]?\d{1,3}(?:,\d{3})+(?:\.\d*)?")


def is_gap(value: Any) -> bool:
    """Whether a cell says "not logged": `null`, an empty cell, `No log`."""
    return value is None or (isinstance(value, str) and value.strip().lower() in GAPS)


def number(value: Any) -> float | None:
    """Read a cell as a number; None for a gap or for text.

    `nan` and `inf` in all spellings are numbers, `12 %` is 12, `tensor(nan, device='cuda:0')` is
    NaN, `1,234.5` is 1234.5, `2.1G` is 2.1e9.
    """
    if isinstance(value, int | float):
        try:
            return float(value)
        except OverflowError:  # an integer of hundreds of digits
            return math.inf if value > 0 else -math.inf
    return _text_number(value) if isinstance(value, str) else None


def total(values: Sequence[float]) -> float:
    """The sum, rounded once; NaN and infinity propagate, an overflow is infinite."""
    try:
        return math.fsum(values)
    except (OverflowError, ValueError):  # too large, or infinities of both signs
        return sum(values)


def _text_number(value: str) -> float | None:
    try:
        return float(value)
    except ValueError:
        text = value.strip().lower().rstrip("%").rstrip()
    if text in WORDS:
        return WORDS[text]
    wrapped = WRAPPED.fullmatch(text)
    if wrapped:
        text = wrapped[1].strip()
    infinite = INFINITE.fullmatch(text)
    if infinite:
        return -math.inf if infinite[1] == "-" else math.inf
    if NOT_A_NUMBER.fullmatch(text):
        return math.nan
    if THOUSANDS.fullmatch(text):
        text = text.replace(",", "")
    memory = MEMORY.fullmatch(text)
    if memory:
        text = repr(float(memory[1]) * 1000.0 ** POWERS[memory[2]])
    try:
        return float(text)
    except ValueError:
        return None
