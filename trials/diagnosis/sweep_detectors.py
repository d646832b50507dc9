"""The detectors over a sweep: unwired factors, hopeless data, edges, seeds, oscillation."""

import math
import struct
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import combinations, pairwise

from sickbay.trials.contract import FindingState, Goal, Health, Scalar, Severity
from sickbay.trials.diagnosis.standing import Score, seed_outliers
from sickbay.trials.diagnosis.sweep_findings import (
    SweepDetector,
    SweepOutcome,
    SweepTrial,
    SweepView,
    clear,
    insufficient,
)
from sickbay.trials.evidence.thresholds import margin, whole

COMPARED = ("train_loss", "val_loss")  # curves that any change of training changes
METRICS = ("val_accuracy", "train_accuracy")
WITHOUT_SKILL = {
    "no_skill",
    "chance_level_ranking",
    "majority_class_collapse",
    "constant_output",
    "memorisation_without_generalisation",
}
BLOWN_UP = {"divergence", "non_finite", "exploding_gradient"}


def duplicate_trials(view: SweepView) -> SweepOutcome:
    """Fire when configurations that differ have the same curves bit for bit."""
    comparable = [(one, bits) for one in view.trials if (bits := _bits(one)) is not None]
    alike: dict[tuple[object, ...], list[SweepTrial]] = defaultdict(list)
    for trial, bits in comparable:
        alike[trial.seed, bits].append(trial)
    if len(comparable) < 2:
        return insufficient("Fewer than two trials left curves that could be compared.")
    groups = [group for group in alike.values() if len({one.arm for one in group}) > 1]
    if not groups:
        return clear(f"The {len(comparable)} trials left different curves.")
    factors = _differing(groups)
    dead = [name for name in factors if _never_matters(comparable, name)]
    ids = tuple(sorted(one.trial_id for group in groups for one in group))
    names = ", ".join(f"`{name}`" for name in dead or factors)
    effect = "never changed anything" if dead else "changed nothing there"
    return SweepOutcome(
        FindingState.FIRED,
        f"{len(ids)} trials of different configurations have the same loss bit for bit in every "
        f"evaluation; {names} {effect}: is it wired to the training?",
        severity=Severity.WARNING if dead else Severity.INFO,
        trials=ids,
        statistic=float(len(ids)),
        threshold=0.0,
    )


def all_trials_no_skill(view: SweepView) -> SweepOutcome:
    """Fire when every configuration of several lacks skill: then the data are to blame."""
    judged = [trial for trial in view.trials if trial.health is not None]
    arms, needed = {trial.arm for trial in judged}, whole("sweep_configs")
    skilled = [trial for trial in judged if not WITHOUT_SKILL & set(trial.causes)]
    if skilled:
        return clear(f"{len(skilled)} of {len(judged)} judged trials do not lack skill.")
    if len(arms) < needed:
        return insufficient(
            f"It takes {needed} judged configurations and there are {len(arms)}: "
            f"{needed - len(arms)} more."
        )
    return SweepOutcome(
        FindingState.FIRED,
        f"None of {len(arms)} configurations ({len(judged)} trials) has any skill.",
        trials=tuple(trial.trial_id for trial in judged),
        statistic=float(len(arms)),
        threshold=float(needed),
    )


def edge_of_stability(view: SweepView) -> SweepOutcome:
    """Inform when the best configuration borders on one that diverges."""
    goal = view.objective.goal if view.objective else Goal.MINIMIZE
    worse = -1.0 if goal is Goal.MAXIMIZE else 1.0
    healthy = {
        arm: [worse * one.objective for one in trials if one.objective is not None]
        for arm, trials in view.arms().items()
        if all(one.health == Health.HEALTHY for one in trials)
    }
    ranked = {arm: _middle(values) for arm, values in healthy.items() if values}
    if not ranked or len(view.arms()) < 2:
        return insufficient("No configuration is healthy in all of its trials beside another one.")
    best = min(ranked, key=lambda arm: (ranked[arm], str(arm)))
    for name, level in best:
        for other, trials in _next_to(view, best, name):
            diverging = [one for one in trials if BLOWN_UP & set(one.causes)]
            if 2 * len(diverging) > len(trials):
                return SweepOutcome(
                    FindingState.FIRED,
                    f"The best configuration has {name} = {level}, and the next value, {other}, "
                    f"diverges in {len(diverging)} of {len(trials)} trials.",
                    trials=tuple(one.trial_id for one in (*view.arms()[best], *diverging)),
                    statistic=float(len(diverging)),
                    threshold=len(trials) / 2.0,
                )
    return clear("The neighbours of the best configuration are stable.")


