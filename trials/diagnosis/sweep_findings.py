"""Detectors over all trials of a sweep, for what no single trial can show.

`sweep_findings(view)` gives one finding for each of the detectors of `sweep_detectors.py`. They are
pure functions of a `SweepView`; unlike a trial's detectors they compare configurations, so they see
them. None is ever fatal and none changes a label: they are advice about the sweep.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from sickbay.trials.contract import FindingState, Objective, Scalar, Severity


@dataclass(frozen=True)
class SweepTrial:
    """One ended trial: its factors' levels, its verdict, and the curves that the rules compare.

    `causes` are its primary cause and what came with it. A curve has one number an evaluation, NaN
    and infinity included. `val_n` is the number of validation samples, where known.
    """

    trial_id: str
    seed: int
    levels: Mapping[str, Scalar | None]
    health: str | None
    causes: tuple[str, ...] = ()
    objective: float | None = None
    curves: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    val_n: int | None = None

    @property
    def arm(self) -> tuple[tuple[str, Scalar | None], ...]:
        """The configuration as a key: equal for the seeds of one arm."""
        return tuple(sorted(self.levels.items()))


@dataclass(frozen=True)
class SweepView:
    """The ended trials of one sweep, sorted by id, and which way its objective gets better."""

    trials: tuple[SweepTrial, ...]
    objective: Objective | None = None

    def __post_init__(self) -> None:
        ordered = tuple(sorted(self.trials, key=lambda trial: trial.trial_id))
        object.__setattr__(self, "trials", ordered)

    @cached_property
    def arms(self) -> Mapping[tuple[tuple[str, Scalar | None], ...], Sequence[SweepTrial]]:
        """The trials by configuration, in the order of the trials."""
        by_arm: dict[tuple[tuple[str, Scalar | None], ...], list[SweepTrial]] = {}
        for trial in self.trials:
            by_arm.setdefault(trial.arm, []).append(trial)
        return by_arm


@dataclass(frozen=True)
class SweepFinding:
    """A finding about a sweep; `trials` are the ids that it concerns."""

    detector: str
    version: str
    state: FindingState
    severity: Severity
    reason: str
    remedy: str = ""
    trials: tuple[str, ...] = ()
    statistic: float | None = None
    threshold: float | None = None


@dataclass(frozen=True)
class SweepOutcome:
    """The result of a rule, without the detector's name."""

    state: FindingState
    reason: str
    severity: Severity | None = None
    trials: tuple[str, ...] = ()
    statistic: float | None = None
    threshold: float | None = None


@dataclass(frozen=True)
class SweepDetector:
    """A pure function SweepView -> SweepOutcome, with its documentation."""

    name: str
    version: str
    title: str
    severity: Severity
    rule: str
    formula: str
    source: str
    remedy: str
    false_alarms: str
    margins: tuple[str, ...]
    function: Callable[[SweepView], SweepOutcome]

    def __call__(self, view: SweepView) -> SweepFinding:
        """Judge a sweep; equal views give equal findings, whatever the order of the trials."""
        outcome = self.function(view)
        return SweepFinding(
            detector=self.name,
            version=self.version,
            state=outcome.state,
            severity=outcome.severity or self.severity,
            reason=outcome.reason,
            remedy=self.remedy if outcome.state is FindingState.FIRED else "",
            trials=outcome.trials,
            statistic=outcome.statistic,
            threshold=outcome.threshold,
        )


def sweep_findings(view: SweepView, detectors: Sequence[SweepDetector]) -> tuple[SweepFinding, ...]:
    """Run every detector, in order."""
    return tuple(detector(view) for detector in detectors)


def shown_findings(findings: Sequence[SweepFinding]) -> tuple[SweepFinding, ...]:
    """Select the fired findings, warnings first."""
    fired = [finding for finding in findings if finding.state is FindingState.FIRED]
    return tuple(sorted(fired, key=lambda finding: finding.severity is Severity.INFO))


def clear(reason: str) -> SweepOutcome:
    """The trials do not show it."""
    return SweepOutcome(FindingState.CLEAR, reason)


def insufficient(reason: str) -> SweepOutcome:
    """There are too few trials to judge."""
    return SweepOutcome(FindingState.INSUFFICIENT_EVIDENCE, reason)
