"""The report's tables as Markdown: the summary, the causes and every trial, with their SQL."""

from collections.abc import Mapping, Sequence

from sickbay.service.reports.tables import EffectSection
from sickbay.service.reports.trial_tables import arms_table, causes_table, trials_table
from sickbay.service.summary.formatting import SIGNS, plural, span
from sickbay.service.summary.table import Table
from sickbay.service.summary.values import Values

_ARM_COLUMNS = ("arm", "group", "healthy", "causes (onset epoch)", "median", "range", "NaN, ∞")
_TRIAL_COLUMNS = (
    *("trial", "arm", "seed", "verdict", "cause", "onset", "standing", "objective", "why"),
)
_SPECIAL = "\\`*_{}[]<>|#"


def markdown(
    values: Values,
    best: tuple[Sequence[tuple[str, str]], Table | None],
    effects: Sequence[EffectSection],
    fixes: Table,
    sql: Mapping[str, str],
    provenance: str,
) -> str:
    """Write a sweep as Markdown; every text from outside is escaped, every trial is in it.

    `best` are the headlines, and the Pareto front of a sweep with several objectives.
    """
    record, objective = values.record, values.objective
    goal = f"{objective.signal}, {objective.goal}" if objective else "unknown"
    arms = arms_table(values)
    counts = ", ".join(
        f"{SIGNS.get(verdict, '')} {n} {verdict}" for verdict, n in values.verdicts.items()
    )
    parts = [
        f"# {_text(record.name)}",
        (
            f"Sweep `{record.sweep_id}`, workload {_text(record.workload)}, design {record.design},"
            f" {values.state}; {len(values.trials)} trials ended, {record.trials_planned} planned;"
            f" objective {_text(goal)}."
        ),
        f"**{counts or 'no trial has ended yet'}**",
        *_best(*best),
        "## What to believe",
        *_advice(values),
        _table(arms.pick(*_ARM_COLUMNS)),
        _sql(sql["arms"]),
        "## What each level does",
        *_effects(effects[0]),
        *(part for more in effects[1:] for part in ("### Comparisons asked for", *_effects(more))),
        "## Causes, and what to change",
        *([_table(causes)] if (causes := causes_table(values)).rows else []),
        _sql(sql["causes"]),
        *(_cause(values, index) for index in range(len(values.causes))),
        *_fixes(fixes),
        "## Every trial",
        _table(trials_table(values.trials).pick(*_TRIAL_COLUMNS)),
        _sql(sql["trials"]),
        _text(provenance),
    ]
    return "\n\n".join(parts) + "\n"


def _best(headlines: Sequence[tuple[str, str]], pareto: Table | None) -> list[str]:
    parts = ["\n".join(map(_headline, headlines))] if headlines else []
    if pareto is not None:
        notes = "\n".join(f"- {_text(note)}" for note in (*pareto.notes, pareto.legend))
        parts += ["## Pareto front", _table(pareto), notes, *map(_sql, pareto.sql.values())]
    return parts


def _headline(named: tuple[str, str]) -> str:
    name, text = named
    first, *more = text.splitlines()
    return "\n".join([f"- {name}: {_text(first)}", *(f"  - {_text(line)}" for line in more)])


def _advice(values: Values) -> list[str]:
    lines = [
        f"- **{finding.detector}** ({finding.severity}): {_text(finding.reason)} "
        f"{_text(finding.remedy)}"
        for finding in values.advice
    ]
    return ["\n".join(["Over the whole sweep:", "", *lines])] if lines else []


def _cause(values: Values, index: int) -> str:
    cause = values.causes[index]
    change = "".join(f"\n- Change: {_text(remedy)}" for remedy in cause.remedies)
    since = span(cause.first_onset, cause.last_onset)
    onset = f", onset at epoch {since}" if since else ""
    return (
        f"### {_text(cause.name)}\n\n"
        f"- Primary cause in {plural(cause.trials, 'trial')} of {plural(cause.arms, 'arm')}"
        f"{onset}\n"
        f"- For example `{cause.example.trial_id}`: {_text(cause.example.reason)}{change}"
    )


def _fixes(fixes: Table) -> list[str]:
    if not fixes.rows:
        return [_text(note) for note in fixes.notes]
    head = "### The smallest changes that are healthy in this store"
    return [head, _table(fixes), *(f"- {_text(note)}" for note in fixes.notes)]


def _effects(effects: EffectSection) -> list[str]:
    """The table of effects, with the pathologies of each level in a footnote."""
    if effects.table is None or effects.missing:
        return [_text(effects.missing)]
    table = effects.table.pick(
        "factor",
        "level",
        "baseline",
        "healthy pairs",
        "difference [95 %]",
        "P(better) [95 %]",
        "healthy [95 %]",
        "baseline healthy [95 %]",
        ("p", "Holm"),
        ("p of healthy", "Holm of healthy"),
        "verdict",
    )
    return [
        (
            f"Differences of {_text(effects.signal)} ({effects.goal}), level - baseline, by pairs"
            " that share the seed and all other factors. Pathological trials rank last in"
            " P(better)."
        ),
        _table(table, footnotes=True),
        *(f"- {_text(line)}" for line in table.notes),
        *map(_sql, table.sql.values()),
    ]


def _table(table: Table, *, footnotes: bool = False) -> str:
    named = table.named_marks() if footnotes else ()
    mark = {name: f"[^{k}]" for k, name in enumerate(named, start=1)}
    lines = [table.columns, ["---"] * len(table.columns)]
    for k, row in enumerate(table.rows):
        cells = zip(table.columns, row, strict=True)
        lines.append(
            [
                _text(cell) + "".join(mark.get(n, "") for n in table.marks.get((k, column), ()))
                for column, cell in cells
            ]
        )
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return "\n\n".join([text, *(f"{mark[name]}: {_text(name)}" for name in named)])


def _sql(sql: str) -> str:
    return f"```sql\n{sql.replace('```', '` ` `')}\n```"


def _text(value: str) -> str:
    """Escape text so that it is neither Markdown nor HTML."""
    line = " ".join(value.split())
    return "".join(f"\\{character}" if character in _SPECIAL else character for character in line)
