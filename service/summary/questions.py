"""The SQL of a report: every table is the answer to the query printed under it.

The texts are for people to copy, so values stand in them, written by `text` and `name`.
"""

from collections.abc import Mapping, Sequence

from sickbay.service.query.outcomes import COUNTS
from sickbay.service.query.sqltext import name, text

# What the objective's statistics are taken over: judged trials whose value is a number. The others
# are counted in columns of their own, so that none is lost.
_NUMBERS = "FILTER (WHERE label IS NOT NULL AND isfinite(objective))"


def verdicts(sweep_id: str) -> str:
    """Count the ended trials by label, and by state where there is no label."""
    return (
        "SELECT coalesce(label, state) AS verdict, count(*) AS n\n"
        f"FROM outcomes WHERE sweep_id = {text(sweep_id)}\nGROUP BY ALL ORDER BY ALL"
    )


def arms(sweep_id: str, factors: Sequence[str]) -> str:
    """Summarise every arm: its health, and its objective over the seeds."""
    levels = "".join(f"{name(factor)}, " for factor in factors)
    return (
        f"SELECT arm, {levels}count(*) FILTER ({COUNTS.format('o')}) AS trials,\n"
        "  count(*) FILTER (outcome = 'healthy') AS healthy,\n"
        "  count(*) FILTER (label = 'pathological') AS pathological,\n"
        "  count(*) FILTER (outcome IN ('inconclusive', 'objective_not_finite', 'unlabelled'))"
        " AS inconclusive,\n"
        "  count(*) FILTER (outcome = 'failed') AS failed,\n"
        "  count(*) FILTER (outcome = 'cancelled') AS cancelled,\n"
        "  count(*) FILTER (outcome = 'pruned') AS pruned,\n"
        f"  median(objective) {_NUMBERS} AS middle,\n"
        f"  min(objective) {_NUMBERS} AS lowest,\n"
        f"  max(objective) {_NUMBERS} AS highest,\n"
        "  count(*) FILTER (WHERE label IS NOT NULL AND NOT isfinite(objective)) AS non_finite,\n"
        "  count(*) FILTER (standing IN ('behind', 'far_behind')) AS behind,\n"
        "  max(reference_arm) AS reference_arm\n"
        f"FROM outcomes o WHERE sweep_id = {text(sweep_id)}\nGROUP BY ALL ORDER BY ALL"
    )


def arm_causes(sweep_id: str, factors: Sequence[str]) -> str:
    """Count the primary causes of every arm, with the span of their onsets."""
    levels = "".join(f"{name(factor)}, " for factor in factors)
    return (
        f"SELECT arm, {levels}pathology, count(*) AS trials,\n"
        "  min(onset_epoch) AS first_onset, max(onset_epoch) AS last_onset\n"
        f"FROM outcomes WHERE sweep_id = {text(sweep_id)} AND label = 'pathological'\n"
        "GROUP BY ALL ORDER BY ALL"
    )


def causes(sweep_id: str) -> str:
    """Count the primary causes of the sweep, the commonest first."""
    return (
        "SELECT pathology, count(*) AS trials, count(DISTINCT arm) AS arms,\n"
        "  min(onset_epoch) AS first_onset, median(onset_epoch) AS middle_onset,\n"
        "  max(onset_epoch) AS last_onset\n"
        f"FROM outcomes WHERE sweep_id = {text(sweep_id)} AND label = 'pathological'\n"
        "GROUP BY ALL ORDER BY trials DESC, pathology"
    )


def trials(sweep_id: str, factors: Sequence[str]) -> str:
    """List every ended trial with its verdict."""
    levels = "".join(f"{name(factor)}, " for factor in factors)
    return (
        f"SELECT trial_id, arm, {levels}seed, state, outcome, label, pathology, onset_epoch,\n"
        "  objective, best_objective, epochs_run, epochs_planned, wall_seconds,\n"
        "  standing, failure, reason, remedy, error, facts, labeller_version, workload_version\n"
        f"FROM outcomes WHERE sweep_id = {text(sweep_id)}\nORDER BY arm, seed, trial_id"
    )


def findings(sweep_id: str) -> str:
    """List fired and suspected findings, by the labeller of the current labels."""
    return (
        "SELECT f.trial_id, f.detector, f.state, f.severity, f.onset_epoch, f.reason\n"  # noqa: S608
        "FROM findings f JOIN trials t USING (sweep_id, trial_id)\n"
        f"WHERE f.sweep_id = {text(sweep_id)} AND f.state IN ('fired', 'suspect')\n"
        "  AND f.labeller_version IS NOT DISTINCT FROM t.labeller_version\n"
        "ORDER BY f.trial_id, f.onset_epoch, f.detector"
    )


def weighed(sweep_id: str, trials: Sequence[str]) -> str:
    """List what fired on some trials, and the judge's evidence for them."""
    return (
        "SELECT f.trial_id, f.detector, f.state, f.severity, f.statistic, f.evidence\n"  # noqa: S608
        "FROM findings f JOIN trials t USING (sweep_id, trial_id)\n"
        f"WHERE f.sweep_id = {text(sweep_id)} AND (f.detector = 'judge' OR f.state = 'fired')\n"
        f"  AND f.trial_id IN ({', '.join(map(text, trials)) or 'NULL'})\n"
        "  AND f.labeller_version IS NOT DISTINCT FROM t.labeller_version\n"
        "ORDER BY f.trial_id, f.detector"
    )


def changed(sweep_id: str) -> str:
    """List the factors that any trial of the sweep has changed."""
    where = f"WHERE sweep_id = {text(sweep_id)}"
    return f"SELECT DISTINCT unnest(changed) AS factor FROM trials {where} ORDER BY factor"  # noqa: S608


def curves(sweep_id: str, signals: Mapping[str, str], only: Sequence[str] = ()) -> str:
    """List evaluations: the epoch, and each of `signals` (column -> SQL); `only` of some trials."""
    chosen = f" AND trial_id IN ({', '.join(map(text, only))})" if only else ""
    columns = "".join(f",\n  {expression} AS {name(key)}" for key, expression in signals.items())
    return (
        f"SELECT trial_id, epoch{columns}\n"
        f"FROM epochs WHERE sweep_id = {text(sweep_id)}{chosen}\nORDER BY trial_id, epoch"
    )


def objective_signals(sweep_id: str, signals: Sequence[str]) -> str:
    """For each signal, whether its last or best value is the stored objective of every trial.

    One row: for each signal three columns: the same, `best_objective` is its least, its largest.
    """
    last = ", ".join(
        f"arg_max({name(signal)}, epoch) FILTER ({name(signal)} IS NOT NULL) AS l{k},"
        f" min({name(signal)}) FILTER (isfinite({name(signal)})) AS a{k},"
        f" max({name(signal)}) FILTER (isfinite({name(signal)})) AS b{k}"
        for k, signal in enumerate(signals)
    )
    same = ", ".join(
        f"bool_and(l{k} IS NOT DISTINCT FROM objective),"
        f" bool_and(a{k} IS NOT DISTINCT FROM best_objective),"
        f" bool_and(b{k} IS NOT DISTINCT FROM best_objective)"
        for k in range(len(signals))
    )
    where = f"WHERE sweep_id = {text(sweep_id)}"
    return (
        f"SELECT {same} FROM trials\n"  # noqa: S608 - quoted by `text` and `name`
        f"JOIN (SELECT trial_id, {last} FROM epochs {where} GROUP BY trial_id) USING (trial_id)\n"
        f"{where} AND objective IS NOT NULL"
    )
