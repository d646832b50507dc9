"""System 3: score every lidar point as normal or anomalous.

One failure, and three wrong explanations of it. The labels are noise, redrawn each epoch, so the
best answer is a constant, and recall is 0 or 1 depending on the weight of positives alone. Neither
weight nor imbalance is the cause: with true labels even a weight of 1 ranks perfectly. The voxel
transform of another data set finds no label at all, and then accuracy is perfect.
"""

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

import sickbay.datasets.pointwise as dataset_code
from sickbay.datasets.pointwise.synthetic import (
    RANDOM_SHARE,
    Labelling,
    PointScenes,
    SceneSpec,
    point_scenes,
    targets,
    true_targets,
)
from sickbay.models.pointwise.lines import label_lines, point_lines
from sickbay.models.pointwise.losses import LossOptions, best_constant, scene_losses
from sickbay.models.pointwise.metrics import (
    Seen,
    evaluate,
    gradient_norm,
    label_signals,
    seen_signals,
    unit_of,
)
from sickbay.models.pointwise.network import PointAnomalyNet, group_names
from sickbay.models.shared.arithmetic import arithmetic
from sickbay.models.shared.compilation import compile_methods
from sickbay.models.shared.inputs import shown
from sickbay.models.shared.reference_lines import flip_line
from sickbay.trials.contract import Config, Context, ReferenceLine, Row, TaskFacts, TaskKind
from sickbay.trials.probes import StepProbe
from sickbay.trials.seeding import dropout_stream, epoch_stream, seed_everything
from sickbay.trials.store.checkpoints import Progress
from sickbay.trials.workloads.shared.kept_data import kept_splits
from sickbay.trials.workloads.shared.placement import Placement


@dataclass(frozen=True)
class Task:
    """What a configuration asks to be learnt: the plan, the loss, the labels of both splits."""

    plan: str
    loss: LossOptions
    of_train: Labelling
    of_val: Labelling


def train(config: Config, context: Context) -> Iterator[Row]:
    """Train and yield a row after each epoch."""
    seed_everything(context.seed, context.threads)
    task = _task(config, context)
    place = Placement.of(config, context)
    scenes, val = map(place.keep, _data(_spec(config, context)))
    torch.manual_seed(epoch_stream(context.seed, 0))
    net = PointAnomalyNet(
        str(config["size"]), str(config["fusion"]), str(config["image_weights"])
    ).to(context.device)
    methods = (net.encode, net.decide)
    compile_methods(methods, wanted=bool(config["compile"]), device=context.device)
    progress = Progress(net, torch.optim.Adam(net.parameters(), lr=float(config["lr"]), fused=True))
    progress.resume(context.restore(), context.device)
    probe = StepProbe(net.groups())
    inputs = str(config["inputs"])
    views, val_views = (
        (shown(inputs, part.points), net.seen(shown(inputs, part.images), context.device))
        for part in (scenes, val)
    )
    before = targets(scenes, task.of_train, progress.epoch) if progress.epoch else None
    val_target = None
    for epoch in range(progress.epoch + 1, context.epochs + 1):
        _set_rate(progress, float(config["lr"]), (epoch - 1) / context.epochs)
        target = targets(scenes, task.of_train, epoch, before)
        val_target = targets(val, task.of_val, epoch, val_target)
        batches = _batches(len(scenes), int(config["batch_size"]), context.seed, epoch)
        with arithmetic(str(config["precision"]), context.device):
            seen = _train_epoch(progress, views, target, task, batches, probe, place)
            scores = evaluate(net, val_views, val.truth, val_target, task.plan, task.loss)
        progress.epoch = epoch
        signals = {
            **probe.finish_epoch(),
            **seen_signals(seen),
            **label_signals(target, true_targets(scenes, task.of_train), before),
            "supervised_targets": float(seen.target.numel()),
            "branch_gradient_norm": [gradient_norm(net.points), gradient_norm(net.image)],
            **scores,
        }
        before = target
        context.save(progress.pack)
        yield Row(epoch, progress.step, signals)


