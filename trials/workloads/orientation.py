"""System 1: a PointNet++ that says which ways an object may face, as a mixture of von Mises.

Two failures: with the μ head at zero its gradient is exactly zero, and the loss stays at the best
constant (0.7429 for four peaks of κ 8); with the matched loss weighted by the predicted weights the
loss falls below 0.1 while only one component of four is alive.
"""

import functools
import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim.lr_scheduler import ReduceLROnPlateau

import sickbay.datasets.orientation as dataset_code
import sickbay.models.orientation as model_code
from sickbay.datasets.orientation.synthetic import (
    Batch,
    Clouds,
    OrientationSpec,
    batches,
    held_out_clouds,
    orientation_data,
)
from sickbay.models.orientation.floor import density_floor, loss_floor
from sickbay.models.orientation.lines import mixture_lines
from sickbay.models.orientation.metrics import Metrics, gradient_cosine, mixture_metrics
from sickbay.models.orientation.mixture import Mixture, mixture_loss
from sickbay.models.orientation.network import HeadOptions, OrientationNet, group_names
from sickbay.models.shared.arithmetic import arithmetic
from sickbay.models.shared.compilation import Layers, compile_methods
from sickbay.models.shared.inputs import shown
from sickbay.trials.contract import Config, Context, ReferenceLine, Row, TaskFacts, TaskKind
from sickbay.trials.probes import StepProbe
from sickbay.trials.seeding import dropout_stream, epoch_stream, seed_everything
from sickbay.trials.store.checkpoints import Progress
from sickbay.trials.workloads.shared.kept_data import kept_floor, kept_splits
from sickbay.trials.workloads.shared.placement import Placement

CLIP = 1.0
HALF, STEP_AT = 0.5, 29 / 50  # of the learning rate; share of the epochs
PATIENCE = 10  # epochs
TESTED = ("val_loss", "val_loss_se", "val_n", "val_uniform_kl", "val_density_kl")
EVAL_POINTS = 8_192  # points that go through the net at once in evaluation


def train(config: Config, context: Context) -> Iterator[Row]:
    """Train and yield a row after each epoch."""
    seed_everything(context.seed, context.threads)
    place = Placement.of(config, context)
    clouds, val = map(place.keep, _data(_spec(config, context)))
    torch.manual_seed(epoch_stream(context.seed, 0))
    net = _build(config).to(context.device)
    methods = [part.forward for part in net.modules() if isinstance(part, Layers)]
    compile_methods(methods, wanted=bool(config["compile"]), device=context.device)
    progress = Progress(net, torch.optim.Adam(net.parameters(), lr=float(config["lr"]), fused=True))
    plateau = ReduceLROnPlateau(progress.optimizer, factor=HALF, patience=PATIENCE)
    if config["lr_schedule"] == "plateau":
        progress.schedule = plateau
    progress.resume(context.restore(), context.device)
    groups = net.groups()
    probe = StepProbe({name: groups[name] for name in _trained(config)}, CLIP)
    for epoch in range(progress.epoch + 1, context.epochs + 1):
        _set_rate(progress, config, (epoch - 1) / context.epochs)
        stream = epoch_stream(context.seed, epoch)
        with arithmetic(str(config["precision"]), context.device):
            targets = _train_epoch(progress, clouds, config, probe, stream, place)
            scores = _evaluate(net, val, config, int(config["val_rotations"]), place)
            if epoch == context.epochs:
                scores |= _tested(net, config, context, place)
        progress.epoch = epoch
        signals = {
            **probe.finish_epoch(),
            **scores,
            "supervised_targets": float(targets),
            "component_gradient_cosine": gradient_cosine(net.component_gradients()),
        }
        loss = signals["val_loss"]
        if progress.schedule is plateau and isinstance(loss, float):
            plateau.step(loss)
        context.save(progress.pack)
        yield Row(epoch, progress.step, signals)


def facts(config: Config, context: Context) -> TaskFacts:
    """Return the floors, measured through the trained loss on the validation targets, and more."""
    spec, rotations = _spec(config, context), int(config["val_rotations"])
    clouds, val = _data(spec)
    loss_h0, density_h0 = _floors(spec, rotations, str(config["loss"]))
    return TaskFacts(
        kind=TaskKind.DENSITY,
        floors={"val_loss": loss_h0, "val_density_kl": density_h0},
        n={"train": len(clouds) * int(config["rotations"]), "val": len(val) * rotations},
        groups=_trained(config),
        components=spec.components,
        loss_minimum=0.0,
        reference_lines=_reference_lines(spec),
    )


def _reference_lines(spec: OrientationSpec) -> tuple[ReferenceLine, ...]:
    """Return the closed forms, which hold where all shapes face in `kfold` ways."""
    lines = () if spec.classes else mixture_lines(spec.kfold, spec.kappa)
    return tuple(ReferenceLine(*line) for line in lines)


def _trained(config: Config) -> tuple[str, ...]:
    """Name the groups with something to learn: a lone weight is 1, a flat truth has no angle."""
    kfold = int(config["kfold"])
    idle = {"head_pi"} if kfold < 2 else set()
    idle |= {"head_mu"} if kfold == 0 else set()
    return tuple(name for name in group_names(str(config["size"])) if name not in idle)


