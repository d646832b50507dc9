import numpy as np
import pytest
from scipy.stats import norm, rankdata

from sickbay.trials.contract import FindingState, Row, TaskFacts, TaskKind
from sickbay.trials.detectors import chance_level_ranking, majority_class_collapse
from sickbay.trials.evidence.classes import (
    class_sizes,
    collapse_since,
    confusion,
    metric_skill,
    ranking,
    ranking_lower,
    ranks_well,
    skill_on_its_way,
    worthless_since,
)
from sickbay.trials.history import History

BINARY = TaskFacts(kind=TaskKind.BINARY)


def make(columns, facts=BINARY, n=20, *, finished=True):
    rows = [Row(i + 1, i + 1, columns) for i in range(n)]
    return History(rows, facts, n, finished=finished)


def test_a_confusion_table_is_read_row_by_row():
    confusions = confusion(make({"val_confusion": [80, 10, 4, 6]}, n=1))
    assert confusions.true.tolist() == [[90, 10]]
    assert confusions.predicted.tolist() == [[84, 16]]
    assert confusions.accuracy == pytest.approx([0.86])
    assert confusions.recall == pytest.approx([0.6])
    assert confusions.minority_predicted == pytest.approx([1.6])


@pytest.mark.parametrize("broken", [[1.0, 2.0, 3.0], [5.0], [-1.0, 2.0, 3.0, 4.0], [0.0] * 4])
def test_what_is_no_table_of_counts_is_not_read(broken):
    assert confusion(make({"val_confusion": broken}, n=1)) is None


def test_a_collapse_does_not_depend_on_the_order_of_classes():
    table = np.array([[800, 0, 0], [100, 0, 0], [100, 0, 0]], dtype=float)
    for order in ([0, 1, 2], [2, 0, 1], [1, 2, 0]):
        permuted = table[np.ix_(order, order)].ravel().tolist()
        assert collapse_since(make({"val_confusion": permuted})) == 0


def test_of_equally_frequent_classes_the_one_that_is_predicted_counts():
    assert collapse_since(make({"val_confusion": [0, 100, 0, 100]})) == 0
    assert collapse_since(make({"val_confusion": [100, 0, 100, 0]})) == 0


@pytest.mark.parametrize(("positives", "proven"), [(28, False), (29, True)])
def test_no_hit_among_29_proves_a_recall_under_a_tenth(positives, proven):
    history = make({"val_confusion": [2900, 0, positives, 0]})
    fired = majority_class_collapse.detect(history).state is FindingState.FIRED
    assert fired is proven


def test_class_sizes_come_from_the_table_or_from_the_training_shares():
    table = {"val_confusion": [80, 10, 4, 6]}
    assert [counts[0] for counts in class_sizes(make(table, n=1))] == [10, 90]
    facts = TaskFacts(kind=TaskKind.BINARY, class_counts=(900, 100), n={"val": 50})
    assert [counts[0] for counts in class_sizes(make({"val_auroc": 0.5}, facts, n=1))] == [5, 45]
    assert np.isnan(class_sizes(make({"val_auroc": 0.5}, n=1))).all()


def test_the_lower_bound_of_an_auroc_spends_its_error():
    columns = {"val_auroc": 0.7, "val_auroc_se": 0.02}
    assert ranking_lower(make(columns)) == pytest.approx(0.7 - norm.isf(0.01) * 0.02)
    first = ranking(make(columns, finished=False)).lower[0]
    assert first == pytest.approx(0.7 - norm.isf(1e-3 * 6 / np.pi**2) * 0.02)


def test_a_perfect_ranking_of_two_positives_proves_nothing():
    columns = {"val_auroc": 1.0, "val_auroc_se": 0.0, "val_confusion": [40, 0, 2, 0]}
    assert ranking_lower(make(columns)) < 0.6
    columns["val_confusion"] = [400, 0, 20, 0]
    assert ranking_lower(make(columns)) > 0.7


def verdicts(positives, auroc, runs=200, base=0.2):
    """States of the detector over simulated rankings of one validation set each."""
    rng = np.random.default_rng(positives)
    n = round(positives / base)
    states = []
    for _ in range(runs):
        scores = rng.normal(size=n)
        scores[:positives] += np.sqrt(2.0) * norm.ppf(auroc)
        ranks = rankdata(scores)[:positives].sum()
        area = (ranks - positives * (positives + 1) / 2) / (positives * (n - positives))
        hits = np.argsort(-scores) < positives
        precision = (np.cumsum(hits) / np.arange(1, n + 1))[hits].mean()
        columns = {"val_auroc": area, "val_auprc": precision}
        columns["val_confusion"] = [n - positives, 0, positives, 0]
        states.append(chance_level_ranking.detect(make(columns, n=4)).state)
    return [state is FindingState.FIRED for state in states]