def seed_instability(view: SweepView) -> SweepOutcome:
    """Fire when one configuration is healthy with one seed and pathological with another."""
    several = 0
    unstable: list[list[SweepTrial]] = []
    for trials in view.arms().values():
        verdicts = [one.health for one in trials]
        several += len({one.seed for one in trials if one.health is not None}) > 1
        if Health.HEALTHY in verdicts and Health.PATHOLOGICAL in verdicts:
            unstable.append(trials)
    if not several:
        return insufficient("No configuration has been judged with more than one seed.")
    if not unstable:
        return clear(f"The verdicts of {several} configurations do not depend on the seed.")
    most = max(unstable, key=len)
    n_pathological = sum(one.health == Health.PATHOLOGICAL for one in most)
    return SweepOutcome(
        FindingState.FIRED,
        f"{len(unstable)} of {several} configurations are healthy with some seeds and pathological "
        f"with others, as {_words(most[0])}: pathological in {n_pathological} of {len(most)}.",
        trials=tuple(one.trial_id for trials in unstable for one in trials),
        statistic=float(len(unstable)),
        threshold=0.0,
    )


def seed_outlier(view: SweepView) -> SweepOutcome:
    """Fire when one seed of a configuration ends far from its siblings, whatever its label."""
    if view.objective is None:
        return insufficient("The objective of the sweep is not known.")
    sign = 1.0 if view.objective.goal is Goal.MAXIMIZE else -1.0
    scores = [
        Score(one.trial_id, repr(one.arm), one.seed, one.health, sign * one.objective)
        for one in view.trials
        if one.health is not None and one.objective is not None
    ]
    outliers = seed_outliers(scores)
    if not outliers:
        return clear("No seed ends far from the other seeds of its configuration.")
    first = next(one for one in view.trials if one.trial_id in outliers)
    return SweepOutcome(
        FindingState.FIRED,
        f"{len(outliers)} of {len(scores)} trials end far from the other seeds of their "
        f"configuration, as seed {first.seed} of {_words(first)}: {first.objective:.4g}.",
        trials=outliers,
        statistic=float(len(outliers)),
        threshold=0.0,
    )


def oscillation(view: SweepView) -> SweepOutcome:
    """Inform about trials whose accuracy goes up and down for most of the time."""
    shares = {}
    for trial in view.trials:
        curve = next((trial.curves[name] for name in METRICS if trial.curves.get(name)), ())
        values = [value for value in curve if math.isfinite(value)]
        if len(values) >= whole("trend_window"):
            shares[trial.trial_id] = _swings(values) / len(values)
    if not shares:
        return insufficient("No trial has ten evaluations of an accuracy.")
    limit = margin("oscillation_share")
    found = [trial_id for trial_id, share in shares.items() if share >= limit]
    if not found:
        return clear(f"The accuracy of {len(shares)} trials does not oscillate.")
    return SweepOutcome(
        FindingState.FIRED,
        f"The accuracy of {len(found)} of {len(shares)} trials swings by "
        f"{margin('oscillation_gap'):g} or more in at least {limit:.0%} of the evaluations.",
        trials=tuple(found),
        statistic=max(shares.values()),
        threshold=limit,
    )


def _bits(trial: SweepTrial) -> bytes | None:
    """A trial's losses, bit for bit; None for curves too short or too flat to tell trials apart."""
    curves = [trial.curves.get(name, ()) for name in COMPARED]
    values = {value for curve in curves for value in curve if math.isfinite(value)}
    if max(map(len, curves)) < whole("persistence") or len(values) < whole("persistence"):
        return None
    return b"|".join(struct.pack(f"<{len(curve)}d", *curve) for curve in curves)


def _differing(groups: Iterable[Sequence[SweepTrial]]) -> list[str]:
    """The factors in which trials of a group differ, in alphabetical order."""
    return sorted(
        {
            name
            for group in groups
            for one, other in combinations(group, 2)
            for name in one.levels
            if one.levels[name] != other.levels.get(name)
        }
    )


def _never_matters(comparable: Iterable[tuple[SweepTrial, bytes]], name: str) -> bool:
    """Whether every pair of trials that differ in this factor alone has the same curves."""
    pairs: dict[tuple[object, ...], set[bytes]] = defaultdict(set)
    levels: dict[tuple[object, ...], set[Scalar | None]] = defaultdict(set)
    for trial, bits in comparable:
        if name in trial.levels:
            rest = tuple(pair for pair in trial.arm if pair[0] != name)
            pairs[trial.seed, rest].add(bits)
            levels[trial.seed, rest].add(trial.levels[name])
    several = [key for key, found in levels.items() if len(found) > 1]
    return bool(several) and all(len(pairs[key]) == 1 for key in several)


def _next_to(
    view: SweepView, best: tuple[tuple[str, Scalar | None], ...], name: str
) -> list[tuple[float, list[SweepTrial]]]:
    """The arms that differ from the best one in this number alone, by the next value each way."""
    here = dict(best)[name]
    if isinstance(here, (bool, str)) or here is None:
        return []
    rest = [pair for pair in best if pair[0] != name]
    beside: dict[float, list[SweepTrial]] = {}
    for arm, trials in view.arms().items():
        level = dict(arm).get(name)
        same = [pair for pair in arm if pair[0] != name] == rest
        if same and isinstance(level, (int, float)) and level != here:
            beside[float(level)] = trials
    above = min((value for value in beside if value > here), default=None)
    below = max((value for value in beside if value < here), default=None)
    return [(value, beside[value]) for value in (above, below) if value is not None]


