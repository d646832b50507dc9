"""Tables under other losses: counts, heavy tails, a hinge, soft targets, rare classes, a denoiser,
claims that are mostly zero, actions whose reward alone is known.

N samples · D columns · C classes · A actions
"""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from docs.tools.corpus.tasks.classes import binary_task, class_task
from docs.tools.corpus.tasks.numbers import vector_task
from docs.tools.corpus.training.nets import perceptron
from docs.tools.corpus.training.settings import Settings, other_optimizer
from docs.tools.corpus.training.task import (
    Data,
    Outcome,
    Task,
    gained,
    judged_by,
    mean_and_error,
    splits,
    total,
)
from sickbay.trials.contract import TaskKind

COLUMNS = 10
TAUGHT = 6  # classes of the teacher's answers
TAIL = 8  # classes, each half as frequent as the one before
SEEN = 12  # columns of the denoiser
CAUSES = 4
ACTIONS = 4


def counts(settings: Settings, seed: int) -> Data:
    """Poisson counts whose log rate is a smooth function of a few columns."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(total(settings), COLUMNS, generator=generator)
    log_rate = 0.5 + 0.6 * settings.signal * (x[:, 0] + 0.7 * x[:, 1].tanh() - 0.4 * x[:, 2])
    return splits(x, torch.poisson(log_rate.exp(), generator=generator), settings)


def count_losses(output: Tensor, y: Tensor, settings: Settings) -> Tensor:
    """Poisson's negative log likelihood of log rates, without its constant: may be below zero."""
    return output[:, 0].exp() - y * output[:, 0]


def count_truth(output: Tensor, y: Tensor, constant: Tensor) -> Outcome:
    """Judge by the share of the deviance that is explained."""

    def deviances(log_rate: Tensor) -> Tensor:
        saturated = torch.special.xlogy(y, y) - y
        return 2.0 * (saturated - (y * log_rate - log_rate.exp()))

    return gained(deviances(output[:, 0]), deviances(constant[:, 0]))


def heavy_tails(settings: Settings, seed: int) -> Data:
    """A smooth function under noise of Student's t with two degrees of freedom."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(total(settings), COLUMNS, generator=generator)
    clean = x[:, 0] - x[:, 1] + x[:, 2] * x[:, 3].sign() + 0.5 * x[:, 4].abs()
    normal = torch.randn(len(x), 3, generator=generator)
    noise = normal[:, 0] / normal[:, 1:].square().mean(1).clamp_min(1e-3).sqrt()
    return splits(x, settings.signal * clean + settings.noise * noise, settings)


def absolute(output: Tensor, y: Tensor, settings: Settings) -> Tensor:
    """The absolute error of each sample."""
    return (output[:, 0] - y).abs()


def sided(settings: Settings, seed: int) -> Data:
    """Three in ten are positive: a curved border, and noise."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(total(settings), COLUMNS, generator=generator)
    score = x[:, 0] + x[:, 1] * x[:, 2] + 0.5 * x[:, 3].square() - x[:, 4]
    score = settings.signal * score + settings.noise * torch.randn(len(x), generator=generator)
    return splits(x, (score > score.quantile(0.7)).float(), settings)


def hinge(output: Tensor, y: Tensor, settings: Settings) -> Tensor:
    """How far each sample is from its side of the margin."""
    return (1.0 - (2.0 * y - 1.0) * output[:, 0]).relu()


def answers(settings: Settings, seed: int) -> Data:
    """A fixed random teacher's class probabilities, (N, 6)."""
    generator = torch.Generator().manual_seed(seed)
    fixed = torch.Generator().manual_seed(10_007)
    x = torch.randn(total(settings), COLUMNS, generator=generator)
    hidden = (x @ torch.randn(COLUMNS, 16, generator=fixed) / COLUMNS**0.5).tanh()
    logits = 1.5 * settings.signal * hidden @ torch.randn(16, TAUGHT, generator=fixed)
    logits = logits + settings.noise * torch.randn(len(x), TAUGHT, generator=generator)
    return splits(x, logits.softmax(1), settings)


def distances(output: Tensor, y: Tensor, settings: Settings) -> Tensor:
    """Kullback-Leibler divergence of the student's answer from the teacher's, of each sample."""
    return functional.kl_div(output.log_softmax(1), y, reduction="none").sum(1)


