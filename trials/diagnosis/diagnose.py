"""The label of a history: hard evidence first, then the judge; detectors give the reason.

pathological  there is hard evidence, or the judge's log odds reach its threshold; between its two
              thresholds a fatal finding settles it, once the trial has finished
healthy       the judge's log odds are under the lower threshold, skill over the best constant
              predictor is proven, and no finding contradicts the measurements
inconclusive  neither; the reason says what is missing
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sickbay.trials.contract import Finding, FindingState, Health, Label, Severity
from sickbay.trials.detector import Detector
from sickbay.trials.diagnosis.cause_graph import (
    EXPLAINS,
    consequences,
    first_cause,
    is_fatal,
    primary_cause,
)
from sickbay.trials.diagnosis.judge import (
    HARD_CONFIDENCE,
    JUDGE,
    Judgement,
    calls_pathological,
    judge,
    model_hash,
)
from sickbay.trials.diagnosis.judge_finding import judge_finding, weighed
from sickbay.trials.diagnosis.judge_statistics import accuracy_lower, has_skill, share_done
from sickbay.trials.evidence.classes import CLASSIFICATION, ranking_lower
from sickbay.trials.evidence.skill import alphas, gain, lasting, percent
from sickbay.trials.evidence.statistics import holm
from sickbay.trials.evidence.thresholds import MARGINS_VERSION, margin
from sickbay.trials.history import History

DIAGNOSE_VERSION = "10"
UNNAMED_SHARE = 0.5  # of the plan: so long the judge alone waits for a detector to name the cause
JUDGED = (FindingState.FIRED, FindingState.SUSPECT, FindingState.CLEAR)
UNDECIDED = (FindingState.SUSPECT, FindingState.INSUFFICIENT_EVIDENCE)
SLOW = ("mixture_collapse", "catastrophic_forgetting")  # come on late: clear so far says little
SKILL_SIGNALS = {"val_loss": "validation loss", "val_density_kl": "divergence of the density"}
# What needs no weighing: a fatal finding of these is a fact, or has measured its own harm.
HARD_EVIDENCE = tuple(
    """
    non_finite zero_supervision no_parameter_update label_instability impossible_loss
    symmetric_component_trap mixture_collapse catastrophic_forgetting feature_energy_loss
    weight_map_attenuation dead_part accumulated_gradient double_activation
    """.split()
)
# Mistakes in the loss under which a model may learn all the same. Where it provably did, they end
# no running trial; and an activation applied twice, mostly harmless then, makes no label either.
OF_THE_LOSS = ("impossible_loss", "double_activation")
UNDERFITTING = "underfitting"
REMEDIES = {
    "no_skill": "Check that inputs and targets belong together and that the loss reaches the "
    "parameters; then the learning rate and the initialisation.",
    UNDERFITTING: "Train longer, raise the learning rate, or give the model more capacity; compare "
    "with the other arms of the sweep.",
}


@dataclass(frozen=True)
class Diagnosis:
    """The verdict on a history, and the findings in the order of the detectors, the judge last.

    `done` is the share of the planned epochs that the history covers.
    """

    label: Label
    findings: tuple[Finding, ...]
    done: float = 1.0


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
    """Judge a running trial's history: as `diagnose`, but without the hash that signs a label."""
    names = [detector.name for detector in detectors]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"two detectors are called {twice[0]!r}: each name may be used once")
    findings = _hold_jointly(history, [_ask(detector, history) for detector in detectors])
    judgement = judge(history)
    label = _label(history, findings, detectors, judgement)
    done = share_done(history) if len(history) else 0.0
    return Diagnosis(label, (*findings, judge_finding(history, judgement)), done)


def may_be_pathological(history: History, detectors: Sequence[Detector]) -> bool:
    """Whether `look` could call a running trial pathological, for a fraction of its cost.

    While a trial runs, only hard evidence and the judge may call it so: no other detector is asked.
    Never False where `look` would say pathological. True where it would not only if Holm's
    correction takes hard evidence back.
    """
    return calls_pathological(history) or any(
        _alarms(detector, history) for detector in detectors if _decides(detector.name)
    )


