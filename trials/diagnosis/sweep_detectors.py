"""The detectors over a sweep: unwired factors, hopeless data, edges, seeds, oscillation."""

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
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
NEARLY = 1e-6  # relative: equal runs on a GPU differ by some 1e-7
LABEL_ERROR = 0.02  # share of labels that may be wrong
ALPHA = 0.05
MOST_INCONCLUSIVE = 0.2  # share of trials that may be inconclusive where no trial has skill
SAMPLING_ERRORS = 3.0
BLOWN_UP = {"divergence", "non_finite", "exploding_gradient"}


def duplicate_trials(view: SweepView) -> SweepOutcome:
    """Fire when configurations that differ, or seeds that differ, have equal curves."""
    comparable = [
        (candidate, values)
        for candidate in view.trials
        if (values := _losses(candidate)) is not None
    ]
    if len(comparable) < 2:
        return insufficient("Fewer than two trials have curves to compare.")
    run_of = _equal_runs(comparable)
    by_seed = _sharing(comparable, run_of, lambda trial: trial.seed, lambda trial: trial.arm)
    by_arm = _sharing(comparable, run_of, lambda trial: trial.arm, lambda trial: trial.seed)
    if not (by_seed or by_arm):
        return clear(f"The {len(comparable)} trials have different curves.")
    factors = _differing(by_seed)
    dead = [name for name in factors if _never_matters(comparable, run_of, name)]
    ids = {member.trial_id for group in (*by_seed, *by_arm) for member in group}
    reasons = []
    if by_seed:
        n = len({member.trial_id for group in by_seed for member in group})
        names = ", ".join(f"`{name}`" for name in dead or factors)
        effect = "never had an effect" if dead else "had no effect there"
        reasons.append(
            f"{n} trials of different configurations have the same loss in every evaluation (to 1 "
            f"in a million); {names} {effect}: does the training use it?"
        )
    if by_arm:
        n = len({member.trial_id for group in by_arm for member in group})
        reasons.append(
            f"{n} trials of different seeds have the same loss in every evaluation: the seed has "
            "not wired to the training, and the copies are one observation."
        )
    return SweepOutcome(
        FindingState.FIRED,
        " ".join(reasons),
        severity=Severity.WARNING if dead or by_arm else Severity.INFO,
        trials=tuple(sorted(ids)),
        statistic=float(len(ids)),
        threshold=0.0,
    )


def all_trials_no_skill(view: SweepView) -> SweepOutcome:
    """Fire when all of several configurations lack skill, which points to the data."""
    judged = [trial for trial in view.trials if trial.health is not None]
    lacking = [trial for trial in judged if WITHOUT_SKILL & set(trial.causes)]
    unclear = [trial for trial in judged if trial.health == Health.INCONCLUSIVE]
    skilled = [
        trial
        for trial in judged
        if trial.health != Health.INCONCLUSIVE and not WITHOUT_SKILL & set(trial.causes)
    ]
    arms, needed = {trial.arm for trial in lacking}, whole("sweep_configs")
    if skilled:
        return clear(f"{len(skilled)} of {len(judged)} judged trials do not lack skill.")
    if len(arms) < needed or len(unclear) > MOST_INCONCLUSIVE * len(judged):
        return insufficient(
            f"It takes {needed} configurations that lack skill, and few inconclusive trials; there "
            f"are {len(arms)}: {max(0, needed - len(arms))} more, and {len(unclear)} inconclusive."
        )
    aside = f"; {len(unclear)} more could not be judged" if unclear else ""
    return SweepOutcome(
        FindingState.FIRED,
        f"None of {len(arms)} configurations ({len(lacking)} trials) has any skill{aside}.",
        trials=tuple(trial.trial_id for trial in lacking),
        statistic=float(len(arms)),
        threshold=float(needed),
    )


