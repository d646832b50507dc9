"""The losses of the scene classifier and the best constant under each."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

from sickbay.models.crossmodal.losses import (
    LOSSES,
    constant_losses,
    label_entropy,
    sample_loss,
    uses_labels,
)


def data(n=50, p=0.3):
    rng = np.random.default_rng(0)
    logits = torch.tensor(rng.normal(0, 2, n), requires_grad=True)
    return logits, torch.tensor((rng.random(n) < p).astype(float))


@pytest.mark.parametrize("weight", [1.0, 9.0])
def test_bce_is_torch_s(weight):
    logits, targets = data()
    whole = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, targets, pos_weight=torch.tensor(weight)
    )
    assert torch.allclose(sample_loss("bce", logits, targets, weight).mean(), whole)


def test_focal_is_the_formula_of_its_paper():
    logits, targets = data()
    losses = sample_loss("focal", logits, targets).tolist()
    for z, y, loss in zip(logits.tolist(), targets, losses, strict=True):
        p = 1.0 / (1.0 + math.exp(-z))
        p_t, alpha = (p, 0.25) if y else (1.0 - p, 0.75)
        assert loss == pytest.approx(-alpha * (1.0 - p_t) ** 2 * math.log(p_t))


def test_mean_std_and_its_gradient():
    logits, targets = data()
    mean_std = sample_loss("mean_std", logits, targets).mean()
    scores = torch.sigmoid(logits)
    whole = scores.mean() + 0.1 * scores.std(correction=0)
    assert torch.allclose(mean_std, whole)
    (gradient,), (other,) = (torch.autograd.grad(loss, logits) for loss in (mean_std, whole))
    assert torch.allclose(gradient, other)
    alike = torch.full((8,), -3.0, requires_grad=True)
    sample_loss("mean_std", alike, torch.zeros(8)).mean().backward()
    assert torch.isfinite(alike.grad).all()


def test_mean_std_does_not_know_the_labels():
    logits, targets = data()
    losses, other = (
        sample_loss("mean_std", logits, some, 9.0) for some in (targets, 1.0 - targets)
    )
    assert torch.equal(losses, other)
    assert [uses_labels(loss) for loss in LOSSES] == [True, False, True]


def test_the_entropy_of_a_tenth():
    assert label_entropy(0.1) == pytest.approx(0.3251, abs=5e-5)
    assert label_entropy(0.5) == pytest.approx(math.log(2))
    assert label_entropy(0.0) == label_entropy(1.0) == 0.0


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.85])
def test_the_best_constant_under_plain_bce_is_the_entropy(share):
    targets = (torch.arange(100) < 100 * share).float()
    assert float(constant_losses("bce", targets).mean()) == pytest.approx(label_entropy(share))


@pytest.mark.parametrize("weight", [1.0, 9.0, 100.0])
def test_the_best_constant_under_a_weight_has_a_closed_form(weight):
    targets = (torch.arange(100) < 10).float()
    q = weight * 10 / (weight * 10 + 90)
    losses = constant_losses("bce", targets, weight)
    assert float(losses.mean()) == pytest.approx(
        -(weight * 10 * math.log(q) + 90 * math.log(1 - q)) / 100
    )
    assert float(losses[0]) == pytest.approx(-weight * math.log(q), rel=1e-4)


@pytest.mark.parametrize(("share", "weight"), [(0.1, 1.0), (0.5, 1.0), (0.1, 9.0)])
def test_the_best_constant_under_focal_is_what_an_optimiser_finds(share, weight):
    def loss(q):
        hit = -0.25 * (1 - q) ** 2 * math.log(q)
        return share * weight * hit - (1 - share) * 0.75 * q**2 * math.log(1 - q)

    best = minimize_scalar(loss, bounds=(1e-6, 1 - 1e-6), method="bounded", options={"xatol": 1e-9})
    targets = (torch.arange(100) < 100 * share).float()
    assert float(constant_losses("focal", targets, weight).mean()) == pytest.approx(best.fun)


@pytest.mark.parametrize("loss", LOSSES)
def test_one_class_can_be_called_for_nothing(loss):
    for targets in (torch.ones(5), torch.zeros(5)):
        assert constant_losses(loss, targets, 3.0).tolist() == [0.0] * 5


def test_an_unknown_loss_is_refused():
    with pytest.raises(ValueError, match="loss: 'hinge' is not known; choose one of bce, mean_std"):
        sample_loss("hinge", torch.zeros(1), torch.zeros(1))
