"""The network: the dead gradient of its μ head, its initialisations, its geometry."""

import math

import numpy as np
import pytest
import torch

from sickbay.models.orientation.mixture import LOSSES, Mixture, mixture_loss
from sickbay.models.orientation.network import (
    KAPPA_MAX,
    HeadOptions,
    OrientationNet,
    angle,
    farthest,
    group_names,
    nearest,
)


def net(initialization="random", guard="where", components=4, size="small"):
    torch.manual_seed(0)
    return OrientationNet(size, HeadOptions(components, initialization, guard, 0.7), 0.4)


def clouds(samples=6, points=64, seed=0):
    return torch.randn(samples, points, 3, generator=torch.Generator().manual_seed(seed))


def truth(samples=6, components=4):
    mu = torch.rand(samples, components, generator=torch.Generator().manual_seed(1)) * 6.0
    return Mixture(mu, torch.full_like(mu, 8.0), torch.full_like(mu, -math.log(components)))


def gradient_at_zero(guard):
    """∂θ/∂raw at raw = (0, 0), for four components."""
    raw = torch.zeros(1, 4, 2, requires_grad=True)
    angle(raw, guard).sum().backward()
    return raw.grad


@pytest.mark.parametrize("guard", ["where", "none"])
def test_at_zero_the_angle_has_no_gradient(guard):
    assert gradient_at_zero(guard).abs().max() == 0.0


def test_at_zero_the_plain_atan2_has_no_gradient_either():
    raw = torch.zeros(1, 4, 2, requires_grad=True)
    torch.atan2(raw[..., 1], raw[..., 0]).sum().backward()
    assert raw.grad.abs().max() == 0.0


def test_at_zero_the_shifted_angle_has_a_huge_gradient():
    gradient = gradient_at_zero("eps-shift")
    assert gradient[..., 1] == pytest.approx(torch.full((1, 4), 1e6), rel=1e-4)


