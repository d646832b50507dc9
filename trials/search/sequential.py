"""Sequential sweeps: seeds are added until each arm's verdict against the reference is settled.

    seeds: {until: resolved, at_most: 20, smallest_effect: 0.01}

`replay` goes through the completed seed blocks and settles arms, which then get no further seed. It
depends on the results alone, so replaying a stored sweep repeats its decisions.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sickbay.trials.contract import Goal, Objective, TrialConfig, TrialState
from sickbay.trials.events import TrialEnded
from sickbay.trials.search.outcomes import TrialOutcome, ended_rows, in_reference_units, outcome_of
from sickbay.trials.search.sequential_inference import (
    EFFECT_ALPHA,
    FEWEST_PAIRS,
    HEALTH_ALPHA,
    LEAST_CHANCE,
    EffectTest,
    HealthTest,
    look,
)
from sickbay.trials.spec.model import SequentialSeeds
from sickbay.trials.spec.plan import BASELINE_ARM, arm_name
from sickbay.trials.store.files import Store


class Effect(StrEnum):
    """Verdict on an arm's mean difference to the reference."""

    BETTER = "better"
    WORSE = "worse"
    EQUIVALENT = "equivalent"  # closer to the reference than the smallest effect of interest
    IDENTICAL = "no difference"  # the objectives agree to the last bit
    UNCLEAR = "unclear"  # not to be settled within the seeds that are allowed
    UNKNOWN = "unknown"  # too few seeds in which both trials are healthy
    OPEN = "open"


class HealthEffect(StrEnum):
    """Verdict on how often an arm is pathological, compared with the reference."""

    HEALTHIER = "healthier"
    LESS_HEALTHY = "less healthy"
    ALIKE = "no difference shown"
    OPEN = "open"


@dataclass(frozen=True)
class ArmVerdict:
    """An arm against the reference after `seeds` seeds, in `pairs` of which both were healthy.

    `mean` is the mean difference, arm minus reference; `low` and `high` are the repeated confidence
    interval that decides, `p_value` that of the whole sequence. `pathological` and
    `reference_pathological` are of the `judged` seeds.
    """

    arm: str
    effect: Effect
    health: HealthEffect
    seeds: int
    pairs: int
    mean: float
    low: float
    high: float
    p_value: float
    judged: int
    pathological: int
    reference_pathological: int
    health_p_value: float

    @property
    def settled(self) -> bool:
        """Whether no further seed is needed."""
        return self.effect != Effect.OPEN and self.health != HealthEffect.OPEN


@dataclass(frozen=True)
class Progress:
    """Progress of a sequential sweep: the verdicts, and the next block.

    `seeds` are those of the next block, empty when the sweep is over; `arms` run in it, the
    reference first.
    """

    verdicts: tuple[ArmVerdict, ...]
    arms: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()


@dataclass
class _Arm:
    name: str
    effect_test: EffectTest = field(default_factory=EffectTest)
    health_test: HealthTest = field(default_factory=HealthTest)
    effect: Effect = Effect.OPEN
    health: HealthEffect = HealthEffect.OPEN
    seeds: int = 0
    share: float = EFFECT_ALPHA  # the level of the interval that decided, or decides now

    @property
    def open(self) -> bool:
        return self.effect == Effect.OPEN or self.health == HealthEffect.OPEN


Results = Callable[[str, int], TrialOutcome | None]  # of an arm and a seed; None: has not ended


def replay(
    rule: SequentialSeeds, arms: Sequence[str], goal: Objective, results: Results
) -> Progress:
    """Go through the blocks that have ended; `arms` are the names, the reference first."""
    reference, others = arms[0], [_Arm(name) for name in arms[1:]]
    done = 0
    while done < rule.at_most and any(arm.open for arm in others):
        block = _block(rule, done)
        running = [arm for arm in others if arm.open]
        names = (reference, *(arm.name for arm in running))
        results_by_pair = {(name, seed): results(name, seed) for name in names for seed in block}
        if any(result is None for result in results_by_pair.values()):
            return Progress(tuple(map(_verdict, others)), names, block)
        for arm in running:
            for seed in block:
                pair = results_by_pair[arm.name, seed], results_by_pair[reference, seed]
                _take(arm, seed, *pair, goal)
        done += len(block)
        _settle(others, running, rule, goal)
    return Progress(tuple(map(_verdict, others)))


def _block(rule: SequentialSeeds, done: int) -> tuple[int, ...]:
    """The seeds that come next: enough for a first look, then a few at a time."""
    step = max(FEWEST_PAIRS, rule.block) if done == 0 else rule.block
    return tuple(range(done, min(rule.at_most, done + step)))


