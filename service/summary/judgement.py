"""Each statistic's contribution to the judge's log odds of a trial."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sickbay.trials.contract import FindingState, Severity
from sickbay.trials.diagnosis.judge import JUDGE

Row = Mapping[str, Any]


def judgement_of(findings: Sequence[Row]) -> dict[str, Any] | None:
    """The judge's probability of a pathology and its contributions; None where it did not judge.

    `contributions` are names and log odds (above 0: pathological), the largest first. `agree` and
    `disagree` are the detectors that fired, warnings included, on either side of it.
    """
    judged = next((finding for finding in findings if finding["detector"] == JUDGE), None)
    evidence = _evidence(judged) if judged else {}
    if judged is None or not evidence:
        return None
    fired = [
        finding["detector"]
        for finding in findings
        if finding["detector"] != JUDGE and _alarms(finding)
    ]
    agrees = judged["state"] == FindingState.FIRED
    return {
        "probability": judged["statistic"],
        "contributions": [
            {"words": statistic, "log_odds": log_odds}
            for statistic, log_odds in sorted(evidence.items(), key=lambda item: -abs(item[1]))
        ],
        "agree": fired if agrees else [],
        "disagree": [] if agrees else fired,
    }


def contribution_words(contribution: Row) -> str:
    """Format a contribution: `training gain 0.4 % after 20 of 20 epochs: +3.1`."""
    return f"{contribution['words']}: {contribution['log_odds']:+.1f}"


def _evidence(judged: Row) -> dict[str, float]:
    evidence = judged["evidence"] or {}
    return dict(json.loads(evidence) if isinstance(evidence, str) else evidence)


def _alarms(finding: Row) -> bool:
    return bool(finding["state"] == FindingState.FIRED and finding["severity"] != Severity.INFO)
