r"""A sweep's tables as LaTeX, ready for a paper: booktabs, footnotes naming the pathologies.

The file is a fragment for `\input`; its preamble needs `\usepackage{booktabs}`, and `longtable` for
tables of more than a page. Every text from outside is escaped.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sickbay.service.query.engine import query
from sickbay.service.query.sqltext import text
from sickbay.service.reports.tables import EffectSection
from sickbay.service.reports.trial_tables import arms_table, trials_table
from sickbay.service.summary.formatting import level, number, printable, span
from sickbay.service.summary.provenance import provenance_line
from sickbay.service.summary.table import Table
from sickbay.service.summary.values import Values
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
    "✓": "$+$",  # signs of verdicts, which Computer Modern does not have
    "✗": "$-$",
    "≈": r"$\approx$",
    "→": r"$\to$",
    "⚠": "!",
    "✂": "",
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
    """Write the arms and the effects of a sweep; the SQL is in comments above each table."""
    letters = {
        cause.name: chr(97 + k % 26) * (1 + k // 26) for k, cause in enumerate(values.causes)
    }
    below = [*_notes(values, letters), escape(provenance)]
    arms = arms_table(values).pick("arm", "healthy", "believe", "median", "range", "NaN, ∞")
    caption = _caption(values, "the arms and their health")
    parts = [
        (
            f"% {provenance}\n% Needs \\usepackage{{booktabs}} and \\usepackage{{array}}, and"
            " longtable for long tables. For scripts other than Latin use XeLaTeX or LuaLaTeX. The"
            " table of effects is as wide as its column; in two columns, table* takes both."
        ),
        _comment(sql["arms"]),
        latex_table(arms, caption, below, letters),
    ]
    if effects.table is not None and effects.table.rows:
        table = effects.table.pick(*EFFECT_COLUMNS)
        caption = _caption(values, f"differences of {effects.signal} to the baseline")
        parts += [
            *map(_comment, table.sql.values()),
            latex_table(table, caption, [_LEGEND, *below], letters, EFFECT_WIDTHS),
        ]
    elif effects.missing:
        parts.append("% " + " ".join(printable(effects.missing).split()))
    return "\n\n".join(parts) + "\n"


_LEGEND = (
    "Differences between pairs of healthy trials that share the seed and all other factors, with"
    " paired 95\\,\\% intervals over the seeds; healthy trials of the level and of its baseline;"
    " exact p-values of health. All p-values and verdicts: Holm's correction over the table."
)
# Factor and level, numbers, verdict; and their shares of the page's (or column's) width.
EFFECT_COLUMNS = (
    ("factor", "level", "baseline"),
    ("difference [95 %]", "p, Holm"),
    ("healthy, level and baseline", "p, Holm of healthy"),
    "verdict",
)
EFFECT_WIDTHS = (0.20, 0.29, 0.24, 0.27)


def latex_table(
    table: Table,
    caption: str,
    notes: Iterable[str] = (),
    letters: Mapping[str, str] | None = None,
    widths: Sequence[float] = (),
) -> str:
    """Write a table with booktabs; one of more than MOST_ROWS runs over pages.

    `caption` and `notes` are LaTeX already; `letters` are those of the footnotes by pathology. With
    `widths`, shares of the line that add up to one, cells are broken into lines so that the table
    is never wider than the line, in one column or two.
    """
    from pandas import DataFrame  # noqa: PLC0415 - half a second that other formats need not wait

    rows = [
        [
            _lines(cell, escape if column in table.words else maths, broken=bool(widths))
            + _raised(table.marks.get((k, column), ()), letters or {})
            for column, cell in zip(table.columns, row, strict=True)
        ]
        for k, row in enumerate(table.rows)
    ]
    heads = [_lines(column, escape, broken=bool(widths)) for column in table.columns]
    frame = DataFrame(rows, columns=heads)
    long = len(rows) > MOST_ROWS
    text = frame.style.hide(axis="index").to_latex(
        hrules=True,
        column_format=_column_format(table, widths),
        caption=caption,
        environment="longtable" if long else None,
        position=None if long else "t",
        position_float=None if long else "centering",
    )
    lines = "\n".join(rf"\par\footnotesize {note}" for note in notes)
    below = f"\\begingroup\\raggedright\n{lines}\n\\par\\endgroup\n" if lines else ""
    if widths:
        text = text.replace("\\begin{tabular}", "\\footnotesize\n\\begin{tabular}", 1)
    if long:
        return f"{text.rstrip()}\n{below}".rstrip()
    return text.replace("\\end{table}", f"\n{below}\\end{{table}}").rstrip()


def _column_format(table: Table, widths: Sequence[float]) -> str:
    """Column specification: natural widths, or shares of the line width."""
    if not widths:
        return "".join("l" if column in table.words else "r" for column in table.columns)
    column = r">{\raggedright\arraybackslash}p{\dimexpr %.2f\linewidth-2\tabcolsep\relax}"
    return "@{}" + "".join(column % share for share in widths) + "@{}"


def _lines(cell: str, write: Callable[[str], str], *, broken: bool) -> str:
    """Write a cell; in a paragraph column, lines are kept and words may break at underscores."""
    if not broken:
        return write(cell)
    lines = [write(line).replace(r"\_", r"\_\allowbreak{}") for line in cell.split("\n")]
    return r" \newline ".join(lines)


def escape(text: str) -> str:
    """Escape text for LaTeX."""
    line = " ".join(printable(text).split())
    # A bracket at the beginning of a row would be an option of the line break before it.
    escaped = "".join(_SPECIAL.get(character, character) for character in line)
    return f"{{}}{escaped}" if escaped.startswith("[") else escaped


def maths(text: str) -> str:
    """Typeset the numbers in text of our own: 1e-05 becomes a power of ten."""
    parts, end = [], 0
    for match in _NUMBER.finditer(text):
        sign, digits, way, power = match.groups()
        ten = "" if power is None else rf"\cdot10^{{{'-' if way == '-' else ''}{power}}}"
        parts += [escape_words(text[end : match.start()]), f"${sign}{digits}{ten}$"]
        end = match.end()
    return "".join([*parts, escape_words(text[end:])])


def escape_words(text: str) -> str:
    """Escape text, keeping the spaces at its ends."""
    return "".join(_SPECIAL.get(character, character) for character in text)


def _raised(names: Iterable[str], letters: Mapping[str, str]) -> str:
    known = ",".join(letters[name] for name in names if name in letters)
    return rf"\textsuperscript{{{known}}}" if known else ""


def _notes(values: Values, marks: Mapping[str, str]) -> list[str]:
    notes = []
    for cause in values.causes:
        since = span(cause.first_onset, cause.last_onset)
        epochs = f", onset at epoch {maths(since)}" if since else ""
        count = f"{cause.trials} trial{'s' if cause.trials > 1 else ''}"
        notes.append(
            f"{_raised([cause.name], marks)}\\,{escape(cause.name)}: {maths(count)}{epochs}"
        )
    return notes


def _caption(values: Values, what: str) -> str:
    objective = values.objective
    goal = f" Objective: {escape(objective.signal)}, {objective.goal}." if objective else ""
    return f"{escape(values.record.name)}: {escape(what)}.{goal}"


def _comment(sql: str) -> str:
    return "\n".join(f"% {printable(line)}" for line in sql.splitlines())


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
    result = query(
        store,
        "SELECT trial_id, detector, state, onset_epoch, statistic, threshold, reason\n"
        f"FROM findings WHERE sweep_id = {text(sweep)} AND state IN ('fired', 'suspect')\n"
        "ORDER BY ALL",
        sweep_ids=[sweep],
    )
    line = provenance_line(store, values)
    tables = {
        "trials": trials_table(values.trials).pick(
            "trial", "arm", "seed", "verdict", "cause", "onset", "objective", "epochs"
        ),
        "findings": _plain_table(result.columns, result.rows),
        "effects": _plain_table(_EFFECT, [[row[name] for name in _EFFECT] for row in effects]),
    }
    written = []
    for name, table in tables.items():
        caption = f"{escape(values.record.name)}: {name}. {escape(line)}"
        comment = f"% {' '.join(line.split())}\n% Needs \\usepackage{{booktabs,longtable}}."
        written.append(folder / f"{name}.tex")
        written[-1].write_text(f"{comment}\n{latex_table(table, caption)}\n", encoding="utf-8")
    return tuple(written)


def _plain_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    """Lay out values; columns of numbers only are aligned as numbers."""
    text_columns = {
        column
        for k, column in enumerate(columns)
        if any(isinstance(row[k], str | bool) for row in rows)
    }
    cells = tuple(
        tuple(
            level(cell) if column in text_columns else number(cell)
            for column, cell in zip(columns, row, strict=True)
        )
        for row in rows
    )
    return Table(tuple(columns), cells, frozenset(text_columns))
