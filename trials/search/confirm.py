"""Confirmation: few seeds for each configuration of a search, fresh ones for the winners.

    seeds: {search: 1, confirm: 5, top: 3}

The best of many is partly lucky, so once the search is over its best configurations and the
baseline are run again with seeds that did not select them.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence

from optuna.trial import FrozenTrial

from sickbay.trials.contract import Goal, Scalar, TrialConfig
from sickbay.trials.events import TrialEnded
from sickbay.trials.search.loop import Search
from sickbay.trials.search.outcomes import Aggregate, TrialOutcome, aggregate, read_outcomes
from sickbay.trials.search.study import SearchTask, is_configuration
from sickbay.trials.spec.model import ConfirmedSeeds
from sickbay.trials.spec.plan import baseline_choice


def winners(task: SearchTask, known: Sequence[FrozenTrial]) -> list[Mapping[str, Scalar]]:
    """The parameters of at most `top` best configurations of a study, without the baseline.

    Only the search's own seeds count, and only finished configurations with a value of their own;
    those without a pathological seed come first.
    """
    assert isinstance(task.spec.seeds, ConfirmedSeeds)
    stored = read_outcomes(task.store, task.sweep_id)
    start = baseline_choice(task.spec, task.workload)
    baseline = _outcomes(task, start, stored)
    sign = 1.0 if task.goals[0].goal is Goal.MINIMIZE else -1.0
    candidates: list[tuple[Aggregate, FrozenTrial]] = []
    for trial in known:
        outcomes = _outcomes(task, trial.params, stored) if is_configuration(trial) else {}
        if outcomes and task.choice(trial.params) != task.choice(start):
            value = aggregate(outcomes, baseline, task.goals, ())
            if not value.stand_in and value.pruned_at is None:
                candidates.append((value, trial))

    def order(candidate: tuple[Aggregate, FrozenTrial]) -> tuple[float, float, int]:
        value, trial = candidate
        return value.constraint or 0.0, sign * value.values[0], trial.number

    best = sorted(candidates, key=order)[: task.spec.seeds.top]
    return [trial.params for _, trial in best]


def _outcomes(
    task: SearchTask, params: Mapping[str, Scalar], stored: Mapping[str, TrialOutcome]
) -> dict[int, TrialOutcome]:
    """What became of the search's own seeds of a configuration, by seed."""
    trials = {trial.seed: stored.get(trial.trial_id) for trial in task.trials(params)}
    return {seed: outcome for seed, outcome in trials.items() if outcome and outcome.judged}


def confirmation(task: SearchTask, known: Sequence[FrozenTrial]) -> list[TrialConfig]:
    """The trials that confirm: the baseline and the winners, seed after seed."""
    seeds = task.spec.seeds
    assert isinstance(seeds, ConfirmedSeeds)
    chosen = [baseline_choice(task.spec, task.workload), *winners(task, known)]
    return [
        trial for seed in seeds.fresh for params in chosen for trial in task.trials(params, [seed])
    ]


class ConfirmedSearch:
    """A search, and then the confirmation of its best; a `TrialSource`."""

    def __init__(self, search: Search, done: Callable[[str], bool]) -> None:
        """`done(trial_id)` says which trials of the confirmation need not be run."""
        self._search, self._done = search, done
        self._queue: deque[TrialConfig] | None = None  # None: nothing was chosen yet
        self._waiting: set[str] = set()
        self._choose()

    @property
    def finished(self) -> bool:
        """Whether no further trial will begin."""
        return self._queue is not None and not self._queue

    @property
    def complete(self) -> bool:
        """Whether the best are confirmed."""
        return self.finished and not self._waiting

    def next(self, *, may_ask: bool = True) -> TrialConfig | None:
        """The next trial of the search, then of the confirmation."""
        trial = self._search.next(may_ask=may_ask)
        if trial is None:
            self._choose()  # an exhausted space is seen only when one more was asked for
        if trial is None and self._queue:
            return self._queue.popleft()
        return trial

    def ended(self, event: TrialEnded) -> None:
        """Take in the end of a trial; after the search's last, choose what is confirmed."""
        self._search.ended(event)
        if event.state != "cancelled":
            self._waiting.discard(event.trial_id)
        self._choose()

    def _choose(self) -> None:
        if self._queue is not None or not self._search.complete:
            return
        trials = confirmation(self._search.task, self._search.known)
        missing = [trial for trial in trials if not self._done(trial.trial_id)]
        self._queue = deque(missing)
        self._waiting = {trial.trial_id for trial in missing}