@pytest.mark.parametrize("guard", ["where", "none", "eps-shift"])
def test_away_from_zero_every_guard_is_the_same_angle(guard):
    theta = torch.linspace(-3.1, 3.1, 41)
    raw = 2.5 * torch.stack([theta.cos(), theta.sin()], dim=-1)
    np.testing.assert_allclose(angle(raw, guard).numpy(), theta.numpy(), atol=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("guard", ["where", "none"])
def test_a_zero_head_is_dead_under_every_loss(loss, guard):
    model = net("zeros", guard)
    mixture_loss(loss, model(clouds()), truth()).mean().backward()
    assert model.head_mu.weight.grad.abs().max() == 0.0
    assert model.head_mu.bias.grad.abs().max() == 0.0
    assert model.head_kappa.weight.grad.abs().max() > 0.0


@pytest.mark.parametrize("initialization", ["preset", "random", "tiny", "same"])
def test_any_other_start_is_alive(initialization):
    model = net(initialization)
    mixture_loss("uniform", model(clouds()), truth()).mean().backward()
    assert model.head_mu.weight.grad.abs().max() > 0.0


def test_the_shifted_guard_revives_a_zero_head_with_different_gradients():
    model = net("zeros", "eps-shift")
    mixture_loss("uniform", model(clouds()), truth()).mean().backward()
    sine = model.head_mu.bias.grad.reshape(4, 2)[:, 1]
    assert (sine.abs() > 1e3).all()
    assert len(set(sine.tolist())) == 4


def test_initial_angles_are_what_their_names_say():
    flat = clouds()
    zeros = net("zeros").eval()(flat).mu
    assert zeros.abs().max() == 0.0
    preset = net("preset").eval()(flat).mu.detach()
    expected = torch.tensor([0.0, math.pi / 2, math.pi, -math.pi / 2]).expand(6, 4)
    assert torch.cos(preset - expected).min() == pytest.approx(1.0, abs=1e-6)
    same = net("same").eval()(flat).mu.detach()
    assert same.std(dim=1).max() == pytest.approx(0.0, abs=1e-6)
    assert same.abs().min() > 0.1
    tiny = net("tiny")
    assert tiny.head_mu.weight.abs().max() == 0.0
    assert 0.0 < tiny.head_mu.bias.abs().max() < 0.1
    assert net("random").head_mu.weight.abs().max() > 0.0


def test_weights_start_even_and_temperature_divides_their_logits():
    model = net().eval()
    np.testing.assert_allclose(model(clouds()).weight.detach().numpy(), 0.25, rtol=1e-6)
    with torch.no_grad():
        model.head_pi.bias.copy_(torch.tensor([0.7, 0.0, 0.0, 0.0]))
    weight = model(clouds()).weight.detach()
    assert float(weight[0, 0] / weight[0, 1]) == pytest.approx(math.e, rel=1e-4)


def test_concentration_is_positive_and_bounded():
    model = net().eval()
    with torch.no_grad():
        model.head_kappa.bias.copy_(torch.tensor([-1e3, 0.0, 10.0, 1e4]))
    kappa = model(clouds()).kappa
    assert kappa.min() > 0.0
    assert kappa.max() == KAPPA_MAX


def test_one_component_leaves_the_weight_head_without_a_gradient():
    model = net(components=1)
    mixture_loss("pred_w", model(clouds()), truth(components=1)).mean().backward()
    assert model.head_pi.weight.grad is None
    assert model.head_mu.weight.grad.abs().max() > 0.0


def test_evaluation_is_deterministic_and_does_not_depend_on_the_order_of_points():
    model, points = net().eval(), clouds()
    first = model(points)
    assert torch.equal(first.mu, model(points).mu)
    shuffled = model(points[:, torch.randperm(64)])
    np.testing.assert_allclose(
        shuffled.kappa.detach().numpy(), first.kappa.detach().numpy(), rtol=1e-4
    )


def test_training_draws_its_centroids_from_the_given_generator():
    model = net()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0

    def kappa(seed):
        return model(clouds(), torch.Generator().manual_seed(seed)).kappa

    assert torch.equal(kappa(1), kappa(1))
    assert not torch.equal(kappa(1), kappa(2))


def test_farthest_points_agree_with_the_definition():
    points = clouds(samples=2, points=30, seed=3)
    for cloud, chosen in zip(points.numpy(), farthest(points, 7).tolist(), strict=True):
        assert chosen[0] == np.linalg.norm(cloud, axis=1).argmax()
        for step in range(1, 7):
            to_chosen = np.linalg.norm(cloud[:, None] - cloud[chosen[:step]], axis=2).min(axis=1)
            assert chosen[step] == to_chosen.argmax()


def test_nearest_points_agree_with_sorting_distances():
    points = clouds(samples=2, points=30, seed=4)
    neighbours = nearest(points[:, :5], points, 6)
    for cloud, rows in zip(points.numpy(), neighbours.numpy(), strict=True):
        distance = np.linalg.norm(cloud[:5, None] - cloud, axis=2)
        for row, expected in zip(rows, distance.argsort(axis=1)[:, :6], strict=True):
            assert set(row) == set(expected)


@pytest.mark.parametrize(("size", "parameters"), [("small", 79_664), ("full", 1_466_960)])
def test_groups_name_every_parameter_once_from_input_to_output(size, parameters):
    model = net(size=size)
    groups = model.groups()
    assert tuple(groups) == group_names(size)
    assert tuple(groups)[-3:] == ("head_pi", "head_mu", "head_kappa")
    grouped = [id(parameter) for group in groups.values() for parameter in group]
    assert sorted(grouped) == sorted(id(parameter) for parameter in model.parameters())
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


def test_the_full_size_runs_forward_and_backward():
    model = net(size="full")
    mixture_loss("uniform", model(clouds(2, 256)), truth(2)).mean().backward()
    assert model.head_mu.weight.grad.abs().max() > 0.0


def test_component_gradients_are_one_row_a_component():
    model = net()
    assert model.component_gradients() is None
    mixture_loss("uniform", model(clouds()), truth()).mean().backward()
    gradients = model.component_gradients()
    assert gradients.shape == (4, 3 * 128 + 3)
    assert torch.equal(gradients[1, :256].reshape(2, 128), model.head_mu.weight.grad[2:4])


@pytest.mark.parametrize(
    ("size", "initialization", "guard", "message"),
    [
        ("medium", "zeros", "where", "size: 'medium' is not known; choose one of small, full"),
        ("small", "zeroes", "where", "initialization: 'zeroes' is not known; choose one of zeros"),
        ("small", "zeros", "eps", "atan2_guard: 'eps' is not known; choose one of where, none"),
    ],
)
def test_unknown_choices_are_refused_with_the_known_ones(size, initialization, guard, message):
    with pytest.raises(ValueError, match=message):
        net(initialization, guard, size=size)


def test_an_offset_turns_the_angles_of_the_preset():
    options = HeadOptions(4, "preset", "where", 0.7, offset=math.radians(30.0))
    bias = OrientationNet("small", options, 0.4).head_mu.bias.detach().reshape(4, 2)
    degrees = torch.rad2deg(torch.atan2(bias[:, 1], bias[:, 0])) % 360.0
    assert degrees.tolist() == pytest.approx([30.0, 120.0, 210.0, 300.0], abs=1e-3)


@pytest.mark.parametrize("fixed", [True, False])
def test_initial_angles_are_trained_unless_they_are_fixed(fixed):
    model = OrientationNet("small", HeadOptions(4, "preset", "where", 0.7, fixed=fixed), 0.0)
    bias = model.head_mu.bias
    assert (bias in set(model.groups()["head_mu"])) is not fixed
    mixture_loss("uniform", model.train()(clouds(), torch.Generator()), truth()).mean().backward()
    assert (bias.grad is None) is fixed
    assert float(model.head_mu.weight.grad.abs().max()) > 0.0