def long_tail(settings: Settings, seed: int) -> Data:
    """Eight classes, each half as frequent as the one before, around centres that overlap."""
    generator = torch.Generator().manual_seed(seed)
    fixed = torch.Generator().manual_seed(10_007)
    share = 0.5 ** torch.arange(TAIL)
    y = torch.multinomial(share, total(settings), replacement=True, generator=generator)
    x = torch.randn(len(y), COLUMNS, generator=generator)
    return splits(x + settings.signal * torch.randn(TAIL, COLUMNS, generator=fixed)[y], y, settings)


def blurred(settings: Settings, seed: int) -> Data:
    """Twelve columns mixed from four causes; three in ten are hidden and the rest is noisy."""
    generator = torch.Generator().manual_seed(seed)
    fixed = torch.Generator().manual_seed(10_007)
    causes = torch.randn(total(settings), CAUSES, generator=generator)
    clean = (settings.signal * causes @ torch.randn(CAUSES, SEEN, generator=fixed)).tanh()
    shown = torch.rand(clean.shape, generator=generator) > 0.3
    noise = settings.noise * torch.randn(clean.shape, generator=generator)
    return splits((clean + noise) * shown, clean, settings)


def claims(settings: Settings, seed: int) -> Data:
    """Sums of exponential amounts over a Poisson number of claims: seven in ten are zero."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(total(settings), COLUMNS, generator=generator)
    log_rate = settings.signal * (0.8 * x[:, 0] + 0.6 * x[:, 1].tanh() - 0.5 * x[:, 2] * x[:, 3])
    number = torch.poisson(0.3 * log_rate.exp().clamp_max(20.0), generator=generator).clamp_max(8.0)
    amounts = -torch.rand(len(x), 8, generator=generator).clamp_min(1e-6).log()
    return splits(x, (amounts * (torch.arange(8) < number[:, None])).sum(1), settings)


def tweedie(output: Tensor, y: Tensor, settings: Settings) -> Tensor:
    """Tweedie's loss of a log mean at power 1.5, without its constant; least at 4 sqrt(y)."""
    return 2.0 * y * (-0.5 * output[:, 0]).exp() + 2.0 * (0.5 * output[:, 0]).exp()


def rewards(settings: Settings, seed: int) -> Data:
    """Logged actions, drawn at random: what each action is worth, and which was taken, (N, A + 1).

    Only the reward of the action that was taken enters the loss.
    """
    generator = torch.Generator().manual_seed(seed)
    fixed = torch.Generator().manual_seed(10_007)
    x = torch.randn(total(settings), COLUMNS, generator=generator)
    worth = (settings.signal * x @ torch.randn(COLUMNS, ACTIONS, generator=fixed) / 1.5).sigmoid()
    taken = torch.randint(ACTIONS, (len(x), 1), generator=generator)
    return splits(x, torch.cat([worth, taken.float()], dim=1), settings)


def policy_losses(output: Tensor, y: Tensor, settings: Settings) -> Tensor:
    """Minus the reward of the action taken, by its share in the policy over that in the log."""
    taken = y[:, -1:].long().clamp(0, ACTIONS - 1)
    share = output.softmax(1).gather(1, taken)[:, 0]
    return -ACTIONS * share * y.gather(1, taken)[:, 0]


def policy_truth(output: Tensor, y: Tensor, constant: Tensor) -> Outcome:
    """Judge by what the policy's actions are worth over the best single action."""
    mean, error = mean_and_error(
        (output.softmax(1) * y[:, :-1]).sum(1) - (constant.softmax(1) * y[:, :-1]).sum(1)
    )
    return Outcome(mean, mean - 1.645 * error)


def best_action(y: Tensor, settings: Settings) -> Tensor:
    """The policy that always takes the action with the largest mean reward in the log."""
    taken, reward = y[:, -1].long(), y.gather(1, y[:, -1:].long())[:, 0]
    total_reward = torch.zeros(ACTIONS).index_add(0, taken, reward)
    return 40.0 * functional.one_hot(total_reward.argmax(), ACTIONS).float()[None]


