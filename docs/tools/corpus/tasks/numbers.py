"""Tasks whose targets are numbers: regression, von Mises mixtures, an autoencoder, directions, the
noise in points (diffusion).

N samples · D inputs · K components · Z latents
"""

import functools
import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from docs.tools.corpus.training.nets import Net, perceptron
from docs.tools.corpus.training.settings import Settings, other_optimizer
from docs.tools.corpus.training.task import (
    Data,
    Outcome,
    Signals,
    Task,
    gained,
    judged_by,
    splits,
    total,
)
from sickbay.models.orientation.floor import loss_floor
from sickbay.models.orientation.metrics import gradient_cosine, mixture_metrics
from sickbay.models.orientation.mixture import Mixture, density_kl, mixture_loss
from sickbay.trials.contract import TaskKind

INPUTS = 8
SEEN = 16  # inputs of the autoencoder
LATENTS = 4
CLUSTERS = 5  # of the points to which noise is added
SHARPNESS = 6.0
FLAT = torch.tensor([[0.0, math.pi, 1e-3, 1e-3, math.log(0.5), math.log(0.5)]])


def curves(settings: Settings, seed: int) -> Data:
    """A smooth function of eight inputs, and noise."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(total(settings), INPUTS, generator=generator)
    clean = torch.sin(1.5 * x[:, 0]) + x[:, 1] * x[:, 2].tanh() + 0.7 * x[:, 3] - 0.4 * x[:, 4]
    noise = torch.randn(len(x), generator=generator)
    return splits(x, settings.signal * clean + settings.noise * noise, settings)


def squares(output: Tensor, y: Tensor, settings: Settings) -> Tensor:
    """The squared error of each sample."""
    return (output[:, 0] - y) ** 2


def curve_truth(output: Tensor, y: Tensor, constant: Tensor) -> Outcome:
    """Judge by the share of the variance that is explained."""
    return gained((output[:, 0] - y) ** 2, (constant[:, 0] - y) ** 2)


def directions(settings: Settings, seed: int) -> Data:
    """Inputs hide an angle; the truth has `modes` peaks around the circle, turned by it."""
    generator = torch.Generator().manual_seed(seed)
    n, modes = total(settings), settings.modes
    turn = torch.rand(n, generator=generator) * 2.0 * math.pi
    mixing = torch.randn(4, INPUTS, generator=torch.Generator().manual_seed(10_007))
    hidden = torch.stack(
        [torch.cos(turn), torch.sin(turn), torch.cos(2 * turn), torch.sin(2 * turn)], dim=1
    )
    x = hidden @ mixing + settings.noise * torch.randn(n, INPUTS, generator=generator)
    gap = 2.0 * math.pi / modes
    peaks = turn[:, None] + gap * torch.arange(modes) + 0.0
    kappa = torch.full_like(peaks, SHARPNESS)
    share = torch.full_like(peaks, 1.0 / modes)
    y = torch.cat([peaks, kappa, share.log()], dim=1)
    if modes == 1:  # truly unimodal data, and a head of two components
        y = torch.cat([peaks, peaks, kappa, kappa, torch.full((n, 2), math.log(0.5))], dim=1)
    return splits(x, y, settings)


def mixture_of(rows: Tensor) -> Mixture:
    """Read angles, concentrations and log weights off the columns."""
    mu, kappa, log_weight = rows.chunk(3, dim=1)
    return Mixture(mu, kappa, log_weight)


class DirectionNet(Net):
    """Blocks, and heads for the directions, the concentrations and the weights of two components.

    The output's columns are those of `mixture_of`.
    """

    def __init__(self, settings: Settings) -> None:
        plain = perceptron(INPUTS, 1, settings)
        super().__init__(list(plain.blocks), nn.Linear(settings.width, 8), settings)
        with torch.no_grad():
            self.head.weight.mul_(0.3)
            start = torch.tensor([1.0, -1.0, 0.0, 0.0])
            if settings.component_jitter >= 0.0:  # equal components, but for a jitter
                self.head.weight.copy_(
                    self.head.weight.view(4, 2, -1)[:, :1].expand(-1, 2, -1).reshape(8, -1)
                )
                start = torch.tensor([1.0, 1.0, 0.0, 0.0])
                self.head.weight.add_(
                    settings.component_jitter * torch.randn_like(self.head.weight)
                )
            self.head.bias.copy_(
                torch.cat([start, torch.tensor([1.0, 1.0, settings.first_logit, 0.0])])
            )

    def forward(self, x: Tensor) -> Tensor:
        raw = super().forward(x)
        mu = torch.atan2(raw[:, 2:4] + 1e-9, raw[:, 0:2] + 1e-9)
        kappa = torch.nn.functional.softplus(raw[:, 4:6]) + 0.05
        return torch.cat([mu, kappa, raw[:, 6:8].log_softmax(1)], dim=1)

    def component_gradients(self) -> Tensor | None:
        """The gradient of each component's rows of the head, (K, D); None before any."""
        if self.head.weight.grad is None:
            return None
        return self.head.weight.grad.view(4, 2, -1).transpose(0, 1).reshape(2, -1)