def edge_of_stability(view: SweepView) -> SweepOutcome:
    """Inform when the best configuration borders on one that diverges."""
    goal = view.objective.goal if view.objective else Goal.MINIMIZE
    worse = -1.0 if goal is Goal.MAXIMIZE else 1.0
    healthy = {
        arm: [worse * trial.objective for trial in judged if trial.objective is not None]
        for arm, trials in view.arms.items()
        if (judged := _judged(trials)) and all(trial.health == Health.HEALTHY for trial in judged)
    }
    ranked = {arm: _middle(values) for arm, values in healthy.items() if values}
    if not ranked or len(view.arms) < 2:
        return insufficient("There are not two configurations, one of them healthy throughout.")
    best = min(ranked, key=lambda arm: (ranked[arm], str(arm)))
    for name, level in best:
        for other, trials in _next_to(view, best, name):
            diverging = [trial for trial in trials if BLOWN_UP & set(trial.causes)]
            if 2 * len(diverging) > len(trials):
                return SweepOutcome(
                    FindingState.FIRED,
                    f"The best configuration has {name} = {level}, and the next value, {other}, "
                    f"diverges in {len(diverging)} of {len(trials)} trials.",
                    trials=tuple(trial.trial_id for trial in (*view.arms[best], *diverging)),
                    statistic=float(len(diverging)),
                    threshold=len(trials) / 2.0,
                )
    return clear("The neighbours of the best configuration are stable.")


def seed_instability(view: SweepView) -> SweepOutcome:
    """Fire when verdicts depend on the seed in more trials than wrong labels explain."""
    arms = [_judged(trials) for trials in view.arms.values()]
    several = [trials for trials in arms if len({trial.seed for trial in trials}) > 1]
    if not several:
        return insufficient("No configuration has been judged with more than one seed.")
    odd = [min(_healthy(trials), _pathological(trials)) for trials in several]
    unstable = [trials for trials, n in zip(several, odd, strict=True) if n]
    if not unstable:
        return clear(f"The verdicts of {len(several)} configurations do not depend on the seed.")
    total = sum(map(len, several))
    p_value = _at_least(sum(odd), total)
    alone = min(_at_least(n, len(arm)) for n, arm in zip(odd, several, strict=True) if n)
    if min(p_value, alone * len(several)) > ALPHA:
        return clear(
            f"{sum(odd)} of {total} trials differ in verdict from the other seeds of their "
            f"configuration: no more than {LABEL_ERROR:.0%} of wrong labels explain."
        )
    most = max(unstable, key=lambda trials: min(_healthy(trials), _pathological(trials)))
    return SweepOutcome(
        FindingState.FIRED,
        f"{len(unstable)} of {len(several)} configurations are healthy with some seeds and "
        f"pathological with others, as {_words(most[0])}: pathological in {_pathological(most)} of "
        f"{len(most)}.",
        trials=tuple(trial.trial_id for trials in unstable for trial in trials),
        statistic=min(p_value, alone * len(several)),
        threshold=ALPHA,
    )


def _judged(trials: Iterable[SweepTrial]) -> list[SweepTrial]:
    """The judged trials: neither cancelled nor failed."""
    return [trial for trial in trials if trial.health is not None]


def _healthy(trials: Iterable[SweepTrial]) -> int:
    return sum(trial.health == Health.HEALTHY for trial in trials)


def _pathological(trials: Iterable[SweepTrial]) -> int:
    return sum(trial.health == Health.PATHOLOGICAL for trial in trials)


def _at_least(k: int, n: int) -> float:
    """Chance of k or more wrong labels among n."""
    wrong = (math.comb(n, i) * LABEL_ERROR**i * (1.0 - LABEL_ERROR) ** (n - i) for i in range(k))
    return 1.0 - math.fsum(wrong)


