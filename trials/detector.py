"""What a detector is, and how to write one.

    @detector(name="my_alarm", version="1.0", severity=Severity.WARNING, signals=("val_loss",), ...)
    def detect(history: History) -> RuleResult:
        if ...:
            return fired("Validation loss 3.1 is ...", onset=4)
        return clear("Validation loss 0.4 is ...")

The decorator turns the function into a `Detector`: it answers the questions that are the same for
all (no rows yet, another kind of task, a signal that was never recorded) and signs the finding.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from sickbay.trials.contract import Finding, FindingState, Severity, TaskKind
from sickbay.trials.history import History


@dataclass(frozen=True)
class RuleResult:
    """The result of a detector's rule, without the detector's name; fields as in `Finding`."""

    state: FindingState
    reason: str
    severity: Severity | None = None
    onset: int | None = None
    statistic: float | None = None
    threshold: float | None = None
    confidence: float | None = None
    evidence: Mapping[str, float] = field(default_factory=dict)
    remedy: str | None = None


Rule = Callable[[History], RuleResult | Finding]


@dataclass(frozen=True)
class Detector:
    """A pure function History -> Finding, with its documentation.

    `severity` is the worst it can say. `online` tells whether it may stop a running trial. `kinds`
    are the tasks it understands, none meaning all; `components` is how many a mixture must have for
    it, 0 meaning that it is not about mixtures. `signals` must have been recorded, where "a|b"
    asks for one of the two; `optional_signals` sharpen its judgement. `margins` names its
    thresholds in `thresholds.py`. With `reads_nan` a signal that is NaN throughout is evidence,
    not a gap. `subject` looks at a history with rows and says why the task has nothing of the kind
    that the detector judges (no classes, no weight map), or None if it has. With `blocks_healthy` a
    fired finding, though no fatal one, forbids the word healthy.
    """

    name: str
    version: str
    title: str
    severity: Severity
    online: bool
    signals: tuple[str, ...]
    rule: str
    formula: str
    source: str
    remedy: str
    false_alarms: str
    function: Rule
    optional_signals: tuple[str, ...] = ()
    margins: tuple[str, ...] = ()
    kinds: tuple[TaskKind, ...] = ()
    components: int = 0
    reads_nan: bool = False
    subject: Callable[[History], str | None] | None = None
    blocks_healthy: bool = False

    def __call__(self, history: History) -> Finding:
        """Judge a history. Does not modify it; equal histories give equal findings."""
        outcome = self._outcome(history)
        return outcome if isinstance(outcome, Finding) else self._sign(outcome)

    def alarms(self, history: History) -> bool:
        """Whether its finding would be fatal, without the finding."""
        outcome = self._outcome(history)
        severity = outcome.severity or self.severity
        return outcome.state is FindingState.FIRED and severity is Severity.FATAL

    def _outcome(self, history: History) -> RuleResult | Finding:
        with np.errstate(all="ignore"):  # NaN and infinity are legal values here, not accidents
            return self._without_rule(history) or self.function(history)

    def _without_rule(self, history: History) -> RuleResult | None:
        kind = history.facts.kind
        if self.kinds and kind is not TaskKind.UNKNOWN and kind not in self.kinds:
            known = ", ".join(self.kinds)
            return not_applicable(f"This is a {kind} task; the detector understands {known}.")
        if self.components and _components(history) < self.components:
            return not_applicable(
                f"The task has no mixture of {self.components} or more components."
            )
        if len(history) == 0:
            return insufficient("No evaluation has been recorded yet; it needs at least 1.")
        lacking = self.subject(history) if self.subject is not None else None
        if lacking is not None:
            return not_applicable(lacking)
        absent = [name for name in self.signals if not self._readable(history, name)]
        if absent:
            return missing(*absent)
        return None

    def _readable(self, history: History, alternatives: str) -> bool:
        recorded = [name for name in alternatives.split("|") if history.has(name)]
        if self.reads_nan:
            return bool(recorded)
        return any(_has_number(history, name) for name in recorded)

    def _sign(self, outcome: RuleResult) -> Finding:
        evidence = {name: _plain(value) for name, value in outcome.evidence.items()}
        acts = outcome.state in (FindingState.FIRED, FindingState.SUSPECT)
        remedy = self.remedy if outcome.remedy is None else outcome.remedy
        return Finding(
            detector=self.name,
            detector_version=self.version,
            state=outcome.state,
            severity=outcome.severity or self.severity,
            reason=outcome.reason,
            onset_epoch=None if outcome.onset is None else int(outcome.onset),
            statistic=_plain(outcome.statistic),
            threshold=_plain(outcome.threshold),
            confidence=_plain(outcome.confidence),
            remedy=remedy if acts else "",
            evidence={name: value for name, value in evidence.items() if value is not None},
        )


def _has_number(history: History, name: str) -> bool:
    """Whether a recorded signal is not NaN throughout; many detectors ask for the same one."""
    return history.once(
        ("has a number", name), lambda: not bool(np.isnan(history.vectors(name)).all())
    )


def _components(history: History) -> int:
    """The number of mixture components: stated, or from the recorded weights; else 0."""
    width = history.vectors("mixture_weights").shape[1] if history.has("mixture_weights") else 0
    return history.facts.components or width


def detector(
    *,
    name: str,
    version: str,
    severity: Severity,
    online: bool,
    signals: str | tuple[str, ...],
    **fields: object,
) -> Callable[[Rule], Detector]:
    """Make a detector of a rule; `fields` are its other fields, texts may be left out.

    `signals`, `optional_signals` and `margins` may be tuples of names, or names in one text.
    """
    for key in ("optional_signals", "margins"):
        if key in fields:
            fields[key] = _names(fields[key])
    texts = dict.fromkeys(("title", "rule", "formula", "source", "remedy", "false_alarms"), "")
    texts["title"] = name.replace("_", " ")

    def wrap(function: Rule) -> Detector:
        return Detector(
            name=name,
            version=version,
            severity=severity,
            online=online,
            signals=_names(signals),
            function=function,
            **{**texts, **fields},  # type: ignore[arg-type]  # a wrong word is a TypeError at once
        )

    return wrap


def _names(names: Any) -> tuple[str, ...]:
    return tuple(names.split()) if isinstance(names, str) else tuple(names)


def signals_read(detectors: Iterable[Detector]) -> frozenset[str]:
    """Every signal that at least one of these detectors reads; other columns have no effect.

    The judge of `diagnosis/` reads a part of the same signals.
    """
    return frozenset(
        name
        for reader in detectors
        for entry in (*reader.signals, *reader.optional_signals)
        for name in entry.split("|")
    )


def as_detector(name: str, function: Rule) -> Detector:
    """Accept what an entry point holds: a `Detector`, or a plain function History -> Finding.

    A plain function is taken at its word: version 0, any signal, and it may be fatal.
    """
    if isinstance(function, Detector):
        return function
    if not callable(function):
        message = (
            f"the detector {name!r} is a {type(function).__name__}: its entry point must name a "
            f"Detector, or a function that takes a History and returns a Finding"
        )
        raise ValueError(message)  # noqa: TRY004  a user's mistake is a ValueError in this house
    lines = (function.__doc__ or "").strip().splitlines() or [name.replace("_", " ")]
    make = detector(
        name=name,
        version="0",
        severity=Severity.FATAL,
        online=False,
        signals=(),
        title=lines[0],
        reads_nan=True,
    )
    return make(function)


# How a rule answers. Fired: the pathology is present since epoch `onset`; `remedy` replaces the
# detector's own. Suspect: not enough to fire, but it counts as judged. Clear: what would show the
# pathology was recorded, and does not. Insufficient: the reason says what is missing yet.
fired = partial(RuleResult, FindingState.FIRED)
suspect = partial(RuleResult, FindingState.SUSPECT)
clear = partial(RuleResult, FindingState.CLEAR)
insufficient = partial(RuleResult, FindingState.INSUFFICIENT_EVIDENCE)
not_applicable = partial(RuleResult, FindingState.NOT_APPLICABLE)


def more_evaluations(history: History, needed: int) -> RuleResult | None:
    """`insufficient`, with the number missing, if there are fewer than `needed` evaluations."""
    lacking = needed - len(history)
    if lacking <= 0:
        return None
    return insufficient(
        f"It needs {needed} evaluations; there are {len(history)}, so {lacking} more.",
        statistic=float(len(history)),
        threshold=float(needed),
    )


# the fact that most detectors of skill must know, by its name in facts, flags and log settings
BEST_CONSTANT = (
    "the loss of the best constant predictor (state it as the floor of `val_loss`, for instance "
    "`--floor`)"
)


def missing(*names: str) -> RuleResult:
    """These signals were never recorded as numbers."""
    alternatives = [" or ".join(f"`{part}`" for part in name.split("|")) for name in names]
    return RuleResult(
        FindingState.MISSING_SIGNAL, f"Not recorded as numbers: {', '.join(alternatives)}."
    )


def missing_fact(what: str) -> RuleResult:
    """The detector needs this fact of the task; the reason says how to state it."""
    return RuleResult(FindingState.MISSING_SIGNAL, f"Unknown: {what}.")


def _plain(value: float | None) -> float | None:
    """Return a number that JSON can hold: NaN and infinity become None."""
    return float(value) if value is not None and math.isfinite(value) else None