def _take(
    arm: _Arm, seed: int, mine: TrialOutcome | None, theirs: TrialOutcome | None, goal: Objective
) -> None:
    assert mine is not None
    assert theirs is not None
    arm.seeds += 1
    if mine.decided and theirs.decided:
        arm.health_test.add(mine.unusable, theirs.unusable)
    if mine.sound and theirs.sound:
        difference = in_reference_units(mine, theirs, goal) - theirs.values[0]
        arm.effect_test.differences[seed] = difference


def _settle(
    all_arms: Sequence[_Arm], open_arms: Sequence[_Arm], rule: SequentialSeeds, goal: Objective
) -> None:
    """Look; make every claim that holds, then settle as open what cannot be decided."""
    look([arm.effect_test for arm in all_arms], [arm.effect_test for arm in open_arms])
    for arm in open_arms:
        _settle_untested(arm, rule)
    news = True
    while news:  # each claim raises the level of the others' tests
        news = False
        for arm in open_arms:
            news = _claim_effect(arm, all_arms, rule, goal) or news
            news = _claim_health(arm, all_arms) or news
    for arm in open_arms:
        _give_up(arm, rule, _health_share(all_arms))


CLAIMS = (Effect.BETTER, Effect.WORSE, Effect.EQUIVALENT)
HEALTH_CLAIMS = (HealthEffect.HEALTHIER, HealthEffect.LESS_HEALTHY)
UNTESTED = (Effect.UNKNOWN, Effect.IDENTICAL)  # no claim is ever made of these


def _effect_share(arms: Sequence[_Arm]) -> float:
    return EFFECT_ALPHA / max(1, sum(arm.effect not in (*CLAIMS, *UNTESTED) for arm in arms))


def _health_share(arms: Sequence[_Arm]) -> float:
    return HEALTH_ALPHA / max(1, sum(arm.health not in HEALTH_CLAIMS for arm in arms))


def _settle_untested(arm: _Arm, rule: SequentialSeeds) -> None:
    """Settle the effect of an arm without pairs, or with identical ones; others get its share."""
    test = arm.effect_test
    if arm.effect != Effect.OPEN:
        return
    if test.pairs < FEWEST_PAIRS:
        if arm.seeds >= rule.at_most or _pairs_to_come(arm, rule) < FEWEST_PAIRS:
            arm.effect = Effect.UNKNOWN
    elif test.error == 0.0 and test.mean == 0.0:
        arm.effect = Effect.IDENTICAL


def _pairs_to_come(arm: _Arm, rule: SequentialSeeds) -> int:
    """How many pairs an arm has by its last seed if trials stay healthy as often as so far."""
    return round(arm.effect_test.pairs / arm.seeds * rule.at_most)


def _claim_effect(
    arm: _Arm, all_arms: Sequence[_Arm], rule: SequentialSeeds, goal: Objective
) -> bool:
    if arm.effect != Effect.OPEN:
        return False
    test, margin = arm.effect_test, rule.smallest_effect
    arm.share = _effect_share(all_arms)
    if test.p_value <= arm.share:
        better = (test.mean < 0.0) == (goal.goal is Goal.MINIMIZE)
        arm.effect = Effect.BETTER if better else Effect.WORSE
        return True
    if margin is not None and test.equivalent(arm.share, margin):
        arm.effect = Effect.EQUIVALENT
        return True
    return False


def _claim_health(arm: _Arm, all_arms: Sequence[_Arm]) -> bool:
    if arm.health != HealthEffect.OPEN or arm.health_test.p_value > _health_share(all_arms):
        return False
    more = arm.health_test.arm > arm.health_test.reference
    arm.health = HealthEffect.LESS_HEALTHY if more else HealthEffect.HEALTHIER
    return True


def _give_up(arm: _Arm, rule: SequentialSeeds, health_share: float) -> None:
    """Settle without a claim what would stay open until the last seed, or has come to it."""
    last = arm.seeds >= rule.at_most
    judged = round(arm.health_test.seeds / arm.seeds * rule.at_most)
    if arm.health == HealthEffect.OPEN and (
        last or not arm.health_test.reaches(health_share, judged)
    ):
        arm.health = HealthEffect.ALIKE
    chance = arm.effect_test.chance(arm.share, _pairs_to_come(arm, rule), rule.smallest_effect)
    if arm.effect == Effect.OPEN and (last or chance < LEAST_CHANCE):
        arm.effect = Effect.UNCLEAR


def _verdict(arm: _Arm) -> ArmVerdict:
    low, high = arm.effect_test.interval(arm.share)
    health = arm.health_test
    return ArmVerdict(
        arm=arm.name,
        effect=arm.effect,
        health=arm.health,
        seeds=arm.seeds,
        pairs=arm.effect_test.pairs,
        mean=arm.effect_test.mean,
        low=low,
        high=high,
        p_value=arm.effect_test.p_value,
        judged=health.seeds,
        pathological=health.arm,
        reference_pathological=health.reference,
        health_p_value=health.p_value,
    )


