"""How numbers, intervals, levels and verdicts are written, the same in every format."""

import json
import math
import re
from collections.abc import Mapping, Sequence

# A sign for each verdict on a trial, a level, an interaction or an arm: colour is never alone.
SIGNS = {
    "healthy": "✓",
    "pathological": "✗",
    "inconclusive": "?",
    "failed": "!",
    "cancelled": "–",
    "pruned": "✂",
    "pending": "…",
}
VERDICT_SIGNS = {
    "better": "✓",
    "worse": "✗",
    "equivalent": "≈",
    "no difference": "=",
    "broken": "✗",
    "unclear": "~",
    "unknown": "?",
    "interacts": "×",
    "identical": "=",
    "no drift seen": "~",
    "drifted": "!",
}
COLOURS = {  # of the signs in a terminal
    "✓": "green",
    "✗": "red",
    "~": "dim",
    "?": "yellow",
    "×": "magenta",
    "≈": "green",
    "=": "green",
    "!": "red",
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


def signed(value: float, digits: int = 4) -> str:
    """Write a difference with its sign, to so many digits."""
    if not math.isfinite(value):
        return number(value)
    return f"{'+' if value > 0 else ''}{value:.{digits}g}"


def estimate(
    mean: float, low: float, high: float, digits: int = 4, missing: str = "unknown"
) -> str:
    """Write a difference with its 95 % interval; `missing` stands where there is no interval."""
    if math.isnan(mean):
        return "none"
    span = missing if math.isnan(low) else f"{signed(low, digits)}, {signed(high, digits)}"
    return f"{signed(mean, digits)} [{span}]"


def probability(value: float, low: float, high: float) -> str:
    """Write a probability with its interval."""
    return "none" if math.isnan(value) else f"{value:.2f} [{low:.2f}, {high:.2f}]"


def healthy_of(healthy: int, trials: int, low: float, high: float) -> str:
    """Write how many trials are healthy, with the interval of their share in percent."""
    share = f" [{100 * low:.0f}, {100 * high:.0f}] %" if trials else ""
    return f"{healthy} of {trials}{share}"


def p_value(value: float) -> str:
    """Write a p-value to two digits; nothing where there is no test."""
    return "" if math.isnan(value) else "<0.0001" if value < 0.0001 else f"{value:.2g}"


def counted(counts: Mapping[str, int]) -> str:
    """Write counts by their names: `no_skill 3, failed 1`."""
    return ", ".join(f"{name} {n}" for name, n in counts.items())


def with_sign(conclusion: str) -> str:
    """Write a verdict, or a conclusion that begins with one, behind its sign."""
    sign = next(sign for verdict, sign in VERDICT_SIGNS.items() if conclusion.startswith(verdict))
    return f"{sign} {conclusion}"


def risk(value: float, low: float, high: float) -> str:
    """Write a difference of healthy shares with its interval, in percentage points."""
    if math.isnan(value):
        return "none"
    return f"{100 * value:+.0f} [{100 * low:+.0f}, {100 * high:+.0f}] points"


def recorded(value: object) -> str:
    """Write a number of a record, where NaN and infinity are words; nothing for null."""
    return "" if value is None else number(as_float(value))


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
    return tuple(sorted(distinct, key=lambda value: -values.count(value)))


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
