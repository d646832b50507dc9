"""Encoder, heads and prototypes of system 5, against the published shapes and equations."""

import math

import pytest
import torch

from sickbay.models.longtail.losses import (
    SNR_CAP,
    SemanticOptions,
    bounded_floor,
    constant_loss,
    entropy,
    semantic_loss,
)
from sickbay.models.longtail.network import (
    Encoder,
    HeadOptions,
    LongtailNet,
    WcdasHead,
    group_names,
    wcdas_range,
    wrapped_cauchy,
)

CE = HeadOptions("ce", 0.0, 0.0)
ETAS = SemanticOptions(eta_p=0.05, eta_r=0.05, radius="mse")


def net(size="small", head=CE, classes=4):
    torch.manual_seed(0)
    return LongtailNet(size, classes, head)


def test_resnet32_has_the_published_number_of_parameters():
    """He et al. 2016: 0.46 M with shortcuts of type A and a linear head for ten classes."""
    count = sum(p.numel() for p in net("full", classes=10).encoder.parameters())
    assert count == 463_504  # + 650 of the head: 464,154


@pytest.mark.parametrize(("size", "width"), [("small", 16), ("small", 32), ("full", 32)])
def test_features_are_averages_of_rectified_maps(size, width):
    features = Encoder(size)(torch.randn(3, 3, width, width)).detach()
    assert features.shape == (3, 64)
    assert float(features.min()) >= 0.0
    assert float(features.std()) > 0.0


def test_an_unknown_word_is_refused():
    with pytest.raises(ValueError, match="size: 'huge' is not known; choose one of small, full"):
        net("huge")
    with pytest.raises(ValueError, match="classifier: 'svm' is not known; choose one of ce, wcdas"):
        net(head=HeadOptions("svm", 0.0, 0.0))


def test_wcdas_is_the_density_of_a_wrapped_cauchy_distribution():
    """Against its Fourier series: (1 + 2 Σ γ^k cos kθ) / 2π."""
    gamma, scale = torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64), torch.tensor(3.0)
    for theta in (0.0, 0.7, 2.0, math.pi):
        got = wrapped_cauchy(torch.full((1, 3), math.cos(theta)), gamma, scale)[0]
        for index, g in enumerate(gamma.tolist()):
            series = 1.0 + 2.0 * sum(g**k * math.cos(k * theta) for k in range(1, 400))
            assert float(got[index]) == pytest.approx(3.0 * series / (2.0 * math.pi), rel=1e-5)


@pytest.mark.parametrize(
    ("g", "least", "greatest", "floor"),
    [(0.0, 0.09, 0.81, 1.684), (-1.0, None, None, 2.026), (1.0, None, None, 0.976)],
)
def test_wcdas_can_reach_no_less_than_this_as_it_starts(g, least, greatest, floor):
    options = HeadOptions("wcdas", 0.0, g)
    low, high = wcdas_range(options)
    gamma, scale = 1 / (1 + math.exp(-g)), math.log(2.0) + 1.0
    assert low == pytest.approx(scale / (2 * math.pi) * (1 - gamma) / (1 + gamma))
    assert high == pytest.approx(scale / (2 * math.pi) * (1 + gamma) / (1 - gamma))
    if least is not None:
        assert (low, high) == (pytest.approx(least, abs=0.005), pytest.approx(greatest, abs=0.005))
    bound = bounded_floor(low, high, 10)
    assert bound == pytest.approx(floor, abs=0.002)
    logits = torch.full((1, 10), low)
    logits[0, 3] = high
    exact = torch.nn.functional.cross_entropy(logits, torch.tensor([3]))
    assert bound == pytest.approx(float(exact), abs=1e-6)


def test_a_fresh_wcdas_head_stays_within_its_range():
    options = HeadOptions("wcdas", 0.0, 0.0)
    head = WcdasHead(64, 10, options)
    logits = head(torch.randn(500, 64)).detach()
    low, high = wcdas_range(options)
    assert low - 1e-6 <= float(logits.min())
    assert float(logits.max()) <= high + 1e-6
    # the direction of a feature counts, not its length; a class vector scores highest itself
    own = head(7.0 * head.weight.detach())
    assert torch.allclose(own.diagonal(), torch.full((10,), high), atol=1e-5)


def test_latents_have_four_in_a_hundred_above_one_and_come_back():
    system = net()
    features = torch.rand(500, 64).square() * 5.0
    label = torch.arange(500) % 4
    system.start_prototypes(features, label)
    latents = system.latents(features)
    assert float(latents.min()) >= -1.0
    assert float((latents > 1.0).float().mean()) == pytest.approx(0.04, abs=0.002)
    assert torch.allclose(system.features_of(latents), features, atol=1e-5)


def test_prototypes_begin_as_class_means_and_follow_by_three_tenths():
    system = net(classes=3)
    features, label = torch.rand(60, 64), torch.arange(60) % 2  # class 2 has no image
    system.start_prototypes(features, label)
    latents = system.latents(features)
    start = system.get_buffer("prototype_CD").clone()
    for c in (0, 1):
        mean = latents[label == c].mean(dim=0)
        assert torch.allclose(start[c], mean, atol=1e-6)
        radius = (latents[label == c] - mean).norm(dim=1).mean()
        assert torch.allclose(system.get_buffer("radius_C")[c], radius, atol=1e-5)
    assert not bool(start[2].any())
    more = torch.rand(4, 64)
    system.follow(more, torch.tensor([0, 0, 0, 0]))
    now = system.get_buffer("prototype_CD")
    assert torch.allclose(now[0], 0.7 * start[0] + 0.3 * more.mean(dim=0), atol=1e-6)
    assert torch.equal(now[1:], start[1:])


