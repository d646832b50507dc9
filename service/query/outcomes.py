"""The outcome of a trial: the only definition, in Python and as the view `outcomes`.

    healthy                 labelled healthy, with a finite objective
    (a pathology)           labelled pathological: its primary cause, or `pathological`
    inconclusive            labelled inconclusive
    objective_not_finite    labelled healthy, but its objective is NaN, infinite or missing
    unlabelled              completed without a label
    failed                  an exception, or a worker that was lost too often
    cancelled, pruned       cut short: not counted, as it might have become healthy

A label counts only where `label_stands`: stores of earlier versions have healthy pruned trials.
All counts of trials by outcome call `outcome` or select from a view.
"""

import math
from collections.abc import Mapping

from sickbay.trials.contract import Health, TrialState, label_stands

HEALTHY = "healthy"
INCONCLUSIVE = "inconclusive"
FAILED = "failed"
CANCELLED = "cancelled"
PRUNED = "pruned"
UNLABELLED = "unlabelled"
NOT_FINITE = "objective_not_finite"
CUT_SHORT = (CANCELLED, PRUNED)


def outcome(state: str, label: str | None, pathology: str | None, objective: float | None) -> str:
    """The outcome of a trial; the arguments are columns of `trials`."""
    if not label_stands(state, label):
        return state
    if label == Health.PATHOLOGICAL:
        return pathology or Health.PATHOLOGICAL.value
    if label is None:
        return UNLABELLED
    if label == Health.INCONCLUSIVE:
        return INCONCLUSIVE
    return HEALTHY if objective is not None and math.isfinite(objective) else NOT_FINITE


def ranks_last(state: str, label: str | None, objective: float | None) -> bool:
    """Whether a trial ranks last: pathological, failed, pruned, or without a finite objective."""
    return (
        label == Health.PATHOLOGICAL
        or state in (TrialState.FAILED, TrialState.PRUNED)
        or objective is None
        or not math.isfinite(objective)
    )


# The same in SQL, about a row of a view; `{0}` is its alias.
RANKS_LAST = (
    "({0}.label IS NOT DISTINCT FROM 'pathological' OR {0}.state IN ('failed', 'pruned')"
    " OR {0}.objective IS NULL OR NOT isfinite({0}.objective))"
)
COUNTS = "{0}.outcome NOT IN ('cancelled', 'pruned')"

_STANDS = (
    "(state NOT IN ('failed', 'cancelled')"
    " AND (state <> 'pruned' OR label IS NOT DISTINCT FROM 'pathological'))"
)
# `trials` with the column `outcome`, and with `label` and `pathology` null where they do not stand.
_OUTCOMES = f"""
SELECT *, CASE
    WHEN NOT {_STANDS} THEN state
    WHEN label = 'pathological' THEN coalesce(pathology, label)
    WHEN label IS NULL THEN 'unlabelled'
    WHEN label = 'inconclusive' THEN label
    WHEN objective IS NULL OR NOT isfinite(objective) THEN 'objective_not_finite'
    ELSE 'healthy' END AS outcome
FROM (SELECT COLUMNS(lambda c: lower(c) NOT IN ('label', 'pathology', 'outcome')),
  CASE WHEN {_STANDS} THEN label END AS label,
  CASE WHEN {_STANDS} THEN pathology END AS pathology FROM trials)
"""  # noqa: S608 - fixed texts
# A trial that several sweeps share, as the sweep has it that ended it last.
_LATEST = """
SELECT * FROM outcomes
QUALIFY row_number() OVER (
  PARTITION BY trial_id ORDER BY finished_at DESC NULLS LAST, sweep_id DESC) = 1
"""
VIEWS: Mapping[str, str] = {"outcomes": _OUTCOMES, "latest_outcomes": _LATEST}