def _build(config: Config) -> OrientationNet:
    options = HeadOptions(
        components=max(int(config["kfold"]), 1),
        initialization=str(config["initialization"]),
        guard=str(config["atan2_guard"]),
        temperature=float(config["pi_temp"]),
        offset=math.radians(float(config["initialization_offset"])),
        fixed=_fixed(config),
    )
    return OrientationNet(str(config["size"]), options, float(config["dropout"]))


def _fixed(config: Config) -> bool:
    """Whether the angles that the μ head starts from stay as they are."""
    levels = {"learned": False, "fixed": True}
    name = str(config["initial_angles"])
    if name not in levels:
        raise ValueError(
            f"initial_angles: {name!r} is not known; choose one of {', '.join(levels)}"
        )
    return levels[name]


def _set_rate(progress: Progress, config: Config, done: float) -> None:
    """Set the learning rate after a share of the epochs is done; `plateau` sets its own.

    `step` halves it from epoch 30 of 50 on, as in the report; `plateau`, as upstream, after more
    than ten epochs without a lower validation loss.
    """
    schedules = {
        "constant": 1.0,
        "cosine": 0.5 * (1.0 + math.cos(math.pi * done)),
        "step": HALF if done >= STEP_AT else 1.0,
    }
    name = str(config["lr_schedule"])
    if name not in (*schedules, "plateau"):
        known = ", ".join((*schedules, "plateau"))
        raise ValueError(f"lr_schedule: {name!r} is not known; choose one of {known}")
    if name == "plateau":
        return
    for group in progress.optimizer.param_groups:
        group["lr"] = float(config["lr"]) * schedules[name]


def _train_epoch(
    progress: Progress,
    clouds: Clouds,
    config: Config,
    probe: StepProbe,
    stream: int,
    place: Placement,
) -> int:
    """Go once through the training split; return how many targets were learnt from."""
    generator = torch.Generator().manual_seed(stream)
    torch.manual_seed(dropout_stream(stream))  # dropout draws from the global generator
    net, optimizer = progress.net.train(), progress.optimizer
    parameters, inputs = list(net.parameters()), str(config["inputs"])
    targets = 0
    drawn = batches(clouds, int(config["rotations"]), int(config["batch_size"]), generator)
    for batch in place.sent(drawn):
        predicted = net(shown(inputs, batch.points), generator)
        loss = mixture_loss(str(config["loss"]), predicted, _truth(batch)).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        probe.after_backward()
        norm = clip_grad_norm_(parameters, CLIP)
        optimizer.step()
        probe.after_update(loss, norm)
        progress.step += 1
        targets += batch.mu.numel()
    return targets


def _tested(net: OrientationNet, config: Config, context: Context, place: Placement) -> Metrics:
    """Return what the trained net reaches on shapes of a third split, each as it stands."""
    clouds = held_out_clouds(_spec(config, context), int(config["test_shapes"]))
    if clouds is None:
        return {}
    scores = _evaluate(net, place.keep(clouds), config, 1, place)
    return {name.replace("val_", "test_"): scores[name] for name in TESTED}


@torch.no_grad()
def _evaluate(
    net: OrientationNet, val: Clouds, config: Config, rotations: int, place: Placement
) -> Metrics:
    net.eval()
    chunk = max(int(config["batch_size"]), EVAL_POINTS // val.points.shape[1])
    inputs = str(config["inputs"])
    parts = [
        (net(shown(inputs, batch.points)), _truth(batch))
        for batch in place.sent(batches(val, rotations, chunk))
    ]
    predicted = Mixture.concatenate([part[0] for part in parts])
    truth = Mixture.concatenate([part[1] for part in parts])
    return mixture_metrics(predicted, truth, str(config["loss"]))


def _truth(batch: Batch) -> Mixture:
    return Mixture(batch.mu, batch.kappa, batch.weight.log())


def _spec(config: Config, context: Context) -> OrientationSpec:
    return OrientationSpec(
        dataset=str(config["dataset"]),
        kfold=int(config["kfold"]),
        kappa=float(config["kappa_gt"]),
        components=max(int(config["kfold"]), 1),
        points=int(config["points"]),
        train_shapes=int(config["train_shapes"]),
        val_shapes=int(config["val_shapes"]),
        classes=str(config["classes"]),
        seed=context.seed,
    )


@functools.lru_cache(maxsize=4)
def _data(spec: OrientationSpec) -> tuple[Clouds, ...]:
    return kept_splits(dataset_code, spec, Clouds, orientation_data)


@functools.lru_cache(maxsize=16)
def _floors(spec: OrientationSpec, rotations: int, loss: str) -> tuple[float, float]:
    def fitted() -> Tensor:
        _, val = _data(spec)
        truth = Mixture.concatenate([_truth(batch) for batch in batches(val, rotations, len(val))])
        both = loss_floor(loss, truth, spec.kappa), density_floor(truth, spec.kappa)
        return torch.tensor(both, dtype=torch.float64)

    settings: Config = {"rotations": rotations, "loss": loss}
    loss_h0, density_h0 = kept_floor((dataset_code, model_code), spec, settings, fitted).tolist()
    return loss_h0, density_h0