def facts(config: Config, context: Context) -> TaskFacts:
    """Return the floors under the trained loss and labels, and where noise would lead."""
    task = _task(config, context)
    scenes, val = _data(_spec(config, context))
    target, val_target = targets(scenes, task.of_train, 1), targets(val, task.of_val, 1)
    share, val_share = (float(values.double().mean()) for values in (target, val_target))
    positives, points = int(target.sum()), int(config["points"])
    truth = true_targets(scenes, task.of_train)
    return TaskFacts(
        kind=TaskKind.BINARY,
        floors={
            "val_loss": best_constant(task.loss, val_share, task.plan, points)[1],
            "train_loss": best_constant(task.loss, share, task.plan, points)[1],
        },
        class_counts=(target.numel() - positives, positives),
        n={"train": target.numel(), "val": val_target.numel()},
        groups=group_names(str(config["size"]), str(config["fusion"])),
        loss_minimum=0.0,
        reference_lines=(
            *_reference_lines(task, val_share, points),
            *(ReferenceLine(*line) for line in label_lines(target, truth)),
        ),
    )


def _batches(count: int, size: int, seed: int, epoch: int) -> tuple[Tensor, ...]:
    """Shuffle the scenes into even batches of at most `size`, and seed what dropout draws from."""
    stream = epoch_stream(seed, epoch)
    torch.manual_seed(dropout_stream(stream))
    order_S = torch.randperm(count, generator=torch.Generator().manual_seed(stream))
    return order_S.tensor_split(math.ceil(count / size))


def _set_rate(progress: Progress, highest: float, done: float) -> None:
    """Set the rate where a cosine from `highest` to 1e-6 is when a share of the epochs is done."""
    rate = 1e-6 + (highest - 1e-6) * 0.5 * (1.0 + math.cos(math.pi * done))
    for group in progress.optimizer.param_groups:
        group["lr"] = rate


def _train_epoch(
    progress: Progress,
    views: tuple[Tensor, Tensor],
    target: Tensor,
    task: Task,
    batches: tuple[Tensor, ...],
    probe: StepProbe,
    place: Placement,
) -> Seen:
    """Go once through points and images of the training split; return what was seen there."""
    net, optimizer = progress.net.train(), progress.optimizer
    assert isinstance(net, PointAnomalyNet)
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    everything = (*views, target)
    for index_B in batches:
        chosen_B = index_B.to(target.device)
        points, images, wanted = place.send(tuple(part[chosen_B] for part in everything))
        feature_BNC, _ = net.encode(points, images)
        logits = net.decide(feature_BNC, task.plan)
        logits.retain_grad()
        loss = scene_losses(task.plan, task.loss, logits, wanted).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        probe.after_backward()
        norm = get_total_norm(
            [parameter.grad for parameter in net.parameters() if parameter.grad is not None]
        )
        optimizer.step()
        probe.after_update(loss, norm)
        progress.step += 1
        parts.append(unit_of(task.plan, logits, wanted))
    return Seen(*(torch.cat(part).flatten() for part in zip(*parts, strict=True)))


def _task(config: Config, context: Context) -> Task:
    options = LossOptions(
        kind=str(config["loss"]),
        pos_weight=float(config["pos_weight"]),
        alpha=float(config["focal_alpha"]),
        gamma=float(config["focal_gamma"]),
    )
    plan = str(config["plan"])
    source, transform = str(config["label_source"]), str(config["transform"])
    labellings = (
        Labelling(source, transform, plan != "A", context.seed, split) for split in (0, 1)
    )
    return Task(plan, options, *labellings)


@functools.lru_cache(maxsize=3)
def _data(spec: SceneSpec) -> tuple[PointScenes, ...]:
    return kept_splits(dataset_code, spec, PointScenes, point_scenes)


def _spec(config: Config, context: Context) -> SceneSpec:
    return SceneSpec(
        dataset=str(config["dataset"]),
        points=int(config["points"]),
        train_scenes=int(config["train_scenes"]),
        val_scenes=int(config["val_scenes"]),
        size=str(config["size"]),
        seed=context.seed,
    )


def _reference_lines(task: Task, share: float, points: int) -> tuple[ReferenceLine, ...]:
    source = task.of_val.source
    noise = source.startswith("random")
    lines = point_lines(task.plan, task.loss, share, points, noise=noise)
    if source == "random15" and task.plan == "A":
        lines = (*lines, flip_line(RANDOM_SHARE))
    return tuple(ReferenceLine(*line) for line in lines)