def seed_outlier(view: SweepView) -> SweepOutcome:
    """Fire when one seed of a configuration ends far from the others, whatever its label."""
    if view.objective is None:
        return insufficient("The objective of the sweep is not known.")
    sign = 1.0 if view.objective.goal is Goal.MAXIMIZE else -1.0
    scores = [
        Score(trial.trial_id, arm, trial.seed, trial.health, sign * trial.objective)
        for arm, trials in zip(map(repr, view.arms), view.arms.values(), strict=True)
        for trial in trials
        if trial.health is not None and trial.objective is not None
    ]
    outliers = seed_outliers(scores)
    if not outliers:
        return clear("No seed ends far from the other seeds of its configuration.")
    first = next(trial for trial in view.trials if trial.trial_id in outliers)
    return SweepOutcome(
        FindingState.FIRED,
        f"{len(outliers)} of {len(scores)} trials end far from the other seeds of their "
        f"configuration, as seed {first.seed} of {_words(first)}: {first.objective:.4g}.",
        trials=tuple(sorted(outliers)),
        statistic=float(len(outliers)),
        threshold=0.0,
    )


def oscillation(view: SweepView) -> SweepOutcome:
    """Inform about trials whose accuracy oscillates most of the time."""
    shares = {}
    for trial in view.trials:
        curve = next((trial.curves[name] for name in METRICS if trial.curves.get(name)), ())
        values = [value for value in curve if math.isfinite(value)]
        if len(values) >= whole("trend_window"):
            shares[trial.trial_id] = _swings(values, _gap(values, trial.val_n)) / len(values)
    if not shares:
        return insufficient("No trial has ten evaluations of an accuracy.")
    limit = margin("oscillation_share")
    oscillating = [trial_id for trial_id, share in shares.items() if share >= limit]
    if not oscillating:
        return clear(f"The accuracy of {len(shares)} trials does not oscillate.")
    return SweepOutcome(
        FindingState.FIRED,
        f"The accuracy of {len(oscillating)} of {len(shares)} trials swings by "
        f"{margin('oscillation_gap'):g} or more, and by more than the validation samples explain, "
        f"in at least {limit:.0%} of the evaluations.",
        trials=tuple(oscillating),
        statistic=max(shares.values()),
        threshold=limit,
    )


def _losses(trial: SweepTrial) -> tuple[float, ...] | None:
    """A trial's losses; None for curves too short or too flat to distinguish trials."""
    curves = [trial.curves.get(name, ()) for name in COMPARED]
    values = {value for curve in curves for value in curve if math.isfinite(value)}
    if max(map(len, curves)) < whole("persistence") or len(values) < whole("persistence"):
        return None
    return (*curves[0], math.nan, *curves[1])


def _equal_runs(comparable: Sequence[tuple[SweepTrial, tuple[float, ...]]]) -> dict[str, int]:
    """Number the runs by trial id; curves that are equal to 1 in a million are one run.

    Only neighbours in the order of their means are compared, so that thousands take a second.
    """
    ordered = sorted(comparable, key=lambda pair: (_mean(pair[1]), pair[0].trial_id))
    run_numbers: dict[str, int] = {}
    for place, (trial, values) in enumerate(ordered):
        run_numbers[trial.trial_id] = place
        for other, before in reversed(ordered[:place]):
            if not math.isclose(_mean(before), _mean(values), rel_tol=2.0 * NEARLY):
                break
            if _equal(values, before):
                run_numbers[trial.trial_id] = run_numbers[other.trial_id]
                break
    return run_numbers


