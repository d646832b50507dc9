"""Floors from losses: under torch's own loss no constant does better, and the best is as good."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from sickbay.trials.contract import TaskFacts, TaskKind
from sickbay.trials.probes.facts import facts_of

torch.manual_seed(0)
LABELS = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)
BITS = torch.tensor([1.0] * 20 + [0.0] * 80)
NUMBERS = torch.randn(101).double() ** 3
WEIGHT = torch.tensor([1.0, 2.0, 5.0])


def grid_floor(loss, targets, candidates):
    """The least loss over a list of constant outputs: nothing but torch's own loss."""
    shape = targets.shape
    return min(
        float(loss(c.expand(len(targets), -1) if c.dim() else c.expand(shape), targets))
        for c in candidates
    )


def simplex(step=0.01):
    points = torch.arange(step, 1.0, step).double()
    pairs = [(a, b) for a in points for b in points if a + b < 1 - step / 2]
    return [torch.stack([a, b, 1 - a - b]).log().float() for a, b in pairs]


@pytest.mark.parametrize(
    "loss",
    [
        nn.CrossEntropyLoss(),
        nn.CrossEntropyLoss(weight=WEIGHT),
        nn.CrossEntropyLoss(label_smoothing=0.1),
        nn.CrossEntropyLoss(weight=WEIGHT, label_smoothing=0.2),
        nn.NLLLoss(weight=WEIGHT),
    ],
)
def test_the_floor_of_classes(loss):
    floor = facts_of(loss, LABELS).floors["val_loss"]
    best = grid_floor(loss, LABELS, simplex())
    assert floor <= best + 1e-6
    assert floor == pytest.approx(best, abs=1e-3)


def test_floors_by_hand():
    shares = (0.6, 0.3, 0.1)
    plain = -sum(share * math.log(share) for share in shares)
    assert facts_of("cross_entropy", LABELS).floors["val_loss"] == pytest.approx(plain)
    even = facts_of("bce", BITS, weights=[4.0]).floors["val_loss"]  # 0.2 · 4 = 0.8 = 1 - 0.2
    assert even == pytest.approx(1.6 * math.log(2))
    assert facts_of("mse", [0.0, 2.0]).floors["val_loss"] == pytest.approx(1.0)
    assert facts_of("l1", [0.0, 0.0, 3.0]).floors["val_loss"] == pytest.approx(1.0)


@pytest.mark.parametrize("pos_weight", [None, torch.tensor([3.0])])
def test_the_floor_of_two_outcomes(pos_weight):
    loss = nn.BCEWithLogitsLoss(pos_weight=pos_weight)
    best = grid_floor(loss, BITS, torch.linspace(-5, 5, 4001))
    assert facts_of(loss, BITS).floors["val_loss"] == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize(
    "loss", [nn.MSELoss(), nn.L1Loss(), nn.HuberLoss(delta=0.5), nn.SmoothL1Loss(beta=2.0)]
)
def test_the_floor_of_numbers(loss):
    best = grid_floor(loss, NUMBERS, torch.linspace(-3, 3, 20001).double())
    facts = facts_of(loss, NUMBERS)
    assert facts.floors["val_loss"] == pytest.approx(best, abs=1e-6)
    assert facts.kind is TaskKind.REGRESSION


def focal(logits, targets, alpha=0.25, gamma=2.0):
    p = torch.sigmoid(logits)
    right = torch.where(targets > 0.5, p, 1 - p)
    share = torch.where(targets > 0.5, alpha, 1 - alpha)
    return (-share * (1 - right) ** gamma * right.log()).mean()


def test_any_other_loss_is_searched():
    best = grid_floor(focal, BITS, torch.linspace(-8, 8, 16001))
    facts = facts_of(focal, BITS)
    assert facts.floors["val_loss"] == pytest.approx(best, abs=1e-6)
    assert (facts.kind, facts.class_counts) == (TaskKind.BINARY, (80, 20))


