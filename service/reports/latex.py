r"""A sweep's tables as LaTeX, ready for a paper: booktabs, footnotes naming the pathologies.

The file is a fragment for `\input`; its preamble needs `\usepackage{booktabs}`, and `longtable` for
tables of more than a page. Every text from outside is escaped.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sickbay.service.query.engine import query
from sickbay.service.query.sqltext import text
from sickbay.service.reports.tables import EffectSection
from sickbay.service.summary.formatting import level, number, printable, span
from sickbay.service.summary.provenance import provenance_line
from sickbay.service.summary.values import GROUPS, TRAP, ArmLine, TrialLine, Values
from sickbay.trials.store import Store

MOST_ROWS = 40  # of a table on one page
_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "`": r"\textasciigrave{}",
    "–": "--",
    "—": "---",
    "…": r"\ldots{}",
    "−": "$-$",
    "×": r"$\times$",
    "±": r"$\pm$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "∞": r"$\infty$",
    "°": r"$^\circ$",
    "κ": r"$\kappa$",
    "μ": r"$\mu$",
    "σ": r"$\sigma$",
}
_NUMBER = re.compile(r"(?<![\w.])([+-]?)(\d+(?:\.\d+)?)(?:e([+-])0*(\d+))?(?![\w.])")


def latex(values: Values, effects: EffectSection, provenance: str, sql: Mapping[str, str]) -> str:
    """Write the arms and the effects of a sweep; the SQL of each table stands above it."""
    marks = _marks(values)
    parts = [
        (
            f"% {provenance}\n% Needs \\usepackage{{booktabs}}, and longtable for long tables. For"
            " scripts other than Latin use XeLaTeX or LuaLaTeX."
        ),
        _comment(sql["arms"]),
        _table(
            ("arm", "healthy", "believe", "median", "least -- largest"),
            "lllrr",
            [_arm(arm, marks) for arm in values.arms],
            _caption(values, "the arms and their health"),
            [*_notes(values, marks), escape(provenance)],
        ),
    ]
    if effects.lines:
        parts += [
            _comment(effects.sql),
            _table(
                (
                    "factor (baseline)",
                    "level",
                    "healthy pairs",
                    "difference [95\\,\\%]",
                    "P(better)",
                    "healthy",
                ),
                "lllrrl",
                _effects(effects, marks),
                _caption(values, f"differences of {effects.signal} to the baseline"),
                [_LEGEND, *_notes(values, marks), escape(provenance)],
            ),
        ]
    elif effects.missing:
        parts.append("% " + " ".join(printable(effects.missing).split()))
    return "\n\n".join(parts) + "\n"


_LEGEND = (
    "Differences between pairs of healthy trials that share the seed and all other factors, with"
    " paired 95\\,\\% intervals over the seeds; P(better) over all pairs, pathological trials"
    " ranked last; health with Wilson's 95\\,\\% interval."
)


def escape(text: str) -> str:
    """Write a text so that LaTeX prints it as it is."""
    line = " ".join(printable(text).split())
    # A bracket at the beginning of a row would be an option of the line break before it.
    words = "".join(_SPECIAL.get(one, one) for one in line)
    return f"{{}}{words}" if words.startswith("[") else words


def maths(text: str) -> str:
    """Write the numbers of one of our own texts in mathematics: 1e-05 becomes a power of ten."""
    parts, end = [], 0
    for found in _NUMBER.finditer(text):
        sign, digits, way, power = found.groups()
        ten = "" if power is None else rf"\cdot10^{{{'-' if way == '-' else ''}{power}}}"
        parts += [escape_words(text[end : found.start()]), f"${sign}{digits}{ten}$"]
        end = found.end()
    return "".join([*parts, escape_words(text[end:])])


def escape_words(text: str) -> str:
    """Escape without touching the spaces at the ends."""
    return "".join(_SPECIAL.get(one, one) for one in text)


def _marks(values: Values) -> dict[str, str]:
    """Give every cause the letter of its footnote."""
    return {cause.name: chr(97 + k % 26) * (1 + k // 26) for k, cause in enumerate(values.causes)}


def _arm(arm: ArmLine, marks: Mapping[str, str]) -> tuple[str, ...]:
    letters = ",".join(marks[one.name] for one in arm.causes if one.name in marks)
    words = GROUPS[arm.group].split(":")[0].split(",")[0]
    believe = f"{words}, good objective" if arm.group == TRAP else words
    spread = "" if arm.lowest is None else f"{number(arm.lowest)} – {number(arm.highest)}"
    odd = f"NaN or ∞ in {arm.non_finite}" if arm.non_finite else ""
    return (
        escape(arm.arm),
        maths(f"{arm.healthy} of {arm.trials}") + _raised(letters),
        escape(believe),
        maths(number(arm.middle)),
        maths("; ".join(one for one in (spread, odd) if one)),
    )


def _effects(effects: EffectSection, marks: Mapping[str, str]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    before = None
    for one in effects.lines:
        letters = ",".join(marks[name] for name, _ in one.causes if name in marks)
        first = f"{escape(one.factor)} ({escape(one.baseline)})" if one.factor != before else ""
        rows.append(
            (
                first,
                escape(one.level),
                maths(one.pairs),
                f"{maths(one.difference)} ({one.verdict})",
                maths(one.better),
                maths(one.healthy) + _raised(letters),
            )
        )
        before = one.factor
    return rows


def _raised(letters: str) -> str:
    return rf"\textsuperscript{{{letters}}}" if letters else ""


def _notes(values: Values, marks: Mapping[str, str]) -> list[str]:
    notes = []
    for cause in values.causes:
        since = span(cause.first_onset, cause.last_onset)
        epochs = f", onset at epoch {maths(since)}" if since else ""
        count = f"{cause.trials} trial{'s' if cause.trials > 1 else ''}"
        notes.append(f"{_raised(marks[cause.name])}\\,{escape(cause.name)}: {maths(count)}{epochs}")
    return notes


def _caption(values: Values, what: str) -> str:
    objective = values.objective
    goal = f" Objective: {escape(objective.signal)}, {objective.goal}." if objective else ""
    return f"{escape(values.record.name)}: {escape(what)}.{goal}"


def long_table(
    head: Sequence[str], rows: Sequence[Sequence[str]], caption: str, columns: str = ""
) -> str:
    """Write a table that may run over pages; all cells are LaTeX already."""
    return "\n".join(
        [
            rf"\begin{{longtable}}{{{columns or 'l' * len(head)}}}",
            rf"\caption{{{caption}}} \\",
            r"\toprule",
            " & ".join(head) + r" \\",
            r"\midrule",
            r"\endhead",
            r"\bottomrule",
            r"\endfoot",
            *("  " + " & ".join(row) + r" \\" for row in rows),
            r"\end{longtable}",
        ]
    )


def _table(
    head: Sequence[str],
    columns: str,
    rows: Sequence[Sequence[str]],
    caption: str,
    notes: Iterable[str],
) -> str:
    below = "\n".join(rf"\par\footnotesize {note}" for note in notes)
    if len(rows) > MOST_ROWS:
        table = long_table(head, rows, caption, columns)
        return f"{table}\n\\begingroup\\raggedright\n{below}\n\\par\\endgroup"
    heading = " & ".join(head) + r" \\"
    body = "\n".join("  " + " & ".join(row) + r" \\" for row in rows)
    return (
        f"\\begin{{table}}[t]\n\\centering\n\\caption{{{caption}}}\n"
        f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{heading}\n\\midrule\n{body}\n\\bottomrule\n"
        f"\\end{{tabular}}\n\n\\begingroup\\raggedright\n{below}\n\\par\\endgroup\n\\end{{table}}"
    )


def _comment(sql: str) -> str:
    return "\n".join(f"% {printable(line)}" for line in sql.splitlines())


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