def _mean(values: Iterable[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return math.fsum(abs(value) for value in finite) / len(finite)


def _equal(values: Sequence[float], other: Sequence[float]) -> bool:
    return len(values) == len(other) and all(
        math.isclose(a, b, rel_tol=NEARLY) or (math.isnan(a) and math.isnan(b))
        for a, b in zip(values, other, strict=True)
    )


def _sharing(
    comparable: Iterable[tuple[SweepTrial, object]],
    run_of: Mapping[str, int],
    same: Callable[[SweepTrial], Hashable],
    differs: Callable[[SweepTrial], Hashable],
) -> list[list[SweepTrial]]:
    """Groups of equal runs that are alike in one respect and differ in another."""
    groups: dict[Hashable, list[SweepTrial]] = defaultdict(list)
    for trial, _ in comparable:
        groups[run_of[trial.trial_id], same(trial)].append(trial)
    return [group for group in groups.values() if len({differs(one) for one in group}) > 1]


def _differing(groups: Iterable[Sequence[SweepTrial]]) -> list[str]:
    """The factors in which trials of a group differ, in alphabetical order."""
    return sorted(
        {
            name
            for group in groups
            for trial, other in combinations(group, 2)
            for name in trial.levels
            if trial.levels[name] != other.levels.get(name)
        }
    )


def _never_matters(
    comparable: Iterable[tuple[SweepTrial, object]], run_of: Mapping[str, int], name: str
) -> bool:
    """Whether every pair of trials that differ in this factor alone are equal runs."""
    runs: dict[tuple[object, ...], set[int]] = defaultdict(set)
    levels: dict[tuple[object, ...], set[Scalar | None]] = defaultdict(set)
    for trial, _ in comparable:
        if name in trial.levels:
            rest = tuple(pair for pair in trial.arm if pair[0] != name)
            runs[trial.seed, rest].add(run_of[trial.trial_id])
            levels[trial.seed, rest].add(trial.levels[name])
    several = [key for key, seen in levels.items() if len(seen) > 1]
    return bool(several) and all(len(runs[key]) == 1 for key in several)


def _next_to(
    view: SweepView, best: tuple[tuple[str, Scalar | None], ...], name: str
) -> list[tuple[float, list[SweepTrial]]]:
    """The arms that differ from the best one in this number alone, by the next value each way."""
    here = dict(best)[name]
    if isinstance(here, (bool, str)) or here is None:
        return []
    rest = [pair for pair in best if pair[0] != name]
    beside: dict[float, list[SweepTrial]] = {}
    for arm, trials in view.arms.items():
        level = dict(arm).get(name)
        same = [pair for pair in arm if pair[0] != name] == rest
        judged = _judged(trials)
        if same and judged and isinstance(level, (int, float)) and level != here:
            beside[float(level)] = judged
    above = min((value for value in beside if value > here), default=None)
    below = max((value for value in beside if value < here), default=None)
    return [(value, beside[value]) for value in (above, below) if value is not None]


def _gap(values: Sequence[float], val_n: int | None) -> float:
    """The least size of a swing: the margin, or three standard errors of a difference."""
    if not val_n:
        return margin("oscillation_gap")
    share = min(max(math.fsum(values) / len(values), 0.0), 1.0)
    error = math.sqrt(2.0 * share * (1.0 - share) / val_n)
    return max(margin("oscillation_gap"), SAMPLING_ERRORS * error)


def _swings(values: Sequence[float], gap: float) -> int:
    """The number of moves of at least `gap` between adjacent turning points."""
    moved = [values[0], *(here for before, here in pairwise(values) if here != before)]
    turns = [
        here
        for before, here, after in zip(moved, moved[1:], moved[2:], strict=False)
        if (here - before) * (after - here) < 0.0
    ]
    return sum(abs(there - here) >= gap for here, there in pairwise(turns))


def _middle(values: Sequence[float]) -> float:
    ordered = sorted(value if math.isfinite(value) else math.inf for value in values)
    return ordered[len(ordered) // 2]


def _words(trial: SweepTrial) -> str:
    return ", ".join(f"{name} = {value}" for name, value in trial.arm) or "the only configuration"


SWEEP_DETECTORS = (
    SweepDetector(
        name="duplicate_trials",
        version="1.1",
        title="Duplicate trials",
        severity=Severity.WARNING,
        rule="Trials of one seed and different configurations, or of one configuration and "
        "different seeds, have equal losses in every evaluation. A warning if some factor, or the "
        "seed, never changes anything in this sweep, information if a factor does elsewhere.",
        formula="|curves(a) - curves(b)| <= 1e-6 |curves(b)|, as equal runs on a GPU; seed(a) = "
        "seed(b) and configuration(a) != configuration(b), or the other way round",
        source="SageMaker Debugger's SimilarAcrossRuns, made exact: a setting that the "
        "training ignores is the most common false ablation.",
        remedy="Check where the training reads the setting; `check_workload` tests every level.",
        false_alarms="A setting without effect given the others (the width of a cap that is off).",
        margins=("persistence",),
        function=duplicate_trials,
    ),
    SweepDetector(
        name="all_trials_no_skill",
        version="1.1",
        title="No configuration has any skill",
        severity=Severity.WARNING,
        rule="Every trial of five or more configurations that could be judged lacks skill (no "
        "skill, ranking at chance, collapse onto a class, constant output, memorisation).",
        formula="configurations >= 5, no judged trial with skill, at most a fifth inconclusive",
        source="If the configuration does not matter, the configuration is not the cause.",
        remedy="Check the data, the labels, their join or the loss, not the settings; the task may "
        "also be unpredictable.",
        false_alarms="A sweep over settings that break the training on purpose.",
        margins=("sweep_configs",),
        function=all_trials_no_skill,
    ),
    SweepDetector(
        name="edge_of_stability",
        version="1.1",
        title="The best configuration borders on divergence",
        severity=Severity.INFO,
        rule="The next value of a numeric factor next to the best healthy configuration, with the "
        "others equal, diverges in most of its trials.",
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
        version="1.1",
        title="The verdict depends on the seed",
        severity=Severity.WARNING,
        rule="Trials of one configuration are healthy with one seed and pathological with another, "
        "in more trials than wrong labels explain.",
        formula="P(Binomial(trials, 0.02) >= trials with the rarer verdict of their arm) <= 0.05, "
        "over the sweep, or for an arm after Bonferroni's correction",
        source="A result that holds for some seeds is a result about the seeds.",
        remedy="Run more seeds before believing either, and report the share; a steadier "
        "initialisation or a warmup often removes it.",
        false_alarms="A rare failure of the machine rather than of the configuration.",
        margins=(),
        function=seed_instability,
    ),
    SweepDetector(
        name="seed_outlier",
        version="1.0",
        title="Outlying seed",
        severity=Severity.WARNING,
        rule="The objective of one seed lies outside the prediction interval of the other seeds "
        "of its configuration, by more than a tenth of their mean.",
        formula="|x - mean| / (s sqrt(1 + 1/n)) by Student's t, s pooled over the healthy arms, "
        "Holm over the sweep at 0.05",
        source="A t prediction interval for one further observation.",
        remedy="Inspect that trial before averaging; report the median with the mean, and run more "
        "seeds.",
        false_alarms="Arms whose noise is far larger than that of the healthy arms.",
        margins=(),
        function=seed_outlier,
    ),
    SweepDetector(
        name="oscillation",
        version="1.1",
        title="Oscillating accuracy",
        severity=Severity.INFO,
        rule="An accuracy swings by 0.03 or more, and by more than its sampling error explains, "
        "between turning points in at least a fifth of the evaluations.",
        formula="#(|extremum - next extremum| >= max(0.03, 3 sqrt(2 p (1 - p) / val_n))) / "
        "evaluations >= 0.2, over >= 10 evaluations",
        source="AutoTrainer (0.03 and 20 %), as evidence only.",
        remedy="Lower the learning rate, enlarge the batch, or average the weights.",
        false_alarms="Small validation splits swing by chance; cyclic learning rates by intent.",
        margins=("oscillation_gap", "oscillation_share", "trend_window"),
        function=oscillation,
    ),
)