def test_a_loss_of_ones_own_over_classes_is_searched_on_logits():
    def mine(logits, targets):
        return functional.cross_entropy(logits, targets)

    floor = facts_of(mine, LABELS, classes=3).floors["val_loss"]
    assert floor == pytest.approx(facts_of("cross_entropy", LABELS).floors["val_loss"], abs=1e-6)


def test_what_else_is_known():
    facts = facts_of(nn.CrossEntropyLoss(), LABELS, train_targets=torch.tensor([0, 1, 2, 2]))
    assert (facts.kind, facts.class_counts, facts.n) == (
        TaskKind.MULTICLASS,
        (1, 1, 2),
        {"val": 100},
    )
    ignored = torch.cat([LABELS, torch.full((50,), -100)])
    assert facts_of(nn.CrossEntropyLoss(), ignored).floors == facts_of("nll", LABELS).floors
    with pytest.raises(ValueError, match="'hinge' is none of cross_entropy"):
        facts_of("hinge", LABELS)
    with pytest.raises(ValueError, match="there are none"):
        facts_of("mse", [])


def focal_by_hand(share, alpha, gamma):
    """The least of the focal loss over p, on a fine grid, without torch."""
    grid = (i / 100_000 for i in range(1, 100_000))
    return min(
        -alpha * share * (1 - p) ** gamma * math.log(p)
        - (1 - alpha) * (1 - share) * p**gamma * math.log(1 - p)
        for p in grid
    )


def huber_by_hand(values, delta):
    def loss(c):
        gaps = [abs(v - c) for v in values]
        return sum(g * g / 2 if g <= delta else delta * (g - delta / 2) for g in gaps) / len(gaps)

    return min(loss(i / 1000) for i in range(-3000, 3001))


def entropy(*masses):
    """The cross-entropy of the best constant: -sum a log(a / sum a)."""
    return -sum(a * math.log(a / sum(masses)) for a in masses)


NAMED = {
    # 60, 30 and 10 samples; torch divides by the summed weights
    "cross_entropy": ({}, LABELS, entropy(0.6, 0.3, 0.1)),
    "cross_entropy weighted": ({"weights": [1, 2, 5]}, LABELS, entropy(0.6, 0.6, 0.5) / 1.7),
    "cross_entropy smoothed": ({"smoothing": 0.3}, LABELS, entropy(0.52, 0.31, 0.17)),
    "nll": ({}, LABELS, entropy(0.6, 0.3, 0.1)),
    "bce": ({}, BITS, entropy(0.2, 0.8)),
    "bce weighted": ({"weights": 9.0}, BITS, entropy(1.8, 0.8)),
    "focal": ({"weights": 0.25, "gamma": 2.0}, BITS, focal_by_hand(0.2, 0.25, 2.0)),
    "focal of bits": ({"gamma": 3.0}, BITS, 2 * focal_by_hand(0.2, 0.5, 3.0)),
    "mse": ({}, [0.0, 2.0, 4.0], 8 / 3),
    "l1": ({}, [0.0, 1.0, 5.0], 5 / 3),
    "huber": ({"delta": 0.5}, NUMBERS, huber_by_hand(NUMBERS.tolist(), 0.5)),
}


@pytest.mark.parametrize("case", NAMED)
def test_facts_by_the_name_of_a_loss_against_its_formula(case):
    options, targets, floor = NAMED[case]
    facts = TaskFacts.of(case.split()[0], targets, **options)
    assert facts.floors["val_loss"] == pytest.approx(floor, rel=1e-4)


def test_focal_of_several_classes_without_gamma_is_the_weighted_cross_entropy():
    """Which divides by the number of samples, not by their weights."""
    facts = TaskFacts.of("focal", LABELS, weights=[1.0, 2.0, 5.0], gamma=0.0)
    assert facts.floors["val_loss"] == pytest.approx(entropy(0.6, 0.6, 0.5), rel=1e-6)
    assert (facts.kind, facts.class_counts) == (TaskKind.MULTICLASS, (60, 30, 10))


def test_weights_beside_a_loss_that_has_its_own_are_refused():
    with pytest.raises(ValueError, match="this loss holds its own"):
        TaskFacts.of(nn.CrossEntropyLoss(), LABELS, weights=[1.0, 2.0, 5.0])
