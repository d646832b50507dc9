"""The verdict on an external log: the detectors' diagnosis in the log's own terms.

The detectors count evaluations; a log counts epochs or steps. And some things only its records
show: in which column a number first was not finite, a loss that repeats itself.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sickbay.service.external_logs.log_findings import LogFinding
from sickbay.trials.contract import Finding, FindingState, Health, Label, Severity
from sickbay.trials.detector import Detector
from sickbay.trials.diagnosis.cause_graph import is_fatal
from sickbay.trials.diagnosis.diagnose import Diagnosis, diagnose
from sickbay.trials.diagnosis.judge import HARD_CONFIDENCE, JUDGE
from sickbay.trials.diagnosis.judge_statistics import accuracy_lower, knows_chance
from sickbay.trials.evidence.classes import ranking
from sickbay.trials.evidence.skill import epoch_at, lasting
from sickbay.trials.evidence.thresholds import margin
from sickbay.trials.history import History
from sickbay.trials.logs.evaluations import Evaluations, Place

EPOCH_WORDS = re.compile(r"\bepoch (\d+)\b")
NON_FINITE = "non_finite"
CHANCE = "chance_level_ranking"
# Warnings of a part that does no work any more. In a sweep the harm is measured beside them; a
# log seldom holds it, and that the part was logged says that it was meant to work.
PARTS_LOST = ("mixture_collapse", "weight_map_attenuation")
# Fatal findings that the judge does not weigh: of classes, where a log has no validation loss.
OF_CLASSES = ("majority_class_collapse", CHANCE)
FELL = 0.8  # of the first loss
FEW_LOOKS = 2  # a log with no more rankings than this was not watched: they are its result


@dataclass(frozen=True)
class Coverage:
    """Names of the fatal detectors that judged, and reasons for those that could not."""

    judged: tuple[str, ...]
    open: Mapping[str, str]
    not_applicable: tuple[str, ...]


def in_log_terms(diagnosis: Diagnosis, made: Evaluations) -> tuple[Diagnosis, Place | None]:
    """The diagnosis with the log's own epochs or steps in its sentences, and where it begins."""
    label = diagnosis.label
    onset = None if label.onset_epoch is None else made.places.get(label.onset_epoch)
    findings = tuple(
        replace(finding, reason=_in_places(finding.reason, made)) for finding in diagnosis.findings
    )
    return Diagnosis(replace(label, reason=_in_places(label.reason, made)), findings), onset


def with_log_findings(
    diagnosis: Diagnosis,
    onset: Place | None,
    from_log: Sequence[LogFinding],
    broken: tuple[str, Place] | None,
) -> tuple[Diagnosis, Place | None]:
    """The diagnosis with findings from single records, and the onset that they show.

    `broken` is the column, and the place in it, of the first number that is not finite. A fatal
    finding of the records decides, or names the cause, where the detectors found nothing fatal.
    """
    label = _not_zero_but_nan(diagnosis)
    made = Diagnosis(
        label, diagnosis.findings + tuple(log_finding.finding for log_finding in from_log)
    )
    fatal = next(
        (log_finding for log_finding in from_log if log_finding.finding.severity is Severity.FATAL),
        None,
    )
    if label.pathology == NON_FINITE and broken is not None:
        name, onset = broken
        reason = f"{label.reason} First seen in {name!r}, at {onset}."
        return replace(made, label=replace(label, reason=reason)), onset
    named = any(
        diagnosed.detector == label.pathology
        for diagnosed in diagnosis.findings
        if is_fatal(diagnosed)
    )
    if fatal is None or (label.health is Health.PATHOLOGICAL and named):
        return made, onset
    weighed = label.reason if label.health is Health.PATHOLOGICAL else ""  # by the judge alone
    reason = f"{fatal.finding.reason} It began at {fatal.place}. {weighed}".rstrip()
    finding = replace(fatal.finding, reason=reason)
    return replace(made, label=_decided(label, finding)), fatal.place


def _not_zero_but_nan(diagnosis: Diagnosis) -> Label:
    """The label, where a loss is 0 because the Trainer of Hugging Face writes NaN as 0."""
    label = diagnosis.label
    if label.pathology != "zero_supervision" or NON_FINITE not in label.contributing:
        return label
    finding = next(f for f in diagnosis.findings if f.detector == NON_FINITE)
    others = tuple(name for name in label.contributing if name != NON_FINITE)
    return replace(_decided(label, finding), contributing=("zero_supervision", *others))


def with_detectors_word(diagnosis: Diagnosis, history: History) -> Diagnosis:
    """The diagnosis, decided by a detector where the judge has too little evidence.

    Where nothing tells what chance would reach, a fatal finding decides: the judge, which compares
    with chance, abstains. So do findings that few logs can prove harm for: a mixture of which one
    component lives, a map that keeps no weight, a lone AUROC that is provably near one half.
    """
    if diagnosis.label.health is Health.PATHOLOGICAL or not history.finished:
        return diagnosis
    unweighed = diagnosis.label.health is Health.INCONCLUSIVE and not knows_chance(history)
    lost = [
        finding
        for finding in diagnosis.findings
        if (finding.detector in PARTS_LOST and finding.state is FindingState.FIRED)
        or (
            is_fatal(finding)
            and ((unweighed and finding.detector != JUDGE) or finding.detector in OF_CLASSES)
        )
    ]
    deciding = lost[0] if lost else _one_ranking(history, diagnosis.findings)
    return (
        diagnosis
        if deciding is None
        else replace(diagnosis, label=_decided(diagnosis.label, deciding))
    )


