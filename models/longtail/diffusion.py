"""Diffusion of feature vectors: the cosine schedule, denoisers that predict x0, DDIM sampling.

N vectors · D dimensions · T diffusion steps, t in 0 … T − 1

    q(x_t | x_0) = N(sqrt(a_t) x_0, 1 − a_t),  a_t = f(t + 1) / f(0),
    f(t) = cos²((t / T + s) / (1 + s) · π / 2),  s = 0.008           (Nichol and Dhariwal 2021)
    SNR_t = a_t / (1 − a_t)
    DDIM (Song et al. 2021), η = 0:  x_s = sqrt(a_s) x0̂ + sqrt(1 − a_s) ε̂,
    ε̂ = (x_t − sqrt(a_t) x0̂) / sqrt(1 − a_t)

Latents are scaled features: about [−1, 1], as the sampler's clamp assumes.
"""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

STEPS = 1000
OFFSET = 0.008
LARGEST_BETA = 0.999
EMBEDDING = {"small": 64, "full": 256}  # of time and label
WIDTHS = {"full": (64, 128, 256, 512)}  # of the U-Net's levels: 64 times 1, 2, 4, 8
HIDDEN = 128  # of the small denoiser


def signal_shares() -> Tensor:
    """Return a_t, the share of the variance that is signal, for t = 0 … T − 1; float64."""
    grid = torch.arange(STEPS + 1, dtype=torch.float64) / STEPS
    curve = torch.cos((grid + OFFSET) / (1.0 + OFFSET) * math.pi / 2.0).square()
    betas = (1.0 - curve[1:] / curve[:-1]).clamp(max=LARGEST_BETA)
    return torch.cumprod(1.0 - betas, dim=0)


def signal_to_noise() -> Tensor:
    """Return SNR_t for t = 0 … T − 1; float64, falling."""
    shares = signal_shares()
    return shares / (1.0 - shares)


class Condition(nn.Module):
    """The input of a denoiser besides x_t: the step, as sines, and the class, as a vector."""

    def __init__(self, classes: int, width: int) -> None:
        """Make an embedding of `width` numbers, which must be even."""
        super().__init__()
        self.label = nn.Embedding(classes, width)
        self.mix = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        half = width // 2
        rates = torch.exp(-math.log(10_000.0) * torch.arange(half) / max(half - 1, 1))
        self.register_buffer("rates", rates, persistent=False)

    def forward(self, t_N: Tensor, label_N: Tensor) -> Tensor:
        """Return the embedding, (N, width)."""
        angle_NH = t_N[:, None] * self.get_buffer("rates")[None, :]
        time_NW = torch.cat([angle_NH.sin(), angle_NH.cos()], dim=1)
        condition_NW: Tensor = self.mix(time_NW) + self.label(label_N)
        return condition_NW


class Residual(nn.Module):
    """x + two linear layers, with the condition added after the first."""

    def __init__(self, width: int, condition_width: int) -> None:
        """Make a block for vectors of `width` under a condition of `condition_width` numbers."""
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.first = nn.Linear(width, width)
        self.told = nn.Linear(condition_width, width)  # the name stands in checkpoints
        self.second = nn.Linear(width, width)

    def forward(self, x_NW: Tensor, condition_NE: Tensor) -> Tensor:
        """Return (N, width)."""
        hidden_NW = nn.functional.silu(self.first(self.norm(x_NW)) + self.told(condition_NE))
        out_NW: Tensor = x_NW + self.second(hidden_NW)
        return out_NW


class MlpDenoiser(nn.Module):
    """The small denoiser: two residual blocks of width 128."""

    def __init__(self, dimensions: int, classes: int) -> None:
        """Make a denoiser of vectors of `dimensions`."""
        super().__init__()
        condition_width = EMBEDDING["small"]
        self.condition = Condition(classes, condition_width)
        self.enter = nn.Linear(dimensions, HIDDEN)
        self.blocks = nn.ModuleList(Residual(HIDDEN, condition_width) for _ in range(2))
        self.leave = nn.Linear(HIDDEN, dimensions)

    def forward(self, x_ND: Tensor, t_N: Tensor, label_N: Tensor) -> Tensor:
        """Predict x0 from x_t, (N, D)."""
        condition_NE = self.condition(t_N, label_N)
        hidden = self.enter(x_ND)
        for block in self.blocks:
            hidden = block(hidden, condition_NE)
        x0_ND: Tensor = self.leave(hidden)
        return x0_ND