def ranked(auroc, *, finished, n=12):
    facts = TaskFacts(kind=TaskKind.BINARY, floors={"val_loss": 0.7}, loss_minimum=0.0)
    auroc = np.broadcast_to(auroc, n)
    rows = [
        Row(
            i + 1,
            i + 1,
            {
                "val_loss": 0.7 + 0.001 * (i % 2),
                "val_loss_se": 0.001,
                "val_n": 10_000.0,
                "val_auroc": float(auroc[i]),
                "val_auroc_se": 0.01,
                "val_auprc": 0.1,
                "val_confusion": [9000, 0, 1000, 0],
            },
        )
        for i in range(n)
    ]
    return History(rows, facts, n, finished=finished)


def test_scores_that_rank_well_are_skill_whatever_the_loss_says():
    assert worthless_since(ranked(0.55, finished=True)) == 0
    assert ranks_well(ranked(0.55, finished=True)) is None  # over chance, but not by much
    assert worthless_since(ranked(0.9, finished=True)) is None
    assert "AUROC at least 0.8" in ranks_well(ranked(0.9, finished=True))


def test_a_running_trial_is_granted_a_ranking_that_is_over_chance_or_rises():
    loss = np.full(12, 0.7)
    assert skill_on_its_way(ranked(0.5, finished=False), loss) is None
    assert "better than chance" in skill_on_its_way(ranked(0.6, finished=False), loss)
    rising = skill_on_its_way(ranked(np.linspace(0.4, 0.5, 12), finished=False), loss)
    assert "towards recovery" in rising
    assert skill_on_its_way(ranked(0.6, finished=True), loss) is None


@pytest.mark.parametrize(("positives", "least"), [(20, 0.3), (50, 0.6), (100, 0.9)])
def test_a_worthless_ranking_is_found_more_surely_with_more_positives(positives, least):
    assert least <= np.mean(verdicts(positives, 0.5))


@pytest.mark.parametrize(("auroc", "most"), [(0.60, 0.06), (0.65, 0.01), (0.70, 0.0)])
@pytest.mark.parametrize("positives", [20, 100])
def test_a_ranking_that_is_worth_something_is_spared(positives, auroc, most):
    assert np.mean(verdicts(positives, auroc)) <= most


def counted(facts=None, **columns):
    facts = facts or TaskFacts(kind=TaskKind.BINARY, class_counts=(180, 20), n={"val": 100})
    rows = [Row(i + 1, i + 1, columns) for i in range(5)]
    return History(rows, facts, 5, finished=True)


@pytest.mark.parametrize(
    "columns",
    [
        {"val_tn": 85.0, "val_fp": 5.0, "val_fn": 4.0, "val_tp": 6.0},
        {"val_recall": 0.6, "val_precision": 6 / 11},
        {"val_recall": 0.6, "val_accuracy": 0.91},
    ],
)
def test_a_confusion_table_is_assembled_from_what_was_logged(columns):
    assert confusion(counted(**columns)).table[0].tolist() == [[85, 5], [4, 6]]


def test_no_positive_prediction_is_a_table_too():
    for precision in (0.0, float("nan")):
        confusions = confusion(counted(val_recall=0.0, val_precision=precision))
        assert confusions.table[0].tolist() == [[90, 0], [10, 0]]
    assert confusion(counted(val_recall=0.6)) is None


def test_an_accuracy_proves_skill_by_its_own_samples():
    kind, shares = TaskKind.MULTICLASS, (100, 100, 100)
    many = TaskFacts(kind=kind, class_counts=shares, n={"val": 300})
    few = TaskFacts(kind=kind, class_counts=shares, n={"val": 20})
    assert "0.800" in metric_skill(counted(many, val_accuracy=0.8))
    assert metric_skill(counted(many, val_accuracy=0.4)) is None
    assert metric_skill(counted(few, val_accuracy=0.55)) is None
    assert metric_skill(counted(TaskFacts(kind=kind), val_accuracy=0.8)) is None
