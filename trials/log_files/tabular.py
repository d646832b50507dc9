"""Tables as text: CSV with any delimiter, Markdown, columns separated by blanks.

Lightning's and Keras' CSVLogger, pandas, YOLO's results.csv, a W&B chart's export, fastai's and
the Trainer's printed tables, `| Epoch | Training Loss |`
"""

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from sickbay.trials.logs.cells import is_gap, number
from sickbay.trials.logs.log import LogError, RawLog
from sickbay.trials.logs.signal_names import is_epoch, is_measure, is_step

WANDB_BOUNDS = ("__MIN", "__MAX")
DELIMITERS = ",;\t"
LOOK_AHEAD = 5  # rows after a header in which a number must stand
PREAMBLE = 200  # lines before a table that are skipped
DECIMAL_COMMA = re.compile(r"[-+]?\d*,\d+(?:[eE][-+]?\d+)?")
DRAWN = re.compile("[\u2500-\u257f]")  # the frames of tables in a terminal
UPRIGHT = "│┃║┆┊"
TEXT = "a table of text"
NO_NAME = re.compile(r"[-=_*~+]{2,}|\{.*|sep=.?")  # a rule, JSON, Excel's line before a table
RULE = re.compile(r"[|\s:+=-]*-{2,}[|\s:+=-]*")

Cells = Callable[[str], list[str]]


def read_table(path: Path, lines: Sequence[str], run: str | None = None) -> list[RawLog] | None:
    """Read a table, one log a run; None if the lines hold no table.

    A table is a line of names and below it lines of as many cells with numbers in them. Raises
    LogError for two columns of one name, and for a `run` that a W&B export does not hold.
    """
    lines = [DRAWN.sub(_plain_bar, line) for line in lines]
    lines = [line for line in lines if line.strip() and not RULE.fullmatch(line.strip())]
    for start in range(min(len(lines), PREAMBLE)):
        for kind, cells in _ways(lines[start]):
            head = [name.strip().lstrip("#").strip() for name in cells(lines[start])]
            below = [cells(line) for line in lines[start + 1 : start + 1 + LOOK_AHEAD]]
            head = _aligned(head, below)
            sure = kind == "CSV" and start == 0
            if not _is_head(head) or not _holds_numbers(head, below, named=not sure):
                continue
            rows = [cells(line) for line in lines[start + 1 :]]
            if kind == TEXT:  # prints between the rows, and what follows the table
                rows = [row for row in rows if _is_row(head, row)]
            if rows:  # else a sentence was taken for a header
                return _logs(path, kind, head, rows, run)
        if start == 0 and _is_plain_csv(lines[0]):
            return [RawLog("CSV", ())]
    return _without_names(lines)


def _without_names(lines: Sequence[str]) -> list[RawLog] | None:
    """A table of numbers alone, with its columns numbered; None for anything else."""
    _, cells = next(_ways(lines[0])) if lines else ("", str.split)
    rows = [cells(line) for line in lines]
    width = len(rows[0]) if len(rows) > 1 else 0
    if width < 2 or not all(len(row) == width and all(map(_is_number, row)) for row in rows):
        return None
    names = [f"column_{place}" for place in range(1, width + 1)]
    return [RawLog("a table without a header", tuple(_row(names, row) for row in rows))]


def _plain_bar(drawn: re.Match[str]) -> str:
    return "|" if drawn[0] in UPRIGHT else "-"


def _ways(line: str) -> Iterator[tuple[str, Cells]]:
    """The ways to split a header into cells, the most likely first."""
    if line.count("|") > 1:
        yield "a Markdown table", _between_bars
    for delimiter in sorted(DELIMITERS, key=line.count, reverse=True):
        if delimiter in line:
            yield "CSV", _between(delimiter)
    if re.search(r"\S(?: {2,}|\t+)\S", line.strip()):
        yield TEXT, lambda text: re.split(r" {2,}|\t+", text.strip())
    yield TEXT, str.split


def _between(delimiter: str) -> Cells:
    return lambda text: next(csv.reader([text], delimiter=delimiter), [])


def _between_bars(text: str) -> list[str]:
    return [cell.strip() for cell in text.strip().strip("|").split("|")]


