"""How a report writes numbers and texts: pure, for HTML and Markdown alike."""

import json
import math
import re
from collections.abc import Sequence

SIGNS = {
    "healthy": "✓",
    "pathological": "✗",
    "inconclusive": "?",
    "failed": "!",
    "cancelled": "–",
    "pruned": "✂",
    "pending": "…",
}

# What neither a page nor UTF-8 can hold: control characters, lone surrogates, non-characters.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def number(value: float | None) -> str:
    """Write a number with four digits; NaN and infinity by their names, a dash for none."""
    if value is None:
        return "–"
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:.4g}"


def level(value: object) -> str:
    """Write a factor's level as the spec writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.6g}" if isinstance(value, float) else "–" if value is None else str(value)


def span(low: float | None, high: float | None) -> str:
    """Write a span of epochs: `3`, `3–6`, or nothing."""
    if low is None or high is None:
        return ""
    return f"{low:g}" if low == high else f"{low:g}–{high:g}"


def last_line(error: str | None) -> str:
    """Give the last line of a traceback that says anything: the error itself."""
    lines = [line.strip() for line in (error or "").splitlines() if line.strip()]
    return lines[-1] if lines else ""


def printable(text: str) -> str:
    """Replace what no page can hold by U+FFFD."""
    return _UNPRINTABLE.sub("\ufffd", text)


def most_common(values: Sequence[str]) -> tuple[str, ...]:
    """Give the distinct non-empty texts, the commonest first."""
    distinct = dict.fromkeys(value for value in values if value)
    return tuple(sorted(distinct, key=lambda one: -values.count(one)))


def as_float(value: object) -> float | None:
    """A number out of a record, where NaN and infinity are words; None for null."""
    return None if value is None else float(value)  # type: ignore[arg-type]


def cell(value: object) -> str:
    """Any value of a query as a table's cell."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return "" if value is None else str(value)


def shown(value: object) -> str:
    """A level as it would stand in a spec."""
    return value if isinstance(value, str) else json.dumps(value)