def direction_losses(output: Tensor, y: Tensor, settings: Settings) -> Tensor:
    """The named loss of each sample."""
    return mixture_loss(settings.mixture_loss, mixture_of(output), mixture_of(y))


@functools.lru_cache(maxsize=8)
def _matched_floor(key: bytes, loss: str) -> float:
    rows = torch.frombuffer(bytearray(key), dtype=torch.float32).view(-1, 6)
    return loss_floor(loss, mixture_of(rows), SHARPNESS)


def direction_floor(y: Tensor, settings: Settings) -> float:
    """The best constant's loss: the flat density's, or by descent for a matched loss."""
    if settings.mixture_loss == "dense":
        return flat_divergence(y)
    return _matched_floor(y.numpy().tobytes(), settings.mixture_loss)


def flat_divergence(y: Tensor) -> float:
    """The flat density's divergence; as peaks are turned at random, no constant is better."""
    return float(density_kl(mixture_of(FLAT.expand(len(y), 6)), mixture_of(y)).mean())


def direction_truth(output: Tensor, y: Tensor, constant: Tensor) -> Outcome:
    """Judge by the density against the flat one: with turned peaks no constant is better."""
    truth = mixture_of(y)
    return gained(
        density_kl(mixture_of(output), truth), density_kl(mixture_of(FLAT.expand(len(y), 6)), truth)
    )


def direction_measure(output: Tensor, y: Tensor, settings: Settings) -> Signals:
    """Every signal of a mixture but those that the loop measures for all."""
    metrics = mixture_metrics(mixture_of(output), mixture_of(y), settings.mixture_loss)
    return {
        name: value for name, value in metrics.items() if name not in ("val_loss", "val_loss_se")
    }


def direction_watch(net, data, settings, memory) -> Signals:
    """The cosine between the two components' gradients of the last step."""
    return {"component_gradient_cosine": gradient_cosine(net.component_gradients())}


def pictures(settings: Settings, seed: int) -> Data:
    """Sixteen numbers made of four hidden ones, bent, with noise; the target is the input."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(LATENTS, SEEN, generator=torch.Generator().manual_seed(10_007))
    hidden = torch.randn(total(settings), LATENTS, generator=generator)
    noise = torch.randn(len(hidden), SEEN, generator=generator)
    x = settings.signal * (hidden @ mixing).tanh() + settings.noise * noise
    return splits(x, x.clone(), settings)


class Autoencoder(Net):
    """Blocks to mean and log variance, and a decoder; the output holds all three."""

    def __init__(self, settings: Settings) -> None:
        plain = perceptron(SEEN, 1, settings)
        super().__init__(list(plain.blocks)[:2], nn.Linear(settings.width, 2 * LATENTS), settings)
        self.decoder = nn.Sequential(
            nn.Linear(LATENTS, settings.width), nn.ReLU(), nn.Linear(settings.width, SEEN)
        )

    def forward(self, x: Tensor) -> Tensor:
        mean, log_variance = super().forward(x).chunk(2, dim=1)
        log_variance = log_variance.clamp(-20.0, 20.0)
        noise = torch.randn_like(mean) if self.training else torch.zeros_like(mean)
        hidden = mean + noise * (0.5 * log_variance).exp()
        return torch.cat([self.decoder(hidden), mean, log_variance], dim=1)

    def groups(self):
        return super().groups() | {"decoder": list(self.decoder.parameters())}


def _divergence(output: Tensor) -> Tensor:
    mean, log_variance = output[:, SEEN : SEEN + LATENTS], output[:, SEEN + LATENTS :]
    return 0.5 * (mean**2 + log_variance.exp() - 1.0 - log_variance)


def evidence_losses(output: Tensor, y: Tensor, settings: Settings) -> Tensor:
    """Squared error over twice the noise's variance, plus β times the divergence."""
    error = ((output[:, :SEEN] - y) ** 2).sum(1) / (2.0 * settings.noise**2)
    return error + settings.beta * _divergence(output).sum(1)


def picture_constant(y: Tensor, settings: Settings) -> Tensor:
    """The mean picture, and the prior as its code."""
    return torch.cat([y.mean(0), torch.zeros(2 * LATENTS)])[None]


def picture_truth(output: Tensor, y: Tensor, constant: Tensor) -> Outcome:
    """Judge by how much of the pictures' variance is rebuilt."""
    errors = ((output[:, :SEEN] - y) ** 2).sum(1)
    return gained(errors, ((constant[:, :SEEN] - y) ** 2).sum(1))


def picture_measure(output: Tensor, y: Tensor, settings: Settings) -> Signals:
    """Divergence and spread of each latent."""
    return {
        "latent_kl": _divergence(output).mean(0).tolist(),
        "latent_variance": output[:, SEEN : SEEN + LATENTS].var(0).tolist(),
    }