def _aligned(head: list[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The names above their cells: without a leading `#`, with none above a data frame's index."""
    widths = {len(row) for row in rows}
    if not head[0] and widths == {len(head) - 1}:
        return head[1:]
    if widths != {len(head) + 1} or not any(row[-1].strip() for row in rows):
        return head
    index = [number(row[0]) for row in rows]
    counts = index in ([*range(len(rows))], [*range(1, len(rows) + 1)])
    return ["", *head] if counts else head


def _is_head(head: Sequence[str]) -> bool:
    """Whether cells are a header: names, at least one of them known, or all of them words."""
    if not any(head) or any(number(name) is not None or NO_NAME.fullmatch(name) for name in head):
        return False
    if len(head) == 1:
        return head[0].isidentifier() or is_measure(head[0])
    return len(head[0]) < 100 and not any(name.endswith((".", "!")) for name in head)


def _holds_numbers(head: Sequence[str], rows: Sequence[Sequence[str]], *, named: bool) -> bool:
    """Whether the rows have the header's width and hold numbers.

    With `named` there must be numbers under a name that means something: prose is no table.
    """
    fitting = [row for row in rows if len(row) >= len(head)]
    if not fitting or (not named and len(fitting) < len(rows) / 2):
        return False
    columns = [i for i, name in enumerate(head) if not named or is_measure(name)]
    return any(_is_number(row[i]) for row in fitting for i in columns)


def _is_row(head: Sequence[str], row: Sequence[str]) -> bool:
    """Whether a line below a header of text is a row of it: counters and measures are numbers."""
    if len(row) < len(head):
        return False
    counters = [re.sub(r"/\d+$", "", row[i]) for i, name in enumerate(head) if _counts(name)]
    measures = [row[i] for i, name in enumerate(head) if is_measure(name)]
    known = [*counters, *(cell for cell in measures if not is_gap(cell))]
    return bool(known) and all(map(_is_number, known))


def _counts(name: str) -> bool:
    return is_epoch(name) or is_step(name)


def _is_number(cell: str) -> bool:
    return number(cell) is not None or DECIMAL_COMMA.fullmatch(cell.strip()) is not None


def _is_plain_csv(line: str) -> bool:
    head = [name.strip() for name in line.split(",")]
    return len(head) > 1 and all(name.replace("/", "_").isidentifier() for name in head)


def _logs(
    path: Path, kind: str, head: list[str], rows: list[list[str]], run: str | None
) -> list[RawLog]:
    twice = sorted(name for name, times in Counter(head).items() if name and times > 1)
    if twice:
        raise LogError(f"{path}: two columns are called {twice[0]!r}; rename one of them")
    rows = [row for row in rows if row[: len(head)] != head]  # a header that is printed again
    rows, remarks = _decimal_points(rows)
    runs = _wandb_runs(head)
    if run is not None and runs and run not in runs:
        raise LogError(f"{path} holds no run {run!r}; it has {', '.join(runs)}")
    if not runs:
        return [RawLog(kind, tuple(_row(head, row) for row in rows), remarks)]
    return [
        RawLog(
            "a W&B chart's CSV",
            tuple(_row(_columns_of(head, name), row) for row in rows),
            remarks,
            run=name if len(runs) > 1 else None,
        )
        for name in runs
    ]


def _row(head: Sequence[str], row: Sequence[str]) -> dict[str, str]:
    """One record; an unnamed column is a data frame's index and is ignored."""
    return {name: cell.strip() for name, cell in zip(head, row, strict=False) if name}


def _decimal_points(rows: list[list[str]]) -> tuple[list[list[str]], tuple[str, ...]]:
    cells = [cell.strip() for row in rows for cell in row]
    commas = any(DECIMAL_COMMA.fullmatch(cell) for cell in cells)
    points = any(re.fullmatch(r"[-+]?\d*\.\d+(?:[eE][-+]?\d+)?", cell) for cell in cells)
    if not commas or points:
        return rows, ()
    made = [
        [c.strip().replace(",", ".") if DECIMAL_COMMA.fullmatch(c.strip()) else c for c in row]
        for row in rows
    ]
    return made, ("commas were read as decimal points",)


def _wandb_runs(head: Sequence[str]) -> list[str]:
    """A chart's export calls its columns `run - metric`, and adds `__MIN` and `__MAX` to each."""
    parts = [name.rpartition(" - ") for name in head]
    runs = {left for left, _, right in parts if left and not right.endswith(WANDB_BOUNDS)}
    counters = [name for name in head if _counts(name) or is_gap(name)]
    others = [left for (left, _, _), name in zip(parts, head, strict=True) if name not in counters]
    return sorted(runs) if all(others) else []


def _columns_of(head: Sequence[str], run: str) -> list[str]:
    parts = [name.rpartition(" - ") for name in head]
    return [
        right if left == run and not right.endswith(WANDB_BOUNDS) else name if not left else ""
        for name, (left, _, right) in zip(head, parts, strict=True)
    ]
