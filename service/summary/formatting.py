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

_MOST_LETTERS = 60  # of a level; of a longer one the middle is left out
# The numbers of `lr=0.05, init=zeros` that are not whole.
_ARM_NUMBER = re.compile(r"(?<==)-?\d+(?:\.\d+(?:e[+-]?\d+)?|e[+-]?\d+)(?=$|, )")

# What neither a page nor UTF-8 can hold: control characters, lone surrogates, non-characters.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def number(value: float | None) -> str:
    """Format a number to four digits; NaN and infinity by name, a dash for None."""
    if value is None:
        return "–"
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:.4g}"


def signed(value: float, digits: int = 4) -> str:
    """Format a difference with its sign."""
    if not math.isfinite(value):
        return number(value)
    return f"{'+' if value > 0 else ''}{value:.{digits}g}"


def estimate(
    mean: float, low: float, high: float, digits: int = 4, missing: str = "unknown"
) -> str:
    """Format a difference with its 95 % interval, or `missing` where there is none."""
    if math.isnan(mean):
        return "none"
    span = missing if math.isnan(low) else f"{signed(low, digits)}, {signed(high, digits)}"
    return f"{signed(mean, digits)} [{span}]"


def probability(value: float, low: float, high: float) -> str:
    """Format a probability with its interval."""
    return "none" if math.isnan(value) else f"{value:.2f} [{low:.2f}, {high:.2f}]"


def healthy_of(healthy: int, trials: int, low: float, high: float) -> str:
    """Format the number of healthy trials, with the interval of their share in percent."""
    share = f" [{100 * low:.0f}, {100 * high:.0f}] %" if trials else ""
    return f"{healthy} of {trials}{share}"


def p_value(value: float) -> str:
    """Format a p-value to two digits; empty where there is no test."""
    return "" if math.isnan(value) else "<0.0001" if value < 0.0001 else f"{value:.2g}"


def counted(counts: Mapping[str, int]) -> str:
    """Format counts by name: `no_skill 3, failed 1`."""
    return ", ".join(f"{name} {n}" for name, n in counts.items())


def with_sign(conclusion: str) -> str:
    """Prefix a verdict, or a conclusion that begins with one, with its sign."""
    sign = next(sign for verdict, sign in VERDICT_SIGNS.items() if conclusion.startswith(verdict))
    return f"{sign} {conclusion}"


def risk(value: float, low: float, high: float) -> str:
    """Format a difference of healthy shares with its interval, in percentage points."""
    if math.isnan(value):
        return "none"
    return f"{100 * value:+.0f} [{100 * low:+.0f}, {100 * high:+.0f}] points"


def recorded(value: object) -> str:
    """Format a number of a record, where NaN and infinity are strings; empty for null."""
    return "" if value is None else number(as_float(value))


def level(value: object) -> str:
    """Format a factor's level as in a spec."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6g}"
    return "–" if value is None else _clipped(str(value))


def short_arm(name: str) -> str:
    """Format an arm's name with its numbers to six digits: `lr=0.3` for 0.30000000000000004."""
    parts = map(_clipped, name.split(", "))
    return _ARM_NUMBER.sub(lambda hit: _short(hit[0]), ", ".join(parts))


def _clipped(text: str) -> str:
    """Leave out the middle of a long text."""
    half = _MOST_LETTERS // 2
    return text if len(text) <= _MOST_LETTERS else f"{text[:half]}…{text[1 - half :]}"


def _short(text: str) -> str:
    """Format a number to six digits, as it stands where it has no more."""
    short = f"{float(text):.6g}"
    return text if float(short) == float(text) else short


def span(low: float | None, high: float | None) -> str:
    """Format a range of epochs: `3`, `3–6`, or empty."""
    if low is None or high is None:
        return ""
    return f"{low:g}" if low == high else f"{low:g}–{high:g}"


def plural(n: int, thing: str) -> str:
    """Count things: `1 trial`, `2 trials`."""
    return f"{n} {thing}{'' if n == 1 else 's'}"


def printable(text: str) -> str:
    """Replace characters that are invalid in a page by U+FFFD."""
    return _UNPRINTABLE.sub("\ufffd", text)


def most_common(values: Sequence[str]) -> tuple[str, ...]:
    """Return the distinct non-empty texts, the most common first."""
    distinct = dict.fromkeys(value for value in values if value)
    return tuple(sorted(distinct, key=lambda value: -values.count(value)))


def as_float(value: object) -> float | None:
    """A number of a record, where NaN and infinity are strings; None for null."""
    return None if value is None else float(value)  # type: ignore[arg-type]


def cell(value: object) -> str:
    """Format any value of a query as a table cell."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return "" if value is None else str(value)


def shown(value: object) -> str:
    """Format a level in the syntax of a spec, numbers to six digits."""
    if isinstance(value, float) and math.isfinite(value):
        return _short(repr(value))
    return _clipped(value if isinstance(value, str) else json.dumps(value))