def poses(settings: Settings, seed: int) -> Data:
    """Directions in space around a common one, seen through eight bent mixtures; unit (N, 3)."""
    generator = torch.Generator().manual_seed(seed)
    fixed = torch.Generator().manual_seed(10_007)
    way = torch.randn(total(settings), 3, generator=generator) + torch.tensor([0.5, 0.0, 0.0])
    way = way / way.norm(dim=1, keepdim=True)
    x = (2.0 * settings.signal * way @ torch.randn(3, INPUTS, generator=fixed)).sin()
    x = x + settings.noise * torch.randn(len(x), INPUTS, generator=generator)
    return splits(x, way, settings)


def pose_losses(output: Tensor, y: Tensor, settings: Settings) -> Tensor:
    """One less the cosine between direction and output: 0 to 2."""
    return 1.0 - torch.cosine_similarity(output, y, dim=1)


def diffused(settings: Settings, seed: int) -> Data:
    """Noisy points of five clusters, and how noisy each is; its noise, (N, 2)."""
    generator = torch.Generator().manual_seed(seed)
    n = total(settings)
    turn = 2.0 * math.pi * torch.randint(CLUSTERS, (n, 1), generator=generator) / CLUSTERS
    clean = settings.signal * torch.cat([turn.cos(), turn.sin()], dim=1)
    clean = clean + 0.1 * torch.randn(n, 2, generator=generator)
    angle = 0.5 * math.pi * settings.noise * torch.rand(n, 1, generator=generator)
    noise = torch.randn(n, 2, generator=generator)
    seen = angle.cos() * clean + angle.sin() * noise
    return splits(torch.cat([seen, angle, angle.cos(), angle.sin()], dim=1), noise, settings)


def vector_squares(output: Tensor, y: Tensor, settings: Settings) -> Tensor:
    """The mean squared error of each sample's columns."""
    return (output - y).square().mean(1)


def curve_task(name: str, settings: Settings, data, build, **others) -> Task:
    """A task of one number under squared error."""
    return Task(
        name,
        TaskKind.REGRESSION,
        settings,
        data,
        build,
        losses=squares,
        constant=lambda y, settings: y.mean()[None, None],
        truth=curve_truth,
        wanted=lambda y: y[:, None],
        **others,
    )


def vector_task(name: str, settings: Settings, data, build, **others) -> Task:
    """A task of several numbers under mean squared error."""
    return Task(
        name,
        TaskKind.REGRESSION,
        settings,
        data,
        build,
        losses=vector_squares,
        constant=lambda y, settings: y.mean(0)[None],
        truth=judged_by(vector_squares),
        **others,
    )


REGRESSION = curve_task(
    "regression",
    settings=Settings(activation="tanh", lr=4e-3, noise=0.5, n_train=600, batch=100),
    data=curves,
    build=lambda settings: perceptron(INPUTS, 1, settings),
)
MIXTURE = Task(
    name="mixture",
    kind=TaskKind.DENSITY,
    settings=Settings(
        n_train=512,
        n_val=200,
        n_test=1024,
        batch=128,
        noise=0.3,
        lr=4e-3,
        depth=2,
        mixture_loss="dense",
    ),
    data=directions,
    build=DirectionNet,
    losses=direction_losses,
    constant=lambda y, settings: torch.empty(0),
    truth=direction_truth,
    measure=direction_measure,
    watch=direction_watch,
    components=2,
    loss_floor=direction_floor,
    density_floor=flat_divergence,
)
VAE = Task(
    name="vae",
    kind=TaskKind.REGRESSION,
    settings=Settings(n_train=600, batch=100, noise=0.4, lr=4e-3),
    data=pictures,
    build=Autoencoder,
    losses=evidence_losses,
    constant=picture_constant,
    truth=picture_truth,
    measure=picture_measure,
    predicted=lambda output: output[:, :SEEN],
)
POSES = Task(
    name="poses",
    kind=TaskKind.REGRESSION,
    settings=Settings(
        activation="tanh", n_train=900, n_val=90, n_test=2000, batch=90, depth=2, lr=3e-3
    ),
    data=poses,
    build=lambda settings: perceptron(INPUTS, 3, settings),
    losses=pose_losses,
    constant=lambda y, settings: y.mean(0)[None],
    truth=judged_by(pose_losses),
    predicted=lambda output: output / output.norm(dim=1, keepdim=True).clamp_min(1e-9),
    epochs=30,
    vary=lambda settings, seed: replace(
        other_optimizer(settings, seed, sgd_lr=0.2), n_val=(50, 300)[seed % 2]
    ),
)
DIFFUSION = vector_task(
    "diffusion",
    settings=Settings(
        activation="gelu",
        n_train=1000,
        n_test=4000,
        batch=250,
        noise=0.8,
        lr=2e-3,
        weight_decay=0.01,
        schedule="cosine",
    ),
    data=diffused,
    build=lambda settings: perceptron(5, 2, settings),
    epochs=200,
    vary=lambda settings, seed: replace(settings, n_val=(200, 1000, 4000)[seed % 3]),
)