def labeller_version(detectors: Sequence[Detector]) -> str:
    """The labeller's version: that of this file, and a hash over detectors, margins and model."""
    parts = sorted(f"{detector.name} {detector.version}" for detector in detectors)
    text = "\n".join([DIAGNOSE_VERSION, MARGINS_VERSION, model_hash(), *parts])
    return f"{DIAGNOSE_VERSION}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def online_stop(diagnosis: Diagnosis, detectors: Sequence[Detector]) -> bool:
    """Whether a running trial may be stopped: by hard evidence that may stop, or by the judge.

    The judge often knows that nothing comes of a trial before any detector can say why, and a trial
    that is stopped without a cause is of little use. So the judge alone waits while a detector of
    hard evidence may still name one, for half of the plan at most.
    """
    if diagnosis.label.health is not Health.PATHOLOGICAL:
        return False
    online = {detector.name for detector in detectors if detector.online}
    fatal = [finding for finding in diagnosis.findings if is_fatal(finding)]
    if any(is_hard(finding) and finding.detector in online for finding in fatal):
        return True
    judged = any(finding.detector == JUDGE for finding in fatal)
    named = any(finding.detector != JUDGE for finding in fatal)
    waits = diagnosis.done < UNNAMED_SHARE and any(
        _may_name(finding) for finding in diagnosis.findings if finding.detector in online
    )
    return judged and (named or not waits)


def _may_name(finding: Finding) -> bool:
    """Whether a detector of hard evidence may still fire: it lacks evaluations, or is suspect."""
    slow = finding.detector in SLOW and finding.state is FindingState.CLEAR
    return slow or (finding.detector in HARD_EVIDENCE and finding.state in UNDECIDED)


def under_suspicion(diagnosis: Diagnosis) -> bool:
    """Whether the numbers of a running trial are untrustworthy at present.

    It is pathological so far, or a detector that may be fatal fired and the judge does not clear
    it. A suspicion may be lifted by a later look; it ends no trial, see `online_stop`.
    """
    if diagnosis.label.health is Health.PATHOLOGICAL:
        return True
    clear = FindingState.CLEAR
    cleared = any(
        finding.detector == JUDGE and finding.state is clear for finding in diagnosis.findings
    )
    return not cleared and any(map(is_fatal, diagnosis.findings))


def is_hard(finding: Finding) -> bool:
    """Whether a fatal finding decides alone. A third-party one does: the judge cannot weigh it."""
    return is_fatal(finding) and _decides(finding.detector)


def _decides(name: str) -> bool:
    return name in HARD_EVIDENCE or name not in EXPLAINS


def _alarms(detector: Detector, history: History) -> bool:
    try:
        return detector.alarms(history)
    except Exception:  # noqa: BLE001  as in `_ask`: a detector that raises could not judge
        return False


def _ask(detector: Detector, history: History) -> Finding:
    try:
        finding = detector(history)
    except Exception as error:  # noqa: BLE001  a stranger's detector must not take the trial with it
        return _failed(detector, f"The detector raised {type(error).__name__}: {error}")
    if not isinstance(finding, Finding):
        return _failed(
            detector, f"The detector returned a {type(finding).__name__}, not a Finding."
        )
    if (finding.detector, finding.detector_version) == (detector.name, detector.version):
        return finding
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
    """Withdraw fatal findings that are not significant after Holm's correction."""
    tested = [
        index
        for index, finding in enumerate(findings)
        if "p_value" in finding.evidence and is_fatal(finding)
    ]
    if tested:
        alpha = float(alphas(history)[-1])
        kept = holm([findings[index].evidence["p_value"] for index in tested], alpha)
        for index, stands in zip(tested, kept, strict=True):
            if not stands:
                finding = findings[index]
                reason = f"{finding.reason} It is not significant after Holm's correction."
                findings[index] = replace(finding, state=FindingState.SUSPECT, reason=reason)
    return tuple(findings)


def _coverage(findings: Sequence[Finding], detectors: Sequence[Detector]) -> float:
    """Share of the applicable detectors with fatal severity that could judge."""
    fatal = {detector.name for detector in detectors if detector.severity is Severity.FATAL}
    states = [
        finding.state
        for finding in findings
        if finding.detector in fatal and finding.state is not FindingState.NOT_APPLICABLE
    ]
    return sum(state in JUDGED for state in states) / len(states) if states else 0.0


