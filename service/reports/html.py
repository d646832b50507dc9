"""A sweep as one self-contained HTML file, or as Markdown: what to believe, and what to change.

    Path("report.html").write_text(render_report(store, sweep_id))

The page works offline and without scripts (one small script sorts and filters). It is a function of
the store alone: the same store gives the same bytes.
"""

import base64
import hashlib
import json
import re
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import jinja2
import yaml
from markupsafe import Markup, escape

from sickbay.service.analysis.study import (
    DEFAULT_OPTIONS,
    EffectOptions,
    SweepEffects,
    load_effects,
    sweep_effects,
)
from sickbay.service.charts.drawing import DASHES
from sickbay.service.query.engine import query
from sickbay.service.reports.best import headlines, objectives_front, pareto_table
from sickbay.service.reports.latex import latex
from sickbay.service.reports.markdown import markdown
from sickbay.service.reports.pictures import pictures
from sickbay.service.reports.tables import (
    EffectSection,
    effect_section,
    fixes_table,
    study_section,
    sweep_study,
)
from sickbay.service.reports.timeline import time_line
from sickbay.service.reports.trial_tables import (
    UNDER_HEADINGS,
    arms_table,
    causes_table,
    failures_table,
    trials_table,
)
from sickbay.service.summary import questions as ask
from sickbay.service.summary.collect import report_values
from sickbay.service.summary.formatting import SIGNS, number, printable, short_arm, span
from sickbay.service.summary.judgement import contribution_words, judgement_of
from sickbay.service.summary.provenance import provenance, provenance_line, seeds_in_words
from sickbay.service.summary.table import Table
from sickbay.service.summary.values import TrialLine, Values, sample
from sickbay.trials import registry
from sickbay.trials.detector import Detector
from sickbay.trials.registry import RegistryError
from sickbay.trials.store import Store

_HERE = Path(__file__).parent
_VERDICT_OF = {sign: verdict for verdict, sign in SIGNS.items()}
_MARK_WORDS = {
    "primary": "primary cause",
    "fatal": "other fatal finding",
    "warning": "warning",
    "suspect": "suspected",
}
MOST_ARM_ROWS = 400  # of the summary; the SQL below it has them all
MOST_TRIAL_ROWS = 2000  # of the table of trials; more are sampled


def render_report(store: Store, sweep_id: str, asked: EffectOptions = DEFAULT_OPTIONS) -> str:
    """Write the HTML page of a sweep, even of a running one.

    With options `asked` for, a second table of effects follows the first. Raises SweepError if
    there is no such sweep or arm, StoreError or QueryError if it cannot be read.
    """
    values = report_values(store, sweep_id)
    study, missing = sweep_study(store, values)
    effects = study.effects if study else None
    sql = questions(values)
    script = (_HERE / "report.js").read_text(encoding="utf-8")
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    templates.filters |= {
        "number": number,
        "short_arm": short_arm,
        "contribution": contribution_words,
        "cell": partial(_cell, frozenset(cause.name for cause in values.causes)),
    }
    page = templates.get_template("report.html").render(
        **_words(store, values),
        **pictures(store, values, effects),
        effects=effect_section(effects, missing),
        asked=_asked(store, sweep_id, asked),
        study=study_section(study),
        fixes=fixes_table(store, values),
        v=values,
        arms=arms_table(values, sql["arms"], MOST_ARM_ROWS).pick(*UNDER_HEADINGS),
        best=_headlines(store, values),
        pareto=_pareto(store, values),
        failures=failures_table(values),
        causes=causes_table(values, sql["causes"]),
        judgements=_judgements(store, values),
        listed=trials_table(listed_trials(values), sql["trials"]),
        record=values.record,
        span=span,
        signs=SIGNS,
        dashes=DASHES,
        mark_words=_MARK_WORDS,
        rules=_rules(values),
        sql=sql,
        time=time_line(values),
        css=Markup((_HERE / "report.css").read_text(encoding="utf-8")),  # noqa: S704 - ours
        script=Markup(script),  # noqa: S704 - ours
        script_hash=_script_hash(script),
    )
    return printable(page.strip()) + "\n"


def render_markdown(store: Store, sweep_id: str, asked: EffectOptions = DEFAULT_OPTIONS) -> str:
    """Write the summary, causes and verdicts of a sweep as Markdown; raises as the page does."""
    values, effects = _in_words(store, sweep_id)
    line = provenance_line(store, values)
    sections = [effects, *_asked(store, sweep_id, asked)]
    fixes = fixes_table(store, values)
    first = _headlines(store, values), _pareto(store, values)
    return printable(markdown(values, first, sections, fixes, questions(values), line))


def render_latex(store: Store, sweep_id: str, asked: EffectOptions = DEFAULT_OPTIONS) -> str:
    """Write the arms and effects of a sweep as LaTeX for a paper; raises as the page does."""
    values, effects = _in_words(store, sweep_id)
    sections = [effects, *_asked(store, sweep_id, asked)]
    fixes = fixes_table(store, values)
    return latex(values, sections, fixes, provenance_line(store, values), questions(values))


