"""Detectors over a history: findings, and one label with one primary cause.

pathological  a fatal finding fired
healthy       skill over the best constant predictor is proven, by the loss or, where there are
              classes, by the ranking; at least 0.8 of the applicable fatal detectors could judge;
              and no finding contradicts the measurements
inconclusive  neither; the reason says what is missing
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sickbay.trials.contract import Finding, FindingState, Health, Label, Severity
from sickbay.trials.detector import Detector
from sickbay.trials.diagnosis.cause_graph import consequences, is_fatal, primary_cause
from sickbay.trials.evidence.classes import CLASSIFICATION, ranking_lower
from sickbay.trials.evidence.skill import alphas, gain, lasting, percent
from sickbay.trials.evidence.statistics import holm
from sickbay.trials.evidence.thresholds import MARGINS_VERSION, margin
from sickbay.trials.history import History

DIAGNOSE_VERSION = "3"
JUDGED = (FindingState.FIRED, FindingState.SUSPECT, FindingState.CLEAR)
SKILL_SIGNALS = {"val_loss": "validation loss", "val_density_kl": "divergence of the density"}


@dataclass(frozen=True)
class Diagnosis:
    """The verdict on a history, and what each detector said, in the order of the detectors."""

    label: Label
    findings: tuple[Finding, ...]


def diagnose(history: History, detectors: Sequence[Detector]) -> Diagnosis:
    """Judge a history. Pure: equal histories under equal detectors give equal diagnoses.

    A detector that raises does not end the diagnosis: its finding is `insufficient_evidence` and
    tells the error. Two detectors with one name are a ValueError.
    """
    diagnosis = look(history, detectors)
    version = labeller_version(detectors)
    text = f"{history.digest()} {version}"
    return replace(
        diagnosis,
        label=replace(
            diagnosis.label,
            labeller_version=version,
            label_hash=hashlib.sha256(text.encode()).hexdigest()[:16],
        ),
    )


def look(history: History, detectors: Sequence[Detector]) -> Diagnosis:
    """Judge a history that still grows: the verdict of `diagnose`, not signed by a hash."""
    names = [detector.name for detector in detectors]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"two detectors are called {twice[0]!r}: each name may be used once")
    findings = _hold_jointly(history, [_ask(detector, history) for detector in detectors])
    label = _label(history, findings, detectors)
    return Diagnosis(label, findings)


def labeller_version(detectors: Sequence[Detector]) -> str:
    """Name the judge: the version of this file and a hash over detectors and margins."""
    parts = sorted(f"{detector.name} {detector.version}" for detector in detectors)
    text = "\n".join([DIAGNOSE_VERSION, MARGINS_VERSION, *parts])
    return f"{DIAGNOSE_VERSION}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def online_stop(diagnosis: Diagnosis, detectors: Sequence[Detector]) -> bool:
    """Whether a running trial may be stopped: it is pathological, by a cause told online."""
    online = {detector.name for detector in detectors if detector.online}
    return diagnosis.label.health is Health.PATHOLOGICAL and diagnosis.label.pathology in online


def _ask(detector: Detector, history: History) -> Finding:
    try:
        finding = detector(history)
    except Exception as error:  # noqa: BLE001  a stranger's detector must not take the trial with it
        return _failed(detector, f"The detector raised {type(error).__name__}: {error}")
    if not isinstance(finding, Finding):
        return _failed(
            detector, f"The detector returned a {type(finding).__name__}, not a Finding."
        )
    # a plain function may sign with any name; here it is known by the one it was registered under
    return replace(finding, detector=detector.name, detector_version=detector.version)


def _failed(detector: Detector, reason: str) -> Finding:
    return Finding(
        detector=detector.name,
        detector_version=detector.version,
        state=FindingState.INSUFFICIENT_EVIDENCE,
        severity=detector.severity,
        reason=reason,
    )


def _hold_jointly(history: History, findings: list[Finding]) -> tuple[Finding, ...]:
    """Take back fatal findings whose p-value does not stand beside the others' (Holm)."""
    tested = [
        index for index, one in enumerate(findings) if "p_value" in one.evidence and is_fatal(one)
    ]
    if tested:
        alpha = float(alphas(history)[-1])
        kept = holm([findings[index].evidence["p_value"] for index in tested], alpha)
        for index, stands in zip(tested, kept, strict=True):
            if not stands:
                one = findings[index]
                reason = (
                    f"{one.reason} Its p-value does not stand beside the other fatal findings'."
                )
                findings[index] = replace(one, state=FindingState.SUSPECT, reason=reason)
    return tuple(findings)


