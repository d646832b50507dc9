"""What one more true fact does to a verdict, over a slice of the corpus: hardly ever weaken it."""

from dataclasses import replace

from docs.tools.corpus.corpus import read
from docs.tools.corpus.telemetry import Level, at_level
from sickbay.trials.contract import Health
from sickbay.trials.diagnosis.diagnose import look
from sickbay.trials.history import History

FACTS = {"n": {}, "floors": {}, "class_counts": ()}
EVERY = 4  # of the slice's cases
TASKS = ("counts", "digits", "hinge", "long_tail", "missing", "text")


def poorer(history):
    """The same history with each fact left out, the planned epochs among them."""
    rows, facts = history.rows(), history.facts
    lacking = [replace(facts, **{name: none}) for name, none in FACTS.items()]
    yield from (
        History(rows, one, history.epochs_planned, finished=True) for one in lacking if one != facts
    )
    yield History(rows, facts, len(history), finished=True)


def test_a_true_fact_hardly_ever_makes_a_verdict_weaker(built_in):
    asked, weaker = 0, []
    for case in list(read(tasks=TASKS, seeds=[0]))[::EVERY]:
        history = at_level(case.history, Level.ORDINARY)
        with_facts = look(history, built_in).label.health
        for variant in poorer(history):
            asked += 1
            untold = look(variant, built_in).label.health
            if with_facts is Health.INCONCLUSIVE and untold is not Health.INCONCLUSIVE:
                weaker.append(case.key)
    assert asked > 150
    assert len(weaker) <= 0.02 * asked, weaker  # decision 66 says why not none