def _swings(values: Sequence[float]) -> int:
    """How many times a curve goes from one turning point to the next by more than the limit."""
    moved = [values[0], *(here for before, here in pairwise(values) if here != before)]
    turns = [
        here
        for before, here, after in zip(moved, moved[1:], moved[2:], strict=False)
        if (here - before) * (after - here) < 0.0
    ]
    return sum(abs(there - here) >= margin("oscillation_gap") for here, there in pairwise(turns))


def _middle(values: Sequence[float]) -> float:
    ordered = sorted(value if math.isfinite(value) else math.inf for value in values)
    return ordered[len(ordered) // 2]


def _words(trial: SweepTrial) -> str:
    return ", ".join(f"{name} = {value}" for name, value in trial.arm) or "the only configuration"


SWEEP_DETECTORS = (
    SweepDetector(
        name="duplicate_trials",
        version="1.0",
        title="Trials that are the same trial",
        severity=Severity.WARNING,
        rule="Trials of one seed and different configurations have bit-equal losses in every "
        "evaluation. A warning if some factor never changes anything in this sweep, information "
        "if it does elsewhere.",
        formula="curves(a) = curves(b) bit for bit, seed(a) = seed(b), configuration(a) != "
        "configuration(b)",
        source="SageMaker Debugger's SimilarAcrossRuns, made exact: a parameter that is not wired "
        "is the commonest false ablation.",
        remedy="Look where the training reads the setting; `check_workload` tests every level.",
        false_alarms="A setting that has no effect under the others (the width of a cap that is "
        "off).",
        margins=("persistence",),
        function=duplicate_trials,
    ),
    SweepDetector(
        name="all_trials_no_skill",
        version="1.0",
        title="No configuration has any skill",
        severity=Severity.WARNING,
        rule="Every judged trial of five or more configurations lacks skill (no skill, ranking at "
        "chance, collapse onto a class, constant output, memorisation).",
        formula="configurations >= 5 and no judged trial with skill",
        source="If the configuration does not matter, the configuration is not the cause.",
        remedy="Suspect the data, the labels, their join or the loss, not the settings; a task may "
        "also hold no signal.",
        false_alarms="A sweep over settings that all break the training, by intent.",
        margins=("sweep_configs",),
        function=all_trials_no_skill,
    ),
    SweepDetector(
        name="edge_of_stability",
        version="1.0",
        title="The best configuration borders on divergence",
        severity=Severity.INFO,
        rule="The next value of a numeric factor beside the best healthy configuration, all others "
        "equal, diverges in most of its trials.",
        formula="best = argmin median objective over healthy arms; divergence, non-finite numbers "
        "or exploding gradients in > 1/2 of a neighbour's trials",
        source="Deep Learning Tuning Playbook: look at the curves just above the best learning "
        "rate.",
        remedy="Try a longer warmup or gradient clipping, which may allow the larger value, or go "
        "one step back for safety.",
        false_alarms="The best learning rate often lies there; hence only information.",
        margins=(),
        function=edge_of_stability,
    ),
    SweepDetector(
        name="seed_instability",
        version="1.0",
        title="The verdict depends on the seed",
        severity=Severity.WARNING,
        rule="Trials of one configuration are healthy with one seed and pathological with another.",
        formula="1 <= pathological < judged seeds of an arm, with a healthy one",
        source="A result that holds for some seeds is a result about the seeds.",
        remedy="Run more seeds before believing either, and report the share; a steadier "
        "initialisation or a warmup often removes it.",
        false_alarms="A rare failure of the machine's that is none of the configuration's.",
        margins=(),
        function=seed_instability,
    ),
    SweepDetector(
        name="seed_outlier",
        version="1.0",
        title="One seed unlike its siblings",
        severity=Severity.WARNING,
        rule="The objective of one seed lies outside of the prediction interval of the other seeds "
        "of its configuration, by more than a tenth of their mean.",
        formula="|x - mean| / (s sqrt(1 + 1/n)) by Student's t, s pooled over the healthy arms, "
        "Holm over the sweep at 0.05",
        source="A t prediction interval for one further observation.",
        remedy="Look at that trial before averaging: report the median beside the mean, and run "
        "more seeds.",
        false_alarms="Arms whose noise is far larger than that of the healthy arms.",
        margins=(),
        function=seed_outlier,
    ),
    SweepDetector(
        name="oscillation",
        version="1.0",
        title="Oscillating accuracy",
        severity=Severity.INFO,
        rule="An accuracy swings by 0.03 or more between turning points in at least a fifth of the "
        "evaluations.",
        formula="#(|extremum - next extremum| >= 0.03) / evaluations >= 0.2, over >= 10 "
        "evaluations",
        source="AutoTrainer (0.03 and 20 %), as evidence only.",
        remedy="Lower the learning rate, enlarge the batch, or average the weights.",
        false_alarms="Small validation splits swing by chance; cyclic learning rates by intent.",
        margins=("oscillation_gap", "oscillation_share", "trend_window"),
        function=oscillation,
    ),
)