def _label(
    history: History,
    findings: Sequence[Finding],
    detectors: Sequence[Detector],
    judgement: Judgement | None,
) -> Label:
    label = Label(Health.INCONCLUSIVE, "", coverage=_coverage(findings, detectors))
    harmless: tuple[str, ...] = ()
    if _ranking_skill(history) or _accuracy_skill(history):
        harmless = ("double_activation",) if history.finished else OF_THE_LOSS
    hard = [one for one in findings if is_hard(one) and one.detector not in harmless]
    settled = history.finished and any(map(is_fatal, findings))
    if hard or (judgement and (judgement.pathological or (settled and not judgement.healthy))):
        return _pathological(label, history, findings, judgement, sure=bool(hard))
    label = replace(label, contributing=consequences(history, findings, ""))
    proof, lacking = _skill(history)
    if judgement is None:
        lacking = ["No evaluation that could be judged has been recorded yet.", *lacking]
    elif not judgement.healthy:
        lacking = [weighed(judgement), *lacking]
    blocking = {detector.name for detector in detectors if detector.blocks_healthy}
    lacking += [
        f"The measurements or the loss are not sound: {finding.reason}"
        for finding in findings
        if finding.detector in blocking and finding.state is FindingState.FIRED
    ]
    if lacking or judgement is None:
        return replace(label, reason=" ".join(lacking))
    return replace(
        label,
        health=Health.HEALTHY,
        reason=f"{proof} {weighed(judgement)}",
        confidence=round(1.0 - judgement.probability, 6),
    )


def _pathological(
    label: Label,
    history: History,
    findings: Sequence[Finding],
    judgement: Judgement | None,
    *,
    sure: bool,
) -> Label:
    """Name the cause: of the fatal findings, else of those that explain missing skill."""
    cause = primary_cause(history, findings) or first_cause(history, findings)
    weight = weighed(judgement) if judgement is not None and judgement.pathological else ""
    if cause is None:
        name = UNDERFITTING if has_skill(history) else "no_skill"
        onset = None if name == UNDERFITTING else int(history.epochs[0])
        label = replace(
            label, pathology=name, reason=weight, onset_epoch=onset, remedy=REMEDIES[name]
        )
    else:
        label = replace(
            label,
            pathology=cause.detector,
            reason=f"{cause.reason} {weight}".rstrip(),
            onset_epoch=cause.onset_epoch,
            remedy=cause.remedy,
        )
    known = judgement.probability if judgement is not None else 0.0
    return replace(
        label,
        health=Health.PATHOLOGICAL,
        contributing=consequences(history, findings, label.pathology or ""),
        confidence=max(known, HARD_CONFIDENCE) if sure else known,
    )


def _skill(history: History) -> tuple[str, list[str]]:
    """What proves skill, or what is missing to prove it.

    Skill is asked for in the validation loss, and in the density where its floor is known: a loss
    can be cheated: the gain is over the margin, and its lower bound over 0. Where there are
    classes, an AUROC provably over chance is proof enough, and so is an accuracy provably over the
    share of the largest class.
    """
    proof, limit = "", margin("skill_gain")
    lacking: list[str] = []
    for signal, measure in SKILL_SIGNALS.items():
        required = signal == "val_loss"
        if not history.has(signal):
            if required:
                lacking.append("Skill is not proven: no validation loss (`val_loss`) was recorded.")
            continue
        with np.errstate(all="ignore"):
            gains = gain(history, signal)
        if gains is None:
            if required:
                lacking.append(
                    "Skill is not proven: the loss of the best constant predictor "
                    "(the floor of `val_loss`) is unknown."
                )
            continue
        lower, value = lasting(gains.lower), lasting(gains.value)
        if lower > 0.0 and value > limit and lasting(gains.value, 1) > limit:
            proof = proof or (
                f"The {measure} improves on the best constant predictor by {percent(value)} (at "
                f"least {percent(lower)})."
            )
        else:
            lacking.append(
                f"Skill is not proven: the {measure} improves on the best constant predictor by "
                f"{percent(value)} (needed: {limit:.0%}), with a lower bound of {percent(lower)} "
                "(needed: over 0%)."
            )
    shown = _ranking_skill(history) or _accuracy_skill(history)
    return (shown, []) if lacking and shown else (proof, lacking)


def _ranking_skill(history: History) -> str:
    """State that the ranking proves skill; empty if it does not, or without classes."""
    if history.facts.kind not in CLASSIFICATION:
        return ""
    with np.errstate(all="ignore"):
        lower = ranking_lower(history)
    return f"The AUROC is at least {lower:.3f}." if lower is not None and lower > 0.5 else ""


def _accuracy_skill(history: History) -> str:
    """State that the accuracy proves skill; empty if it does not."""
    lower, share = accuracy_lower(history)
    if not lower > share:
        return ""
    return f"The accuracy is at least {percent(lower)}; the largest class has {percent(share)}."
