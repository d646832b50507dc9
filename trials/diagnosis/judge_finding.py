"""The judgement as a sentence, and as a finding next to those of the detectors."""

from sickbay.trials.contract import Finding, FindingState, Severity
from sickbay.trials.diagnosis.judge import JUDGE, Judgement, logistic, model_hash
from sickbay.trials.history import History

SAID = 3  # contributions in a sentence; the finding's evidence has them all
LEAST_SAID = 0.1  # log odds below which a contribution is left out of a sentence


def weighed(judgement: Judgement) -> str:
    """The probability of a pathology and the largest contributions, as a sentence."""
    parts = [
        str(contribution)
        for contribution in judgement.contributions
        if abs(contribution.log_odds) >= LEAST_SAID
    ]
    return (
        f"The judge puts the probability of a pathology at {judgement.probability:.0%} "
        f"({', '.join(parts[:SAID])} in log odds)."
    )


def judge_finding(history: History, judgement: Judgement | None) -> Finding:
    """A judgement as a finding; its evidence is each statistic's contribution."""
    if judgement is None:
        return Finding(
            JUDGE,
            model_hash(),
            FindingState.INSUFFICIENT_EVIDENCE,
            Severity.FATAL,
            f"The judge cannot judge yet: {len(history)} evaluations.",
        )
    state = (
        FindingState.FIRED
        if judgement.pathological
        else FindingState.CLEAR
        if judgement.healthy
        else FindingState.INSUFFICIENT_EVIDENCE
    )
    return Finding(
        detector=JUDGE,
        detector_version=model_hash(),
        state=state,
        severity=Severity.FATAL,
        reason=weighed(judgement),
        onset_epoch=int(history.epochs[0]) if judgement.pathological else None,
        statistic=logistic(judgement.log_odds),
        threshold=logistic(judgement.threshold),
        confidence=max(judgement.probability, 1.0 - judgement.probability),
        evidence={
            contribution.words: round(contribution.log_odds, 4)
            for contribution in judgement.contributions
        },
    )