class UNetDenoiser(nn.Module):
    """The full denoiser: a U-Net whose convolutions are 1×1, so linear maps between its widths.

    A feature vector is D channels at one position. Each level of the way up sees what the same
    level of the way down has left.
    """

    def __init__(self, dimensions: int, classes: int, widths: Sequence[int]) -> None:
        """Make a denoiser with these widths, from the outside to the bottom."""
        super().__init__()
        condition_width = EMBEDDING["full"]
        pairs = list(itertools.pairwise(widths))
        self.condition = Condition(classes, condition_width)
        self.enter = nn.Linear(dimensions, widths[0])
        self.down = nn.ModuleList(Residual(width, condition_width) for width in widths[:-1])
        self.widen = nn.ModuleList(nn.Linear(thin, wide) for thin, wide in pairs)
        self.bottom = Residual(widths[-1], condition_width)
        self.narrow = nn.ModuleList(nn.Linear(wide, thin) for thin, wide in reversed(pairs))
        self.join = nn.ModuleList(nn.Linear(2 * thin, thin) for thin, _ in reversed(pairs))
        self.up = nn.ModuleList(Residual(thin, condition_width) for thin, _ in reversed(pairs))
        self.leave = nn.Linear(widths[0], dimensions)

    def forward(self, x_ND: Tensor, t_N: Tensor, label_N: Tensor) -> Tensor:
        """Predict x0 from x_t, (N, D)."""
        condition_NE = self.condition(t_N, label_N)
        hidden, left = self.enter(x_ND), []
        for block, widen in zip(self.down, self.widen, strict=True):
            hidden = block(hidden, condition_NE)
            left.append(hidden)
            hidden = widen(hidden)
        hidden = self.bottom(hidden, condition_NE)
        for narrow, join, block in zip(self.narrow, self.join, self.up, strict=True):
            hidden = join(torch.cat([narrow(hidden), left.pop()], dim=1))
            hidden = block(hidden, condition_NE)
        x0_ND: Tensor = self.leave(hidden)
        return x0_ND


class Diffusion(nn.Module):
    """A denoiser and its schedule."""

    def __init__(self, size: str, dimensions: int, classes: int) -> None:
        """Make the denoiser of a size, small or full."""
        super().__init__()
        self.dimensions = dimensions
        self.denoiser: nn.Module = (
            UNetDenoiser(dimensions, classes, WIDTHS[size])
            if size in WIDTHS
            else MlpDenoiser(dimensions, classes)
        )
        self.register_buffer("share_T", signal_shares().float(), persistent=False)
        self.register_buffer("snr_T", signal_to_noise().float(), persistent=False)

    def noisy(self, x0_ND: Tensor, t_N: Tensor, noise_ND: Tensor) -> Tensor:
        """Return x_t: the latents with as much noise as step t has."""
        share_N1 = self.get_buffer("share_T")[t_N][:, None]
        noisy_ND: Tensor = share_N1.sqrt() * x0_ND + (1.0 - share_N1).sqrt() * noise_ND
        return noisy_ND

    def predict(self, x_ND: Tensor, t_N: Tensor, label_N: Tensor) -> Tensor:
        """Predict x0 from x_t."""
        x0_ND: Tensor = self.denoiser(x_ND, t_N.float(), label_N).float()
        return x0_ND

    def weight(self, t_N: Tensor, largest: float) -> Tensor:
        """Return min(SNR_t, largest), (N,)."""
        return self.get_buffer("snr_T")[t_N].clamp(max=largest)

    @torch.no_grad()
    def sample(self, label_N: Tensor, steps: int, generator: torch.Generator) -> Tensor:
        """Draw latents of classes by DDIM in `steps` steps, (N, D), clamped to [−1, 1].

        Noise comes from `generator`, on the CPU, so that a seed draws alike on every device.
        """
        share_T, device = self.get_buffer("share_T"), label_N.device
        grid = torch.linspace(STEPS - 1, 0, steps).round().long().tolist()
        x_ND = torch.randn((len(label_N), self.dimensions), generator=generator).to(device)
        x0_ND = x_ND
        for index, step in enumerate(grid):
            t_N = torch.full_like(label_N, step)
            x0_ND = self.predict(x_ND, t_N, label_N).clamp(-1.0, 1.0)
            if index + 1 == len(grid):
                break
            now, later = share_T[step], share_T[grid[index + 1]]
            noise_ND = (x_ND - now.sqrt() * x0_ND) / (1.0 - now).sqrt()
            x_ND = later.sqrt() * x0_ND + (1.0 - later).sqrt() * noise_ND
        return x0_ND