def _decided(label: Label, finding: Finding) -> Label:
    return replace(
        label,
        health=Health.PATHOLOGICAL,
        pathology=finding.detector,
        onset_epoch=finding.onset_epoch,
        reason=finding.reason,
        remedy=finding.remedy,
        confidence=HARD_CONFIDENCE if finding.confidence is None else finding.confidence,
    )


def without_chance(diagnosis: Diagnosis, history: History) -> Diagnosis:
    """The diagnosis, left open where a loss fell to a plateau that nothing compares with chance.

    Convergence looks like this, too: the judge's probability alone, without any detector, is no
    proof then.
    """
    label = diagnosis.label
    alone = not any(is_fatal(f) for f in diagnosis.findings if f.detector != JUDGE)
    judged = label.health is Health.PATHOLOGICAL and alone
    if not judged or knows_chance(history) or not _fell(history):
        return diagnosis
    reason = (
        "The loss fell and then stayed on a plateau; whether that is any skill, only the loss of "
        "the best constant predictor can tell: give it by --floor."
    )
    left_open = replace(
        label,
        health=Health.INCONCLUSIVE,
        pathology=None,
        onset_epoch=None,
        reason=reason,
        remedy="",
        confidence=None,
    )
    return replace(diagnosis, label=left_open)


def _fell(history: History) -> bool:
    """Whether the last third of a loss, validation's if there is any, lies far below its start."""
    name = "val_loss" if history.recorded("val_loss").any() else "train_loss"
    losses = history.column(name)[history.recorded(name)]
    third = len(losses) // 3
    return third > 0 and bool(np.median(losses[-third:]) < FELL * losses[0])


def _one_ranking(history: History, findings: Sequence[Finding]) -> Finding | None:
    """A worthless ranking measured once or twice: the detector needs three in a row."""
    looks = history.recorded("val_auroc")
    rankings = ranking(history)
    if rankings is None or not 0 < looks.sum() <= FEW_LOOKS:
        return None
    near, ratio = lasting(rankings.near), lasting(rankings.precision_ratio)
    limit = 0.5 + margin("ranking_margin")
    few = lasting(rankings.positives) < margin("ranking_positives")
    if few or not near <= limit or ratio > margin("ranking_precision"):
        return None
    asked = next(finding for finding in findings if finding.detector == CHANCE)
    where = int(np.flatnonzero(looks)[-1])
    return replace(
        asked,
        state=FindingState.FIRED,
        reason=f"The AUROC is {lasting(rankings.auroc):.3f}, at most {near:.3f} (limit {limit:g}) "
        f"with {lasting(rankings.positives):.0f} positives: the scores rank no better than chance.",
        onset_epoch=epoch_at(history, where),
        statistic=near,
        threshold=limit,
        remedy="Check that labels belong to their inputs, that features reach the head, and that "
        "the loss uses the labels.",
    )


def _in_places(text: str, made: Evaluations) -> str:
    if made.own_epochs:
        return text
    return EPOCH_WORDS.sub(lambda hit: str(made.places.get(int(hit[1]), hit[0])), text)


def without_belief(
    diagnosis: Diagnosis, history: History, detectors: Sequence[Detector]
) -> Diagnosis:
    """An assumed floor proves no skill, unless ranking or accuracy proves it as well.

    A focal or otherwise weighted loss lies far below the plain entropy without any skill at all.
    """
    label, facts = diagnosis.label, history.facts
    accuracy, majority = accuracy_lower(history)
    if label.health is not Health.HEALTHY or accuracy > majority:
        return diagnosis
    unassumed = replace(facts, floors={k: v for k, v in facts.floors.items() if k != "val_loss"})
    without = History(history.rows(), unassumed, history.epochs_planned, finished=history.finished)
    if diagnose(without, detectors).label.health is Health.HEALTHY:
        return diagnosis
    reason = (
        "Skill is not proven: the floor of the loss is only assumed. --floor cross_entropy (or its "
        f"number) settles it. With the assumed one: {label.reason}"
    )
    return replace(
        diagnosis, label=replace(label, health=Health.INCONCLUSIVE, reason=reason, confidence=None)
    )


def coverage_of(diagnosis: Diagnosis, detectors: Sequence[Detector]) -> Coverage:
    """Which fatal detectors judged; those decided from single records count as well."""
    fatal = {detector.name for detector in detectors if detector.severity is Severity.FATAL}
    findings = [finding for finding in diagnosis.findings if finding.detector in fatal]
    lacking = (FindingState.MISSING_SIGNAL, FindingState.INSUFFICIENT_EVIDENCE)
    fired = {finding.detector for finding in findings if finding.state is FindingState.FIRED}
    return Coverage(
        judged=tuple(
            dict.fromkeys(
                finding.detector
                for finding in findings
                if finding.state not in {*lacking, FindingState.NOT_APPLICABLE}
            )
        ),
        open={
            finding.detector: finding.reason
            for finding in findings
            if finding.state in lacking and finding.detector not in fired
        },
        not_applicable=tuple(
            finding.detector for finding in findings if finding.state is FindingState.NOT_APPLICABLE
        ),
    )