def _coverage(findings: Sequence[Finding], detectors: Sequence[Detector]) -> float:
    """Share of the applicable detectors that can be fatal which came to a judgement."""
    fatal = {detector.name for detector in detectors if detector.severity is Severity.FATAL}
    states = [
        finding.state
        for finding in findings
        if finding.detector in fatal and finding.state is not FindingState.NOT_APPLICABLE
    ]
    return sum(state in JUDGED for state in states) / len(states) if states else 0.0


def _label(history: History, findings: Sequence[Finding], detectors: Sequence[Detector]) -> Label:
    coverage = _coverage(findings, detectors)
    primary = primary_cause(history, findings)
    others = consequences(history, findings, primary.detector if primary else "")
    if primary is not None:
        return Label(
            health=Health.PATHOLOGICAL,
            reason=primary.reason,
            pathology=primary.detector,
            onset_epoch=primary.onset_epoch,
            remedy=primary.remedy,
            contributing=others,
            coverage=coverage,
        )
    proof, lacking = _skill(history)
    blocking = {detector.name for detector in detectors if detector.blocks_healthy}
    lacking += [
        f"The measurements contradict each other: {finding.reason}"
        for finding in findings
        if finding.detector in blocking and finding.state is FindingState.FIRED
    ]
    if coverage < margin("coverage"):
        lacking.append(_uncovered(findings, coverage))
    health = Health.INCONCLUSIVE if lacking else Health.HEALTHY
    reason = (
        " ".join(lacking)
        if lacking
        else f"{proof} {coverage:.0%} of the fatal detectors judged, none fired."
    )
    return Label(health=health, reason=reason, contributing=others, coverage=coverage)


def _skill(history: History) -> tuple[str, list[str]]:
    """Say what proves skill, and list what is missing to prove it.

    Skill is asked for in the validation loss, and in the density where its floor is known: a loss
    can be cheated. Where there are classes, an AUROC provably over chance is proof enough.
    """
    ranked = _ranking_skill(history)
    proof, limit = "", margin("skill_gain")
    lacking: list[str] = []
    for signal, words in SKILL_SIGNALS.items():
        required = signal == "val_loss"
        if not history.has(signal):
            if required:
                lacking.append("Skill is not proven: no validation loss (`val_loss`) was recorded.")
            continue
        with np.errstate(all="ignore"):
            found = gain(history, signal)
        if found is None:
            if required:
                lacking.append(
                    "Skill is not proven: the loss of the best constant predictor "
                    "(`floors['val_loss']`) is unknown."
                )
            continue
        lower, value = lasting(found.lower), lasting(found.value)
        if lower > limit and lasting(found.value, 1) > limit:
            proof = proof or (
                f"The {words} gains {percent(value)} on the best constant predictor (at least "
                f"{percent(lower)})."
            )
        else:
            lacking.append(
                f"Skill is not proven: the {words} gains {percent(value)} on the best constant "
                f"predictor, proven only {percent(lower)} (margin {limit:.0%})."
            )
    return (ranked, []) if lacking and ranked else (proof, lacking)


def _ranking_skill(history: History) -> str:
    """Say that the ranking proves skill; nothing if it does not, or if there are no classes."""
    if history.facts.kind not in CLASSIFICATION:
        return ""
    with np.errstate(all="ignore"):
        lower = ranking_lower(history)
    return f"The AUROC is at least {lower:.3f}." if lower is not None and lower > 0.5 else ""


def _uncovered(findings: Sequence[Finding], coverage: float) -> str:
    open_states = (FindingState.MISSING_SIGNAL, FindingState.INSUFFICIENT_EVIDENCE)
    names = [
        finding.detector
        for finding in findings
        if finding.state in open_states and finding.severity is Severity.FATAL
    ]
    return f"Only {coverage:.0%} of the fatal detectors could judge; open: {', '.join(names)}."
