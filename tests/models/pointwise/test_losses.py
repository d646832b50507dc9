"""Losses and floors against formulas that share no code with them."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

from sickbay.models.pointwise.losses import (
    LossOptions,
    best_constant,
    constant_logit,
    constant_logits,
    elementwise_loss,
    flip_weight,
    scene_logits,
    scene_losses,
)

BCE = LossOptions("bce")


def logits(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_bce_is_torch_s_own_with_a_weight_of_positives():
    z, y = torch.randn(50), (torch.rand(50) < 0.3).float()
    theirs = torch.nn.functional.binary_cross_entropy_with_logits(
        z, y, pos_weight=torch.tensor(7.0), reduction="none"
    )
    assert torch.allclose(elementwise_loss(LossOptions("bce", 7.0), z, y), theirs, atol=1e-6)


def test_focal_weighs_positives_by_alpha_and_negatives_by_the_rest():
    q, options = 0.3, LossOptions("focal", 1.0, 0.1, 3.0)
    z = logits(math.log(q / (1 - q)))
    positive = float(elementwise_loss(options, z, torch.ones_like(z)))
    negative = float(elementwise_loss(options, z, torch.zeros_like(z)))
    assert positive == pytest.approx(-0.1 * 0.7**3 * math.log(0.3))
    assert negative == pytest.approx(-0.9 * 0.3**3 * math.log(0.7))
    flat = LossOptions("focal", 2.0, 0.5, 0.0)  # half of the weighted BCE
    half = elementwise_loss(LossOptions("bce", 2.0), z, torch.ones_like(z)) / 2
    assert torch.allclose(elementwise_loss(flat, z, torch.ones_like(z)), half)


@pytest.mark.parametrize(
    ("weight", "q_star", "loss"),
    [(1.0, 0.150, 0.4227), (3.0, 0.346, 0.8385), (10.0, 0.638, 1.5378), (1000.0, 0.994, 5.2496)],
)
def test_the_best_answer_to_noise_is_q_star(weight, q_star, loss):
    """The table of the report's weights at p = 0.15, and q* = wp / (wp + 1 - p)."""
    p = 0.15
    best, floor = best_constant(LossOptions("bce", weight), p)
    exact = weight * p / (weight * p + 1 - p)
    assert best == pytest.approx(exact, abs=1e-6)
    assert floor == pytest.approx(-weight * p * math.log(exact) - (1 - p) * math.log(1 - exact))
    assert best == pytest.approx(q_star, abs=5e-4)
    assert floor == pytest.approx(loss, abs=5e-5)


def test_the_report_s_loss_is_the_floor_of_the_focal_loss_on_noise():
    def expected(q, a=0.1, g=3.0, p=0.15):
        return -p * a * (1 - q) ** g * np.log(q) - (1 - p) * (1 - a) * q**g * np.log(1 - q)

    least = minimize_scalar(expected, bounds=(1e-6, 1 - 1e-6), method="bounded")
    q_star, floor = best_constant(LossOptions("focal"), 0.15)
    assert q_star == pytest.approx(least.x, abs=1e-5)
    assert floor == pytest.approx(least.fun, abs=1e-9)
    assert q_star == pytest.approx(0.2528, abs=5e-5)
    assert floor == pytest.approx(0.01221, abs=5e-6)


@pytest.mark.parametrize("p", [0.001, 0.0125, 0.15, 0.4])
def test_recall_on_noise_jumps_where_q_star_crosses_a_half(p):
    weight = flip_weight(p)
    assert best_constant(LossOptions("bce", weight * 0.999), p)[0] < 0.5
    assert best_constant(LossOptions("bce", weight * 1.001), p)[0] > 0.5
    assert flip_weight(0.15) == pytest.approx(5.6667, abs=1e-4)
    assert flip_weight(0.001) == pytest.approx(999.0)


def test_with_one_class_the_floor_is_zero():
    assert best_constant(BCE, 0.0) == (0.0, 0.0)
    assert best_constant(BCE, 1.0) == (1.0, 0.0)
    nothing = torch.full((4,), constant_logit(0.0), dtype=torch.float64)
    assert float(elementwise_loss(BCE, nothing, torch.zeros_like(nothing)).max()) < 1e-12
    assert constant_logit(0.3) == pytest.approx(math.log(0.3 / 0.7))


def test_the_plans_by_hand():
    z = logits(2.0, -1.0, 0.5, -3.0, 1.0, -2.0)[None]
    one, none = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)

    def softplus(value):
        return math.log1p(math.exp(value))

    every = [softplus(value) for value in z[0].tolist()]
    top = sum(sorted(z[0].tolist())[-5:]) / 5
    assert float(scene_losses("C", BCE, z, one)) == pytest.approx(softplus(-2.0))
    assert float(scene_losses("C", BCE, z, none)) == pytest.approx(sum(every) / 6)
    assert float(scene_losses("Ctop5", BCE, z, one)) == pytest.approx(softplus(-top))
    assert float(scene_losses("Ctop5", BCE, z, none)) == pytest.approx(softplus(top))
    assert float(scene_losses("B", BCE, z[:, 0], none)) == pytest.approx(softplus(2.0))
    assert float(scene_losses("A", BCE, z, torch.zeros_like(z))) == pytest.approx(sum(every) / 6)
    assert scene_logits("C", z).tolist() == [2.0]
    few = z[:, :2]
    assert scene_logits("Ctop5", few).tolist() == [0.5]


def test_the_report_s_plan_is_not_symmetric():
    """A negative scene moves every point a little, a positive one a single point, all the way."""
    for target, moved in ((1.0, 1), (0.0, 8)):
        z = torch.zeros(1, 8) + torch.arange(8) * 0.01
        z.requires_grad_()
        scene_losses("C", BCE, z, torch.tensor([target])).sum().backward()
        assert int((z.grad.abs() > 1e-3).sum()) == moved


@pytest.mark.parametrize("plan", ["A", "B", "C", "Ctop5"])
def test_the_floor_of_every_plan_is_reached_by_its_constant(plan):
    options = LossOptions("focal", 3.0, 0.25, 2.0)
    q_star, floor = best_constant(options, 0.25, plan, 9)
    logits_ = torch.zeros(4, dtype=torch.float64) if plan == "B" else torch.zeros(4, 9).double()
    target = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    target = target[:, None].expand(4, 9) if plan == "A" else target
    constant = constant_logits(plan, q_star, logits_)
    assert float(scene_losses(plan, options, constant, target).mean()) == pytest.approx(floor)


def test_the_report_s_plan_is_cheated_by_one_hot_point_in_every_scene():
    """Half of the scenes positive: 0.69 by equal points, next to nothing by one that stands out."""
    p, n = 0.475, 256
    q_star, floor = best_constant(BCE, p, "C", n)
    a, b = p, (1 - p) / n
    assert q_star == pytest.approx(a / (a + b))
    assert floor == pytest.approx(-a * math.log(a / (a + b)) - b * math.log(b / (a + b)))
    assert floor < 0.02
    assert best_constant(BCE, p)[1] > 0.69


def test_an_unknown_word_is_refused():
    with pytest.raises(ValueError, match="loss: 'hinge' is not known; choose one of focal, bce"):
        LossOptions("hinge")
    with pytest.raises(ValueError, match="plan: 'D' is not known; choose one of A, B, C, Ctop5"):
        scene_losses("D", BCE, torch.zeros(1, 3), torch.zeros(1))
