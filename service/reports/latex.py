r"""A sweep's tables as LaTeX, ready for a paper: booktabs, footnotes naming the pathologies.

The file is a fragment for `\input`; its preamble needs `booktabs` and `array`, and `longtable` for
tables of more than a page. Every table is as wide as its column, on pages of one column and of two:
its columns are shares of the line, and long words break. Every text from outside is escaped.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sickbay.service.query.engine import query
from sickbay.service.query.sqltext import text
from sickbay.service.reports.tables import EffectSection
from sickbay.service.reports.trial_tables import arms_table, trials_table
from sickbay.service.summary.formatting import level, number, plural, printable, span
from sickbay.service.summary.provenance import provenance_line
from sickbay.service.summary.table import Table
from sickbay.service.summary.values import Values
from sickbay.trials.store import Store

MOST_LINES = 48  # of a table on one page
CHARACTERS = 54  # of this type in one column of a page with two
LONGEST_WORD = 7  # letters without a place to break
_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"$\mathdollar$",  # as text it is in the companion fonts, which small installations lack
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",  # the straight quotation mark is in no font of the default encoding
    "`": r"\`{}",
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


def latex(
    values: Values,
    effects: Sequence[EffectSection],
    fixes: Table,
    provenance: str,
    sql: Mapping[str, str],
) -> str:
    """Write the arms and the effects of a sweep; the SQL is in comments above each table."""
    letters = {
        cause.name: chr(97 + k % 26) * (1 + k // 26) for k, cause in enumerate(values.causes)
    }
    below = [*_notes(values, letters), escape(provenance)]
    arms = arms_table(values).pick(*ARM_COLUMNS)
    caption = _caption(values, "the arms and their health")
    parts = [
        (
            f"% {provenance}\n{_NEEDS} Tables are as wide as their column; on a page of two"
            " columns, table* takes both."
        ),
        _comment(sql["arms"]),
        latex_table(arms, caption, ARM_WIDTHS, below, letters),
    ]
    for section in effects:
        if section.table is not None and section.table.rows:
            table = section.table.pick(*EFFECT_COLUMNS)
            caption = _caption(values, f"differences of {section.signal} to the baseline")
            parts += [
                *map(_comment, table.sql.values()),
                latex_table(table, caption, EFFECT_WIDTHS, [_LEGEND, *below], letters),
            ]
        elif section.missing:
            parts.append("% " + " ".join(printable(section.missing).split()))
    if fixes.rows:
        caption = _caption(values, "the smallest changes that are healthy in this store")
        parts.append(latex_table(fixes, caption, FIX_WIDTHS))
    return "\n\n".join(parts) + "\n"


_LEGEND = (
    "Differences between pairs of healthy trials that share the seed and all other factors, with"
    " paired 95\\,\\% intervals over the seeds; healthy trials of the level and of its baseline;"
    " exact p-values of health. All p-values and verdicts: Holm's correction over the table."
)
_NEEDS = (
    "% Needs \\usepackage{booktabs} and \\usepackage{array}, and longtable for tables of more"
    " than a page. For scripts other than Latin use XeLaTeX or LuaLaTeX."
)
# Columns that stand below each other in one, and the shares of the line that each of these takes.
ARM_COLUMNS = (("arm", "believe"), "healthy", ("median", "range"), "NaN, ∞")
FIX_WIDTHS = (0.32, 0.19, 0.33, 0.16)
ARM_WIDTHS = (0.38, 0.17, 0.31, 0.14)
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
    widths: Sequence[float],
    notes: Iterable[str] = (),
    letters: Mapping[str, str] | None = None,
) -> str:
    """Write a table with booktabs; one of more than MOST_LINES lines runs over pages.

    `caption` and `notes` are LaTeX already; `letters` are those of the footnotes by pathology.
    `widths` are the columns' shares of the line and add up to one.
    """
    from pandas import DataFrame  # noqa: PLC0415 - half a second that other formats need not wait

    rows = [
        [
            _lines(cell, escape if column in table.words else maths)
            + _raised(table.marks.get((k, column), ()), letters or {})
            for column, cell in zip(table.columns, row, strict=True)
        ]
        for k, row in enumerate(table.rows)
    ]
    heads = [_lines(column, escape) for column in table.columns]
    long = sum(_height(row, widths) for row in (table.columns, *table.rows)) > MOST_LINES
    text = (
        DataFrame(rows, columns=heads)
        .style.hide(axis="index")
        .to_latex(
            hrules=True,
            column_format=_column_format(widths),
            caption=caption,
            environment="longtable" if long else None,
            position=None if long else "t",
            position_float=None if long else "centering",
        )
    )
    lines = "\n".join(rf"\par\footnotesize {note}" for note in notes)
    below = f"\\begingroup\\raggedright\n{lines}\n\\par\\endgroup\n" if lines else ""
    if long:
        return f"{_ONE_COLUMN}\n{{{_SMALL}\n{text.rstrip()}\n}}\n{below}\\backtotwocolumns"
    text = text.replace("\\begin{tabular}", f"{_SMALL}\n\\begin{{tabular}}", 1)
    return text.replace("\\end{table}", f"\n{below}\\end{{table}}").rstrip()


_SMALL = r"\footnotesize\setlength{\tabcolsep}{3pt}"
# A longtable is an error on a page of two columns.
_ONE_COLUMN = (
    r"\csname if@twocolumn\endcsname\onecolumn\def\backtotwocolumns{\twocolumn}"
    r"\else\let\backtotwocolumns\relax\fi"
)


def _column_format(widths: Sequence[float]) -> str:
    """Columns of shares of the line, the space between them included."""
    assert math.isclose(sum(widths), 1.0), widths
    # LaTeX hyphenates no first word of a paragraph; after a space of no width it does.
    start = r">{\raggedright\arraybackslash\hspace{0pt}}"
    column = start + r"p{\dimexpr %.2f\linewidth-2\tabcolsep\relax}"
    return "".join(column % share for share in widths)


def _height(row: Sequence[str], widths: Sequence[float]) -> int:
    """How many lines a row takes where the column is narrowest."""
    return max(
        sum(max(1, math.ceil(len(line) / (CHARACTERS * share))) for line in cell.split("\n"))
        for cell, share in zip(row, widths, strict=True)
    )


def _lines(cell: str, write: Callable[[str], str]) -> str:
    """Write a cell line by line; words break behind `_`, `=`, `/`, and long ones by a hyphen."""
    return r" \newline ".join(_breakable(write(_marked(line))) for line in cell.split("\n"))


_LONG = re.compile(rf"[A-Za-z0-9]{{{LONGEST_WORD}}}(?=[A-Za-z0-9]{{2}})")
_BREAK, _HYPHEN = "\ue000", "\ue001"  # private use: nothing else is made of them


def _marked(line: str) -> str:
    return re.sub(r"([_=/])", rf"\1{_BREAK}", _LONG.sub(rf"\g<0>{_HYPHEN}", line))


def _breakable(written: str) -> str:
    return written.replace(_BREAK, r"\allowbreak{}").replace(_HYPHEN, r"\-")


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
        count = plural(cause.trials, "trial")
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


_TRIALS = (("trial", "arm"), "seed", ("verdict", "cause"), ("onset", "epochs"), "objective")
_TRIAL_WIDTHS = (0.30, 0.11, 0.25, 0.16, 0.18)
_FINDINGS = (
    ("trial_id", "detector"),
    ("state", "onset_epoch"),
    ("statistic", "threshold"),
    "reason",
)
_FINDING_WIDTHS = (0.30, 0.17, 0.19, 0.34)


def latex_tables(
    store: Store, values: Values, effects: EffectSection, folder: Path
) -> tuple[Path, ...]:
    """Write `trials.tex`, `findings.tex` (fired and suspected) and `effects.tex`.

    Where there are no effects, the last is a comment that says why, so that including it is no
    error.
    """
    sweep = values.record.sweep_id
    result = query(
        store,
        "SELECT trial_id, detector, state, onset_epoch, statistic, threshold, reason\n"
        f"FROM findings WHERE sweep_id = {text(sweep)} AND state IN ('fired', 'suspect')\n"
        "ORDER BY ALL",
        sweep_ids=[sweep],
    )
    line = provenance_line(store, values)
    tables: dict[str, tuple[Table, Sequence[float]]] = {
        "trials": (trials_table(values.trials).pick(*_TRIALS), _TRIAL_WIDTHS),
        "findings": (_plain_table(result.columns, result.rows).pick(*_FINDINGS), _FINDING_WIDTHS),
    }
    if effects.table is not None and effects.table.rows:
        tables["effects"] = (effects.table.pick(*EFFECT_COLUMNS), EFFECT_WIDTHS)
    written = []
    for name, (table, widths) in tables.items():
        caption = f"{escape(values.record.name)}: {name}. {escape(line)}"
        comment = f"% {' '.join(line.split())}\n{_NEEDS}"
        written.append(folder / f"{name}.tex")
        content = f"{comment}\n{latex_table(table, caption, widths)}\n"
        written[-1].write_text(content, encoding="utf-8")
    if "effects" not in tables:
        written.append(folder / "effects.tex")
        written[-1].write_text(_comment(f"No effects: {effects.missing}") + "\n", encoding="utf-8")
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