def report_data(
    store: Store, sweep_id: str, asked: EffectOptions = DEFAULT_OPTIONS
) -> dict[str, Any]:
    """Return the numbers of a report as plain data; raises as the page does."""
    values = report_values(store, sweep_id)
    effects, missing = sweep_effects(store, sweep_id)
    return {
        "sweep_id": sweep_id,
        "state": values.state,
        "trials_planned": values.record.trials_planned,
        "objective": values.objective and asdict(values.objective),
        "verdicts": dict(values.verdicts),
        "arms": [
            asdict(arm) | {"key": dict(zip(("arm", *values.factors), arm.key, strict=True))}
            for arm in values.arms
        ],
        "causes": [
            asdict(cause) | {"example": cause.example.trial_id, "reason": cause.example.reason}
            for cause in values.causes
        ],
        "effects": effects.as_data() if effects else None,
        "effects_missing": missing,
        "effects_asked_for": [more.as_data() for more in effects_asked_for(store, sweep_id, asked)],
        "provenance": provenance(store, values),
        "problems": list(values.problems),
        "sql": questions(values),
    }


def _in_words(store: Store, sweep_id: str) -> tuple[Values, EffectSection]:
    values = report_values(store, sweep_id)
    effects, missing = sweep_effects(store, sweep_id)
    return values, effect_section(effects, missing)


def _asked(store: Store, sweep_id: str, options: EffectOptions) -> list[EffectSection]:
    return [effect_section(more) for more in effects_asked_for(store, sweep_id, options)]


def effects_asked_for(
    store: Store, sweep_id: str, options: EffectOptions
) -> tuple[SweepEffects, ...]:
    """The comparisons that were asked for beside the usual ones, if any."""
    if options == DEFAULT_OPTIONS:
        return ()
    return (load_effects(store, sweep_id, options),)


def listed_trials(values: Values) -> tuple[TrialLine, ...]:
    """Choose the trials that the page lists: all, or a sample stratified by cause.

    The example of every cause is among them, as the page leads to it.
    """
    chosen = sample(values.trials, MOST_TRIAL_ROWS)
    named = {trial.trial_id for trial in chosen}
    more = [cause.example for cause in values.causes if cause.example.trial_id not in named]
    order = {trial.trial_id: place for place, trial in enumerate(values.trials)}
    return tuple(sorted((*chosen, *more), key=lambda trial: order[trial.trial_id]))


def questions(values: Values) -> dict[str, str]:
    """Return the SQL under each table, by the table's name."""
    sweep, factors = values.record.sweep_id, values.factors
    return {
        "verdicts": ask.verdicts(sweep),
        "arms": ask.arms(sweep, factors),
        "arm_causes": ask.arm_causes(sweep, factors),
        "causes": ask.causes(sweep),
        "trials": ask.trials(sweep, factors),
        "findings": ask.findings(sweep),
        "weighed": ask.weighed(sweep, [cause.example.trial_id for cause in values.causes]),
    }


def _cell(causes: frozenset[str], text: str) -> Markup:
    """A cell as HTML: a line that begins with a verdict's sign is a badge; causes are links."""
    return Markup("<br>").join(_line(causes, line) for line in text.split("\n"))


def _line(causes: frozenset[str], line: str) -> Markup:
    sign, space, rest = line.partition(" ")
    if sign in _VERDICT_OF and space:
        badge = '<span class="badge {}"><b>{}</b> {}</span>'
        return Markup(badge).format(_VERDICT_OF[sign], sign, rest)  # noqa: S704 - escapes them
    parts = [
        Markup('<a href="#cause-{0}">{0}</a>').format(part) if part in causes else escape(part)
        for part in re.split(r"(\w+)", line)
    ]
    return Markup("").join(parts)


def _headlines(store: Store, values: Values) -> list[tuple[str, str]]:
    rows = [{**vars(trial), "arm": trial.arm} for trial in values.trials]
    return headlines(store, values.record.sweep_id, rows, json.loads(values.record.spec))


def _pareto(store: Store, values: Values) -> Table | None:
    front = objectives_front(store, values.record.sweep_id, json.loads(values.record.spec))
    return pareto_table(front) if front else None


def _judgements(store: Store, values: Values) -> dict[str, dict[str, Any] | None]:
    """Contributions to the judgement of each cause's example, by trial."""
    if not values.causes:
        return {}
    result = query(store, questions(values)["weighed"], sweep_ids=[values.record.sweep_id])
    by_trial: dict[str, list[dict[str, Any]]] = {}
    for row in result.records():
        by_trial.setdefault(row["trial_id"], []).append(row)
    return {trial_id: judgement_of(rows) for trial_id, rows in by_trial.items()}


def _words(store: Store, values: Values) -> dict[str, Any]:
    record = values.record
    bar = [(verdict, values.verdicts[verdict]) for verdict in SIGNS if verdict in values.verdicts]
    bar += [(verdict, n) for verdict, n in values.verdicts.items() if verdict not in SIGNS]
    pending = record.trials_planned - len(values.trials)
    bar += [("pending", pending)] if pending > 0 else []
    return {
        "bar": bar,
        "bar_words": ", ".join(f"{n} {verdict}" for verdict, n in bar),
        "seeds": seeds_in_words(values.seeds),
        "times": f"{_time(record.submitted_at)}, {_time(record.finished_at)}",
        "objective_name": values.objective.signal if values.objective else "objective",
        "spec": yaml.safe_dump(json.loads(record.spec), sort_keys=False, allow_unicode=True),
        "provenance": provenance(store, values),
    }


def _rules(values: Values) -> dict[str, Detector]:
    """Return the detectors behind the causes that are installed here."""
    rules = {}
    for cause in values.causes:
        try:
            rules[cause.name] = registry.detector(cause.name)
        except RegistryError:
            continue  # the page says so
    return rules


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "not yet"
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"


def _script_hash(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