class Shifted(torch.nn.Module):
    """A denoiser that is off by the same vector for everything it knows."""

    def __init__(self, answer):
        super().__init__()
        self.answer = torch.nn.Parameter(answer)

    def forward(self, x, t, label):
        return self.answer


def test_the_semantic_loss_is_what_the_equations_say():
    system = net()
    latents, label = torch.randn(16, 64), torch.arange(16) % 4
    system.follow(latents, label)
    system.diffusion.denoiser = Shifted(latents + 0.1)
    generator = torch.Generator().manual_seed(3)
    t = torch.randint(1000, (16,), generator=torch.Generator().manual_seed(3))
    weight = system.get_buffer("bright")  # 1: untouched
    assert float(weight) == 1.0
    losses = semantic_loss(system, latents, label, ETAS, generator).detached()
    snr = system.diffusion.get_buffer("snr_T")[t].clamp(max=SNR_CAP)
    assert float(losses.diffusion) == pytest.approx(float((snr * 0.64).mean()), rel=1e-4)
    centre = system.get_buffer("prototype_CD")[label]
    away = latents + 0.1 - centre
    assert float(losses.prototype) == pytest.approx(float(away.square().mean()), rel=1e-5)
    gap = away.norm(dim=1) - system.get_buffer("radius_C")[label]
    assert float(losses.radius) == pytest.approx(float(gap.square().mean()), rel=1e-4)
    whole = losses.diffusion + 0.05 * losses.prototype + 0.05 * losses.radius
    assert float(losses.loss) == pytest.approx(float(whole))
    hinged = SemanticOptions(0.0, 1.0, "hinge.5")
    hinge = semantic_loss(system, latents, label, hinged, generator.manual_seed(3)).detached()
    expected = (gap.abs() - 0.5).clamp(min=0.0).mean()
    assert float(hinge.radius) == pytest.approx(float(expected), rel=1e-4)
    with pytest.raises(ValueError, match=r"radius: 'l1' is not known; choose one of mse, hinge\.5"):
        semantic_loss(system, latents, label, SemanticOptions(0, 0, "l1"), generator)


def test_a_cap_passes_exactly_no_gradient_above_and_all_of_it_below():
    system = net()
    label = torch.arange(16) % 4
    for cap, dead in ((5.0, True), (1e6, False)):
        latents = torch.randn(16, 64, requires_grad=True)
        options = SemanticOptions(0.05, 0.05, "mse", cap)
        losses = semantic_loss(system, latents, label, options, torch.Generator().manual_seed(0))
        system.zero_grad()
        losses.loss.backward()
        gradients = [p.grad for p in system.diffusion.parameters()] + [latents.grad]
        largest = max(float(g.abs().max()) for g in gradients)
        assert bool(losses.capped) is dead
        assert (largest == 0.0) is dead
        assert float(losses.loss.detach()) == 5.0 if dead else float(losses.loss.detach()) > 5.0


def test_floors_are_the_losses_of_the_best_constant_on_the_scored_labels():
    counts = (60, 30, 10)
    balanced = constant_loss(torch.tensor([0, 1, 2]))  # whatever the training classes' shares
    assert balanced.tolist() == pytest.approx([math.log(3)] * 3)
    # no constant does better on the training labels
    train = torch.repeat_interleave(torch.arange(3), torch.tensor(counts))
    logits = torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=200)

    def closure():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(logits.expand(100, 3), train)
        loss.backward()
        return loss

    optimizer.step(closure)
    assert entropy(counts) == pytest.approx(float(closure().detach()), abs=1e-6)
    assert float(constant_loss(train).mean()) == pytest.approx(entropy(counts))


def test_groups_are_those_that_are_meant_to_train():
    assert tuple(net().groups()) == group_names(encoder=True, diffusion=True)
    assert group_names(encoder=False, diffusion=True) == ("diffusion", "head")
    assert group_names(encoder=True, diffusion=False) == ("encoder", "head")


def test_the_least_loss_of_a_wcdas_head_is_that_of_its_two_ends():
    options = HeadOptions("wcdas", 0.0, 0.0)
    head = WcdasHead(8, 10, options)
    assert float(head.least_loss()) == pytest.approx(bounded_floor(*wcdas_range(options), 10))
    with torch.no_grad():
        head.concentration.copy_(torch.linspace(-1.0, 1.0, 10))
    best = wrapped_cauchy(torch.ones(10), head.gamma(), head.scale()).detach()
    worst = wrapped_cauchy(-torch.ones(10), head.gamma(), head.scale()).detach()
    logits = worst.repeat(10, 1)
    logits[range(10), range(10)] = best
    exact = torch.nn.functional.cross_entropy(logits, torch.arange(10))
    assert float(head.least_loss()) == pytest.approx(float(exact), rel=1e-5)
