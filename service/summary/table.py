"""A table as one value, which a terminal, a page, Markdown and LaTeX each render."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sickbay.service.analysis.effects import LevelEffect, Side
from sickbay.service.summary.formatting import level


@dataclass(frozen=True)
class Table:
    """A table: named columns, and rows of text cells; line breaks in a cell are kept.

    `words` are the columns of text. `marks` gives pathologies to a cell by (row, column), for
    footnotes. `groups` has each row's heading, `keys` an id for each row; both may be empty.
    `notes` say what the numbers leave out, `legend` how to read them; `sql` recomputes them, by
    name.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: frozenset[str] = frozenset()
    marks: Mapping[tuple[int, str], tuple[str, ...]] = field(default_factory=dict)
    groups: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    legend: str = ""
    sql: Mapping[str, str] = field(default_factory=dict)

    def pick(self, *groups: str | tuple[str, ...]) -> "Table":
        """Choose columns; a tuple becomes one column with the cells stacked."""
        chosen = [(group,) if isinstance(group, str) else group for group in groups]
        places = [[self.columns.index(name) for name in group] for group in chosen]
        heads = tuple("\n".join(group) for group in chosen)
        return replace(
            self,
            columns=heads,
            rows=tuple(
                tuple("\n".join(filter(None, (row[k] for k in group))) for group in places)
                for row in self.rows
            ),
            words=frozenset(
                h for h, group in zip(heads, chosen, strict=True) if group[0] in self.words
            ),
            marks={
                (row, head): self.marks[row, name]
                for head, group in zip(heads, chosen, strict=True)
                for name in group
                for row in range(len(self.rows))
                if (row, name) in self.marks
            },
        )

    def as_data(self) -> dict[str, Any]:
        """The table as plain data, for a page that renders it."""
        return {
            "columns": [
                {"name": column, "number": column not in self.words} for column in self.columns
            ],
            "rows": [list(row) for row in self.rows],
            "groups": list(self.groups),
            "notes": list(self.notes),
            "legend": self.legend,
            "sql": dict(self.sql),
        }

    def named_marks(self) -> tuple[str, ...]:
        """The pathologies that mark any cell, in the order of the table."""
        return tuple(dict.fromkeys(name for names in self.marks.values() for name in names))


def flat_row(effect: LevelEffect) -> dict[str, Any]:
    """One level as a flat row of a table; counts by cause are JSON."""
    same = ("factor", "pairs", "sound_pairs", "seeds", "contexts", "ranked_pairs", "unpaired")
    return {
        **{name: getattr(effect, name) for name in (*same, "ambiguous", "p_holm")},
        "level": level(effect.level),
        "baseline": level(effect.baseline),
        "verdict": effect.verdict.value,
        "health_difference": effect.health.value,
        "health_difference_low": effect.health.low,
        "health_difference_high": effect.health.high,
        "health_p_value": effect.health.p_value,
        "health_p_holm": effect.health_p_holm,
        "health_verdict": effect.health_verdict.value,
        "conclusion": effect.conclusion,
        "difference": effect.difference.mean,
        "difference_low": effect.difference.low,
        "difference_high": effect.difference.high,
        "p_value": effect.difference.p_value,
        "iqm": effect.iqm.mean,
        "iqm_low": effect.iqm.low,
        "iqm_high": effect.iqm.high,
        "improvement": effect.improvement.value,
        "improvement_low": effect.improvement.low,
        "improvement_high": effect.improvement.high,
        "improvement_p_value": effect.improvement.p_value,
        "improvement_p_holm": effect.improvement_p_holm,
        **_flat_side("", effect.of_level),
        **_flat_side("baseline_", effect.of_baseline),
        "left_out": json.dumps(dict(effect.left_out)),
    }


def _flat_side(prefix: str, side: Side) -> dict[str, Any]:
    return {
        f"{prefix}healthy": side.healthy,
        f"{prefix}trials": side.trials,
        f"{prefix}healthy_low": side.low,
        f"{prefix}healthy_high": side.high,
        f"{prefix}causes": json.dumps(dict(side.causes)),
    }
