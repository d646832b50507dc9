"""A sweep's tables as LaTeX: every trial, what was found on them, every effect."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sickbay.service.query.engine import query
from sickbay.service.query.sqltext import text
from sickbay.service.reports.html import provenance_line
from sickbay.service.reports.latex import escape, long_table, maths
from sickbay.service.summary.formatting import level, number
from sickbay.service.summary.values import TrialLine, Values
from sickbay.trials.store import Store

_TRIAL = ("seed", "state", "label", "pathology", "onset_epoch", "objective", "best_objective")
_EFFECT = (
    "factor",
    "level",
    "baseline",
    "pairs",
    "sound_pairs",
    "difference",
    "difference_low",
    "difference_high",
    "p_holm",
    "improvement",
    "healthy",
    "trials",
    "verdict",
)


def latex_tables(
    store: Store, values: Values, effects: Sequence[Mapping[str, Any]], folder: Path
) -> tuple[Path, ...]:
    """Write `trials.tex`, `findings.tex` (fired and suspected) and `effects.tex` into a folder."""
    sweep = values.record.sweep_id
    found = query(
        store,
        "SELECT trial_id, detector, state, onset_epoch, statistic, threshold, reason\n"
        f"FROM findings WHERE sweep_id = {text(sweep)} AND state IN ('fired', 'suspect')\n"
        "ORDER BY ALL",
        sweep_ids=[sweep],
    )
    line = provenance_line(store, values)
    tables: dict[str, tuple[Sequence[str], Sequence[Sequence[Any]]]] = {
        "trials": (
            ("trial_id", *values.factors, *_TRIAL),
            [_trial(one) for one in values.trials],
        ),
        "findings": (found.columns, found.rows),
        "effects": (_EFFECT, [[row[name] for name in _EFFECT] for row in effects]),
    }
    written = []
    for name, (head, rows) in tables.items():
        caption = f"{escape(values.record.name)}: {name}. {escape(line)}"
        cells = [[_cell(one) for one in row] for row in rows]
        table = long_table([escape(one) for one in head], cells, caption)
        comment = f"% {' '.join(line.split())}\n% Needs \\usepackage{{booktabs,longtable}}."
        written.append(folder / f"{name}.tex")
        written[-1].write_text(f"{comment}\n{table}\n", encoding="utf-8")
    return tuple(written)


def _trial(one: TrialLine) -> tuple[Any, ...]:
    """Give a trial's cells in the order of its head; `key` begins with the arm's name."""
    return (one.trial_id, *one.key[1:], *(getattr(one, name) for name in _TRIAL))


def _cell(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return escape("" if value is None else level(value))
    return maths(number(value))