def by_arm_and_seed(trials: Sequence[TrialConfig]) -> dict[tuple[str, int], TrialConfig]:
    """The trials of a plan by arm and seed, the reference's first."""
    placed = {(arm_name(trial.config, trial.changed), trial.seed): trial for trial in trials}
    return dict(sorted(placed.items(), key=lambda item: item[0][0] != BASELINE_ARM))


def stored_progress(
    rule: SequentialSeeds,
    trials: Mapping[tuple[str, int], TrialConfig],
    goal: Objective,
    outcomes: Mapping[str, TrialOutcome],
) -> Progress:
    """Replay a stored sweep; `outcomes` by trial id. A cancelled trial has not ended."""
    ended = {
        key: outcome for key, outcome in outcomes.items() if outcome.state != TrialState.CANCELLED
    }
    arms = tuple(dict.fromkeys(arm for arm, _ in trials))
    return replay(rule, arms, goal, lambda arm, seed: ended.get(trials[arm, seed].trial_id))


def progress_of_sweep(store: Store, sweep_id: str, spec: Mapping[str, Any]) -> Progress | None:
    """Replay a stored sweep by its stored spec, failed trials as ended; None if not sequential."""
    seeds, objective = spec.get("seeds"), spec.get("objective")
    if not isinstance(seeds, Mapping) or "until" not in seeds or not objective:
        return None
    rows = [row for row in ended_rows(store, sweep_id) if row["state"] != TrialState.CANCELLED]
    outcomes = {(str(row["arm"]), int(row["seed"])): outcome_of(row) for row in rows}
    arms = sorted({arm for arm, _ in outcomes} - {BASELINE_ARM})
    goal = Objective(objective["signal"], Goal(objective["goal"]))
    rule = SequentialSeeds(**seeds)
    return replay(rule, [BASELINE_ARM, *arms], goal, lambda arm, seed: outcomes.get((arm, seed)))


def reachable(
    rule: SequentialSeeds, progress: Progress, reference: str
) -> Callable[[str, int], bool]:
    """A test whether an arm may still get a seed, or has it."""
    known = {verdict.arm: verdict for verdict in progress.verdicts}
    most = max((verdict.seeds for verdict in progress.verdicts), default=0)

    def may(arm: str, seed: int) -> bool:
        if arm == reference:
            return seed < (rule.at_most if progress.seeds else most)
        verdict = known[arm]
        return seed < (verdict.seeds if verdict.settled else rule.at_most)

    return may


class SequentialSweep:
    """A `TrialSource` for the trials of a sequential sweep."""

    def __init__(
        self,
        rule: SequentialSeeds,
        trials: Mapping[tuple[str, int], TrialConfig],
        goal: Objective,
        read: Callable[[str], TrialOutcome | None],
        done: Callable[[str], bool],
    ) -> None:
        """`trials` by arm and seed, the reference's first; `read` returns a stored trial's outcome.

        `done(trial_id)` says which stored trials need not be run again.
        """
        self._rule, self._trials, self._goal = rule, trials, goal
        self._arms = tuple(dict.fromkeys(arm for arm, _ in trials))
        self._read = read
        self._ended = {
            trial.trial_id: read(trial.trial_id)
            for trial in trials.values()
            if done(trial.trial_id)
        }
        self._queue: deque[TrialConfig] = deque()
        self._waiting: set[str] = set()
        self.progress = Progress(())
        self._advance()

    @property
    def finished(self) -> bool:
        """Whether no further trial will begin."""
        return not self._queue and not self.progress.seeds

    @property
    def complete(self) -> bool:
        """Whether every arm is settled, or at its last seed."""
        return self.finished and not self._waiting

    def next(self, *, may_ask: bool = True) -> TrialConfig | None:
        """The next trial to run; None where there is none now (see `finished`)."""
        del may_ask
        return self._queue.popleft() if self._queue else None

    def ended(self, event: TrialEnded) -> None:
        """Take in the end of a trial; with the last of a block, decide which arms go on."""
        if event.trial_id not in self._waiting or event.state == TrialState.CANCELLED:
            return  # one that was cancelled will go on: its block stays open
        self._ended[event.trial_id] = self._read(event.trial_id)
        self._waiting.discard(event.trial_id)
        if not self._waiting:
            self._advance()

    def _advance(self) -> None:
        self.progress = replay(self._rule, self._arms, self._goal, self._result)
        block = [(arm, seed) for seed in self.progress.seeds for arm in self.progress.arms]
        missing = [self._trials[pair] for pair in block if self._result(*pair) is None]
        self._queue.extend(missing)
        self._waiting = {trial.trial_id for trial in missing}

    def _result(self, arm: str, seed: int) -> TrialOutcome | None:
        return self._ended.get(self._trials[arm, seed].trial_id)