COUNTS = Task(
    name="counts",
    kind=TaskKind.REGRESSION,
    settings=Settings(n_train=1500, n_val=500, n_test=4000, batch=150, depth=2, width=16, lr=2e-3),
    data=counts,
    build=lambda settings: perceptron(COLUMNS, 1, settings),
    losses=count_losses,
    constant=lambda y, settings: y.mean().clamp_min(1e-3).log()[None, None],
    truth=count_truth,
    predicted=torch.exp,
    wanted=lambda y: y[:, None],
    loss_minimum=None,
    epochs=15,
    vary=lambda settings, seed: replace(settings, n_val=(200, 500, 2000)[seed % 3]),
)
HEAVY_TAILS = Task(
    name="heavy_tails",
    kind=TaskKind.REGRESSION,
    settings=Settings(n_train=1200, n_val=300, n_test=4000, batch=240, depth=2, noise=0.7, lr=2e-3),
    data=heavy_tails,
    build=lambda settings: perceptron(COLUMNS, 1, settings),
    losses=absolute,
    constant=lambda y, settings: y.median()[None, None],
    truth=judged_by(absolute),
    wanted=lambda y: y[:, None],
    epochs=50,
    vary=lambda settings, seed: replace(settings, n_val=(100, 300, 3000)[seed % 3]),
)
HINGE = binary_task(
    "hinge",
    settings=Settings(n_train=1200, n_val=600, n_test=4000, batch=120, depth=2, lr=2e-3),
    data=sided,
    build=lambda settings: perceptron(COLUMNS, 1, settings),
    losses=hinge,
    constant=lambda y, settings: torch.where(y.mean() > 0.5, 1.0, -1.0)[None, None],
    epochs=12,
    vary=lambda settings, seed: replace(
        settings, **({}, {"optimizer": "sgd", "lr": 0.02})[seed % 2]
    ),
)
DISTILLED = Task(
    name="distilled",
    kind=TaskKind.UNKNOWN,
    settings=Settings(n_train=1000, n_val=250, n_test=2000, batch=200, depth=2, noise=0.5, lr=2e-3),
    data=answers,
    build=lambda settings: perceptron(COLUMNS, TAUGHT, settings),
    losses=distances,
    constant=lambda y, settings: y.mean(0).clamp_min(1e-9).log()[None],
    truth=judged_by(distances),
    predicted=lambda output: output.softmax(1),
    epochs=30,
    vary=lambda settings, seed: replace(settings, n_val=(100, 250, 1000)[seed % 3]),
)
LONG_TAIL = class_task(
    "long_tail",
    settings=Settings(n_train=1500, n_val=500, n_test=3000, batch=250, depth=2, lr=2e-3),
    data=long_tail,
    build=lambda settings: perceptron(COLUMNS, TAIL, settings),
    classes=TAIL,
    epochs=25,
    vary=other_optimizer,
)
DENOISING = vector_task(
    "denoising",
    settings=Settings(n_train=800, n_val=200, n_test=2000, batch=200, depth=3, noise=0.3, lr=1e-3),
    data=blurred,
    build=lambda settings: perceptron(SEEN, SEEN, settings),
    epochs=60,
)
CLAIMS = Task(
    name="claims",
    kind=TaskKind.REGRESSION,
    settings=Settings(n_train=3000, n_val=1000, n_test=6000, batch=150, depth=2, width=16, lr=2e-3),
    data=claims,
    build=lambda settings: perceptron(COLUMNS, 1, settings),
    losses=tweedie,
    constant=lambda y, settings: y.mean().clamp_min(1e-3).log()[None, None],
    truth=judged_by(tweedie),
    predicted=torch.exp,
    wanted=lambda y: y[:, None],
    epochs=12,
    vary=lambda settings, seed: replace(
        settings,
        **({}, {"optimizer": "sgd", "lr": 0.02})[seed // 2 % 2],
        n_val=(500, 5000)[seed % 2],
    ),
)
BANDIT = Task(
    name="bandit",
    kind=TaskKind.UNKNOWN,
    settings=Settings(n_train=2000, n_val=500, n_test=4000, batch=200, depth=2, lr=2e-3),
    data=rewards,
    build=lambda settings: perceptron(COLUMNS, ACTIONS, settings),
    losses=policy_losses,
    constant=best_action,
    truth=policy_truth,
    predicted=lambda output: output.softmax(1),
    wanted=lambda y: y[:, :-1],
    loss_minimum=None,
    epochs=40,
    vary=lambda settings, seed: replace(settings, n_val=(300, 1000, 4000)[seed % 3]),
)
