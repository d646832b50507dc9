"""`toy_quadratic`: linear regression by minibatch gradient descent, in numpy, in milliseconds.

A real little learner with real signals: `lr` 0.1 and 0.05 learn, 10.0 diverges, 0.0 never moves.
The factor `fault` plants every way a training program can fail (see `faults`). Arrays carry their
axes in the name: N samples, B of them in a batch, S steps, D inputs; the last of D is the bias.
"""

import io
import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sickbay.trials.contract import (
    Config,
    Context,
    Factor,
    Goal,
    Objective,
    Row,
    SignalValue,
    TaskFacts,
    TaskKind,
    Workload,
)
from sickbay_demo.faults import FAULTS, strike

Array = NDArray[np.float64]
GROUPS = ("weights", "bias")
N_TRAIN, N_VAL, BATCH, NOISE = 256, 256, 64, 0.1


@dataclass(frozen=True)
class Split:
    """Inputs and targets."""

    x: Array  # (N, D), the last column is 1
    y: Array  # (N,)


@dataclass
class State:
    """What is trained. It is all that a checkpoint must hold: batches follow from (seed, epoch)."""

    epoch: int
    theta: Array  # (D,)
    velocity: Array  # (D,)


def train(config: Config, context: Context) -> Iterator[Row]:
    """Yield one row an epoch."""
    try:
        if config["fault"] == "no_rows":
            return
        train_split, val_split = make_data(config, context.seed)
        state = restored(context.restore()) or initial(config, context.seed)
        for epoch in range(state.epoch + 1, context.epochs + 1):
            strike(config, epoch, context.workdir)
            if config["fault"] == "nan" and epoch >= int(config["fault_epoch"]):
                state.theta = np.full_like(state.theta, np.nan)
            with np.errstate(all="ignore"):  # divergence is a result here, not an accident
                signals = run_epoch(config, context.seed, epoch, state, train_split)
                signals |= evaluate(state, val_split)
            state.epoch = epoch
            if config["fault"] == "no_objective":
                del signals["val_loss"]
            back = config["fault"] == "decreasing" and epoch == config["fault_epoch"]
            context.save(lambda: as_bytes(state))
            yield Row(epoch - 2 if back else epoch, epoch * (N_TRAIN // BATCH), signals)
    finally:
        with suppress(FileNotFoundError):  # a work directory may be gone by then
            (Path(context.workdir) / "closed").touch()  # lets a test see that `finally` ran


def facts(config: Config, context: Context) -> TaskFacts:
    """H0: the mean squared error of the best constant, which is the variance of the targets."""
    train_split, val_split = make_data(config, context.seed)
    return TaskFacts(
        kind=TaskKind.REGRESSION,
        floors={"val_loss": float(np.var(val_split.y)), "train_loss": float(np.var(train_split.y))},
        n={"train": N_TRAIN, "val": N_VAL},
        groups=GROUPS,
        loss_minimum=0.0,
    )


def make_data(config: Config, seed: int) -> tuple[Split, Split]:
    """Targets y = x w + b + noise with |w| = 1.5, drawn from the seed alone."""
    rng = np.random.default_rng([seed, 1])
    d = int(config["features"])
    w_D = rng.normal(size=d)
    w_D *= 1.5 / np.linalg.norm(w_D)

    def split(n: int) -> Split:
        x_ND = rng.normal(size=(n, d))
        y_N = x_ND @ w_D + 0.5 + NOISE * rng.normal(size=n)
        return Split(np.hstack([x_ND, np.ones((n, 1))]), y_N)

    return split(N_TRAIN), split(N_VAL)


def initial(config: Config, seed: int) -> State:
    """Start at zero, or at small random parameters."""
    d = int(config["features"]) + 1
    random_D = 0.1 * np.random.default_rng([seed, 2]).normal(size=d)
    start_D = random_D if config["init"] == "random" else np.zeros(d)
    return State(0, start_D, np.zeros(d))


def run_epoch(
    config: Config, seed: int, epoch: int, state: State, split: Split
) -> dict[str, SignalValue]:
    """Train one epoch in place and give back what was seen on the way."""
    order_N = np.random.default_rng([seed, 3, epoch]).permutation(N_TRAIN)
    start_D = state.theta.copy()
    losses, grads, updates = [], [], []
    for batch_B in order_N.reshape(-1, BATCH):
        x_BD = split.x[batch_B]
        residual_B = x_BD @ state.theta - split.y[batch_B]
        grad_D = 2 * x_BD.T @ residual_B / BATCH
        state.velocity = float(config["momentum"]) * state.velocity + grad_D
        update_D = float(config["lr"]) * state.velocity
        updates.append(np.divide(norms(update_D), np.maximum(norms(state.theta), 1e-12)))
        state.theta = state.theta - update_D
        losses.append(float(np.mean(residual_B**2)))
        grads.append(grad_D)
    norm_S = np.array([np.linalg.norm(grad_D) for grad_D in grads])
    bad_S = ~np.isfinite(norm_S)
    return {
        "train_loss": float(np.mean(losses)),
        "train_loss_se": float(np.std(losses) / math.sqrt(len(losses))),
        "train_steps": float(len(losses)),
        "nonfinite_loss_steps": float(np.sum(~np.isfinite(losses))),
        "nonfinite_grad_steps": float(np.sum(bad_S)),
        "nonfinite_grad_run": float(longest_run(bad_S)),
        "nonfinite_params": float(np.sum(~np.isfinite(state.theta))),
        "grad_norm_p50": float(np.quantile(norm_S, 0.5)),
        "grad_norm_p90": float(np.quantile(norm_S, 0.9)),
        "grad_norm_max": float(np.max(norm_S)),
        "clipped_share": 0.0,
        "zero_grad_share": float(np.mean(norm_S == 0)),
        "group_grad_max": by_group(np.max(np.abs(grads), axis=0), np.max),
        "group_update_norm": norms(state.theta - start_D).tolist(),
        "group_weight_norm": norms(state.theta).tolist(),
        "group_update_ratio": np.median(updates, axis=0).tolist(),
        "supervised_targets": float(N_TRAIN),
    }


def evaluate(state: State, split: Split) -> dict[str, SignalValue]:
    """Measure the validation split."""
    predicted_N = split.x @ state.theta
    loss_N = (predicted_N - split.y) ** 2
    return {
        "val_loss": float(np.mean(loss_N)),
        "val_loss_se": float(np.std(loss_N) / math.sqrt(N_VAL)),
        "val_n": float(N_VAL),
        "output_variance_ratio": float(np.var(predicted_N) / np.var(split.y)),
    }


def by_group(values_D: Array, reduce: Callable[[Array], float]) -> list[float]:
    """Reduce the weights and the bias apart."""
    return [float(reduce(values_D[:-1])), float(reduce(values_D[-1:]))]


def norms(values_D: Array) -> Array:
    """Euclidean norm of the weights and of the bias, shape (2,)."""
    return np.array([np.linalg.norm(values_D[:-1]), np.linalg.norm(values_D[-1:])])


def longest_run(flags: NDArray[np.bool_]) -> int:
    """Count the longest unbroken run of true."""
    best = now = 0
    for flag in flags:
        now = now + 1 if flag else 0
        best = max(best, now)
    return best


def as_bytes(state: State) -> bytes:
    """A checkpoint."""
    buffer = io.BytesIO()
    np.savez(buffer, epoch=state.epoch, theta=state.theta, velocity=state.velocity)
    return buffer.getvalue()


def restored(data: bytes | None) -> State | None:
    """Read a checkpoint back; None if there is none."""
    if data is None:
        return None
    with np.load(io.BytesIO(data)) as arrays:
        return State(int(arrays["epoch"]), arrays["theta"], arrays["velocity"])


WORKLOAD = Workload(
    name="toy_quadratic",
    version="1",
    doc="Linear regression in numpy: trains in milliseconds, and fails on demand.",
    defaults={
        "epochs": 16,
        "lr": 0.1,
        "momentum": 0.0,
        "init": "random",
        "fault": "none",
        "fault_epoch": 3,
        "fault_times": 1,
        "sleep_ms": 0.0,
        "features": 4,
        "size": "small",
        "note": "",
    },
    sizes={"small": {}, "full": {"features": 16}},
    factors=(
        Factor(
            "lr",
            (0.1, 0.05, 10.0, 0.0),
            "Step size; 10.0 diverges, 0.0 never moves.",
            low=1e-4,
            high=100.0,
            log=True,
        ),
        Factor("momentum", (0.0, 0.5), "Share of the last step that is kept.", low=0.0, high=0.9),
        Factor("init", ("random", "zeros"), "Where the parameters start."),
        Factor("fault", FAULTS, "What goes wrong, at `fault_epoch`."),
    ),
    objective=Objective("val_loss", Goal.MINIMIZE),
    train=train,
    facts=facts,
)
