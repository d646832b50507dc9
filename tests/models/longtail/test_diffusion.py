"""Diffusion of feature vectors against the schedule's closed form and exact samplers."""

import itertools
import math

import pytest
import torch

from sickbay.models.longtail.diffusion import (
    STEPS,
    Diffusion,
    UNetDenoiser,
    signal_shares,
    signal_to_noise,
)


def diffusion(size="small", classes=3, dimensions=8):
    torch.manual_seed(0)
    return Diffusion(size, dimensions, classes)


def test_the_schedule_is_the_squared_cosine():
    shares = signal_shares().tolist()

    def cosine(t):
        return math.cos((t / STEPS + 0.008) / 1.008 * math.pi / 2) ** 2

    for t in (0, 1, 17, 500, 900, 990):
        assert shares[t] == pytest.approx(cosine(t + 1) / cosine(0), rel=1e-9)
    assert all(later < now for now, later in itertools.pairwise(shares))


def test_the_signal_to_noise_ratio_has_the_known_mean_median_and_maximum():
    ratio = signal_to_noise()
    assert float(ratio.max()) == pytest.approx(24_209, rel=2e-3)
    assert float(ratio.mean()) == pytest.approx(86, rel=0.01)
    assert float(ratio.median()) == pytest.approx(0.97, abs=0.01)


def test_noise_is_added_so_that_the_variance_stays_one():
    model, count = diffusion(), 40_000
    x0 = torch.randn(count, 1)
    for t in (0, 300, 999):
        noisy = model.noisy(x0, torch.full((count,), t), torch.randn(count, 1))
        assert float(noisy.var()) == pytest.approx(1.0, abs=0.03)
        cosine = float(torch.corrcoef(torch.cat([x0, noisy], dim=1).T)[0, 1])
        assert cosine**2 == pytest.approx(float(signal_shares()[t]), abs=0.02)


def test_weights_are_cut_at_the_largest():
    model, t = diffusion(), torch.tensor([0, 500, 999])
    weight = model.weight(t, 5.0)
    assert float(weight[0]) == 5.0
    assert torch.equal(weight[1:], model.get_buffer("snr_T")[t[1:]])


class Oracle(torch.nn.Module):
    """Knows the one x0 of each class."""

    def __init__(self, points):
        super().__init__()
        self.points = points

    def forward(self, x, t, label):
        assert bool((t >= 0).all())
        assert bool((t < STEPS).all())
        return self.points[label]


@pytest.mark.parametrize("steps", [1, 2, 10, 50])
def test_the_sampler_reaches_what_a_perfect_denoiser_knows(steps):
    model = diffusion()
    points = torch.rand(3, 8) * 1.6 - 0.8
    model.denoiser = Oracle(points)
    label = torch.tensor([2, 0, 1, 1])
    drawn = model.sample(label, steps, torch.Generator().manual_seed(0))
    assert torch.allclose(drawn, points[label], atol=1e-5)


class Gaussian(torch.nn.Module):
    """The exact posterior mean of x0 ~ N(m, s²): x0 = m + s² √a (x − √a m) / (s² a + 1 − a)."""

    def forward(self, x, t, label):
        share = signal_shares().float()[t.long()][:, None]
        gain = 0.01 * share.sqrt() / (0.01 * share + 1.0 - share)
        return 0.3 + gain * (x - share.sqrt() * 0.3)


def test_the_sampler_draws_the_distribution_that_the_denoiser_was_fitted_to():
    model = diffusion(dimensions=1)
    model.denoiser = Gaussian()
    label = torch.zeros(20_000, dtype=torch.long)
    drawn = model.sample(label, 200, torch.Generator().manual_seed(0))
    assert float(drawn.mean()) == pytest.approx(0.3, abs=0.01)
    assert float(drawn.std()) == pytest.approx(0.1, abs=0.01)


def test_samples_are_clamped_and_follow_the_generator():
    model = diffusion()
    model.denoiser = Oracle(torch.full((3, 8), 9.0))
    assert float(model.sample(torch.tensor([0]), 4, torch.Generator()).max()) == 1.0
    model, label = diffusion(), torch.tensor([0, 1])
    sample, again, other = (
        model.sample(label, 5, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(sample, again)
    assert not torch.equal(sample, other)
    assert not sample.requires_grad


@pytest.mark.parametrize("size", ["small", "full"])
def test_a_denoiser_depends_on_the_step_and_the_class(size):
    model = diffusion(size)
    x = torch.randn(1, 8).expand(3, 8)
    conditioned = model.predict(x, torch.tensor([0, 0, 500]), torch.tensor([0, 1, 0]))
    assert conditioned.shape == (3, 8)
    assert not torch.allclose(conditioned[0], conditioned[1])
    assert not torch.allclose(conditioned[0], conditioned[2])


def test_the_u_net_joins_what_it_has_left_on_the_way_down():
    torch.manual_seed(0)
    net = UNetDenoiser(8, 2, (4, 8, 16))
    net.bottom = torch.nn.Identity()
    net.bottom.forward = lambda x, condition: torch.zeros_like(x)
    for narrow in net.narrow:
        torch.nn.init.zeros_(narrow.bias)
    x, t, label = torch.randn(2, 8), torch.zeros(2), torch.zeros(2, dtype=torch.long)
    out = net(x, t, label)  # nothing comes through the bottom: all comes from the sides
    assert not torch.allclose(out[0], out[1])


def test_a_denoiser_learns_points_by_the_weighted_loss():
    model = diffusion()
    points = torch.rand(3, 8) * 2 - 1
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(200):
        label, t = torch.randint(3, (64,)), torch.randint(STEPS, (64,))
        noisy = model.noisy(points[label], t, torch.randn(64, 8))
        error = (model.predict(noisy, t, label) - points[label]).square().sum(dim=1)
        loss = (model.weight(t, 5.0) * error).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    drawn = model.sample(torch.arange(3), 10, torch.Generator().manual_seed(0))
    assert float((drawn - points).abs().max()) < 0.2
