"""The report's tables as Markdown: the summary, the causes and every trial, with their SQL."""

from collections.abc import Iterable, Mapping, Sequence

from sickbay.service.reports.tables import EffectSection
from sickbay.service.summary.formatting import SIGNS, last_line, level, number, span
from sickbay.service.summary.values import GROUPS, TRAP, ArmLine, TrialLine, Values

_SPECIAL = "\\`*_{}[]<>|#"


def markdown(
    values: Values, effects: EffectSection, sql: Mapping[str, str], provenance: str
) -> str:
    """Write a sweep as Markdown; every text from outside is escaped, every trial is in it."""
    record, objective = values.record, values.objective
    goal = f"{objective.signal}, {objective.goal}" if objective else "unknown"
    counts = ", ".join(f"{SIGNS.get(one, '')} {n} {one}" for one, n in values.verdicts.items())
    parts = [
        f"# {_text(record.name)}",
        (
            f"Sweep `{record.sweep_id}`, workload {_text(record.workload)}, design {record.design},"
            f" {values.state}; {len(values.trials)} trials ended, {record.trials_planned} planned;"
            f" objective {_text(goal)}."
        ),
        f"**{counts or 'no trial has ended yet'}**",
        "## What to believe",
        *_advice(values),
        _table(_ARM_HEAD, [_arm(arm) for arm in values.arms]),
        _sql(sql["arms"]),
        "## What each level does",
        *_effects(effects),
        "## Causes, and what to change",
        *(_cause(values, index) for index in range(len(values.causes))),
        _sql(sql["causes"]),
        "## Every trial",
        _table(_TRIAL_HEAD, [_trial(one) for one in values.trials]),
        _sql(sql["trials"]),
        _text(provenance),
    ]
    return "\n\n".join(parts) + "\n"


_ARM_HEAD = ("arm", "believe?", "healthy", "causes (onset epoch)", "median", "min – max", "NaN, ∞")
_EFFECT_HEAD = (
    "factor",
    "level",
    "baseline",
    "healthy pairs",
    "difference [95 %]",
    "P(better) [95 %]",
    "healthy [95 %]",
    "baseline healthy",
    "verdict",
)
_TRIAL_HEAD = ("trial", "arm", "seed", "verdict", "cause", "onset", "objective", "epochs", "why")


def _advice(values: Values) -> list[str]:
    lines = [
        f"- **{one.detector}** ({one.severity}): {_text(one.reason)} {_text(one.remedy)}"
        for one in values.advice
    ]
    return ["\n".join(["Over the whole sweep:", "", *lines])] if lines else []


def _arm(arm: ArmLine) -> tuple[str, ...]:
    causes = (
        f"{_text(one.name)} {one.trials} of {arm.trials} ({span(one.first_onset, one.last_onset)})"
        for one in arm.causes
    )
    return (
        _text(arm.arm),
        ("⚠ " if arm.group == TRAP else "") + GROUPS[arm.group],
        f"{arm.healthy} of {arm.trials}",
        "; ".join(causes),
        number(arm.middle),
        f"{number(arm.lowest)} – {number(arm.highest)}",
        str(arm.non_finite or ""),
    )


def _trial(one: TrialLine) -> tuple[str, ...]:
    return (
        f"`{one.trial_id}`",
        _text(one.arm),
        str(one.seed),
        f"{SIGNS.get(one.verdict, '')} {one.verdict}",
        _text(one.pathology or ""),
        level(one.onset_epoch),
        number(one.objective),
        f"{one.epochs_run} / {one.epochs_planned}",
        _text(last_line(one.error) or one.reason),
    )


def _cause(values: Values, index: int) -> str:
    cause = values.causes[index]
    change = "".join(f"\n- Change: {_text(remedy)}" for remedy in cause.remedies)
    return (
        f"### {_text(cause.name)}\n\n"
        f"- Primary cause in {cause.trials} trials of {cause.arms} arms,"
        f" onset at epoch {span(cause.first_onset, cause.last_onset)}\n"
        f"- For example `{cause.example.trial_id}`: {_text(cause.example.reason)}{change}"
    )


def _effects(effects: EffectSection) -> list[str]:
    """The table of effects, with the pathologies of each level in a footnote."""
    if not effects.lines:
        return [_text(effects.missing)]
    named = list(dict.fromkeys(name for one in effects.lines for name, _ in one.causes))
    mark = {name: f"[^{k}]" for k, name in enumerate(named, start=1)}
    rows = [
        (
            _text(one.factor),
            _text(one.level),
            _text(one.baseline),
            one.pairs,
            _text(one.difference),
            _text(one.better),
            _text(one.healthy) + "".join(f" {n}×{mark[name]}" for name, n in one.causes),
            _text(one.baseline_healthy),
            f"{one.sign} {one.verdict}",
        )
        for one in effects.lines
    ]
    return [
        (
            f"Differences of {_text(effects.signal)} ({effects.goal}), level - baseline, by pairs"
            " that share the seed and all other factors. Pathological trials come last in"
            " P(better)."
        ),
        _table(_EFFECT_HEAD, rows),
        *(f"{mark[name]}: {_text(name)}" for name in named),
        *(f"- {_text(line)}" for line in effects.notes),
        *(f"- {_text(factor)} {_text(why)}" for factor, why in effects.skipped),
        _sql(effects.sql),
    ]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _sql(sql: str) -> str:
    return f"```sql\n{sql.replace('```', '` ` `')}\n```"


def _text(value: str) -> str:
    """Write a text so that no Markdown and no HTML comes of it."""
    line = " ".join(value.split())
    return "".join(f"\\{one}" if one in _SPECIAL else one for one in line)
