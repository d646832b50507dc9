"""The tables of arms, trials, causes and failures, each built once for every format."""

from collections import Counter
from collections.abc import Sequence

from sickbay.service.summary.formatting import SIGNS, level, number, short_arm, span
from sickbay.service.summary.table import Table
from sickbay.service.summary.values import (
    BEHIND,
    BELIEVE,
    DISBELIEVE,
    GROUPS,
    MIXED,
    NONE,
    TRAP,
    ArmLine,
    TrialLine,
    Values,
)
from sickbay.trials.diagnosis.failures import REMEDIES, Failure
from sickbay.trials.events import error_line

ARMS_LEGEND = """\
The objective's numbers are over the seeds that were judged and ended in a number; NaN and infinity
  are counted beside them.
\u26a0 marks an arm whose objective alone would pass: as good as an arm that is healthy in every
  seed, or at least half way to it from the best constant predictor.
Behind: worse than the reference arm by more than its seeds vary and by a tenth of its skill."""

# Of the table of arms, where the headings of its groups are shown.
UNDER_HEADINGS = (
    *("arm", "healthy", "verdicts", "causes (onset epoch)"),
    *("median", "range", "NaN, ∞"),
)
_BELIEVE = {
    BELIEVE: "yes",
    BEHIND: "yes, but behind",
    TRAP: "no, good objective",
    DISBELIEVE: "no",
    MIXED: "depends on the seed",
    NONE: "no verdict",
}
_COUNTED = ("healthy", "pathological", "inconclusive", "failed", "cancelled", "pruned")


def arms_table(values: Values, sql: str = "", most: int | None = None) -> Table:
    """One row per arm, the trustworthy ones first; `healthy` carries marks of pathologies.

    Of more arms than `most` the others are counted in a note.
    """
    arms = values.arms[:most]
    left_out = len(values.arms) - len(arms)
    return Table(
        columns=(
            *("arm", "believe", "group", "healthy", "verdicts", "causes (onset epoch)"),
            *("median", "range", "NaN, ∞"),
        ),
        rows=tuple(map(_arm_row, arms)),
        words=frozenset({"arm", "believe", "group", "verdicts", "causes (onset epoch)"}),
        marks={
            (row, "healthy"): tuple(cause.name for cause in arm.causes)
            for row, arm in enumerate(arms)
            if arm.causes
        },
        groups=tuple(map(_heading, arms)),
        notes=(f"{left_out} more arms are not shown: the SQL has them all.",) if left_out else (),
        legend=ARMS_LEGEND,
        sql={"arms": sql} if sql else {},
    )


def _heading(arm: ArmLine) -> str:
    behind = f" {arm.reference_arm}" if arm.group == BEHIND and arm.reference_arm else ""
    return ("⚠ " if arm.group == TRAP else "") + GROUPS[arm.group] + behind


def _arm_row(arm: ArmLine) -> tuple[str, ...]:
    causes = []
    for cause in arm.causes:
        since = span(cause.first_onset, cause.last_onset)
        onset = f" ({since})" if since else ""
        causes.append(f"{cause.name or 'unnamed'} {cause.trials} of {arm.trials}{onset}")
    counts = ((name, getattr(arm, name)) for name in _COUNTED)
    return (
        short_arm(arm.arm),
        _BELIEVE[arm.group],
        _heading(arm),
        f"{arm.healthy} of {arm.trials}",
        "\n".join(f"{SIGNS[name]} {n} {name}" for name, n in counts if n),
        "; ".join(causes),
        number(arm.middle),
        "" if arm.lowest is None else f"{number(arm.lowest)} – {number(arm.highest)}",
        str(arm.non_finite or ""),
    )


def trials_table(trials: Sequence[TrialLine], sql: str = "") -> Table:
    """One row per trial; the keys are the trials' ids."""
    return Table(
        columns=(
            *("trial", "arm", "seed", "state", "verdict", "cause", "onset", "standing"),
            *("objective", "best", "epochs", "seconds", "why"),
        ),
        rows=tuple(
            (
                trial.trial_id,
                short_arm(trial.arm),
                str(trial.seed),
                trial.state,
                f"{SIGNS.get(trial.verdict, '·')} {trial.verdict}",
                trial.pathology or trial.failure or "",
                level(trial.onset_epoch),
                stands(trial.standing, trial.label),
                number(trial.objective),
                number(trial.best_objective),
                f"{trial.epochs_run} / {trial.epochs_planned}",
                "–" if trial.wall_seconds is None else f"{trial.wall_seconds:.1f}",
                error_line(trial.error) or trial.reason,
            )
            for trial in trials
        ),
        words=frozenset({"trial", "arm", "state", "verdict", "cause", "standing", "why"}),
        keys=tuple(trial.trial_id for trial in trials),
        sql={"trials": sql} if sql else {},
    )


def stands(standing: str | None, label: str | None) -> str:
    """How a trial compares with its siblings, if worth a note; else an empty string."""
    if standing not in ("ahead", "behind", "far_behind"):
        return ""
    word = standing.replace("_", " ")
    return f"believe, but {word}" if label == "healthy" and standing != "ahead" else word


def causes_table(values: Values, sql: str = "") -> Table:
    """One row per primary cause, the most common first: trials, onset and what to change."""
    return Table(
        columns=("cause", "trials", "arms", "onset, epoch", "change"),
        rows=tuple(
            (
                cause.name,
                str(cause.trials),
                str(cause.arms),
                span(cause.first_onset, cause.last_onset),
                (cause.remedies or ("",))[0],
            )
            for cause in values.causes
        ),
        words=frozenset({"cause", "change"}),
        sql={"causes": sql} if sql else {},
    )


def failures_table(values: Values) -> Table:
    """One row per class of failure, the most common first: number of trials and remedy."""
    counts = Counter(trial.failure for trial in values.trials if trial.failure)
    return Table(
        columns=("failure", "trials", "what to do"),
        rows=tuple((name, str(n), remedy_of(name)) for name, n in counts.most_common()),
        words=frozenset({"failure", "what to do"}),
    )


def remedy_of(failure: str) -> str:
    """The remedy of a class of failure; empty for one that this version does not know."""
    return REMEDIES[Failure(failure)] if failure in set(Failure) else ""
