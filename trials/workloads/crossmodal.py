"""System 2: is there an anomaly in the scene? A camera and a lidar, joined by attention.

Three failures: an unsupervised loss, mean(s) + 0.1 std(s), is zero within twenty steps; labels
redrawn each epoch leave the loss at H(p) and the accuracy at 1 - p, which looks like 90 %;
attention without a residual discards the points' content.
"""

import functools
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

import sickbay.datasets.crossmodal as dataset_code
from sickbay.datasets.crossmodal.synthetic import (
    P_RANDOM,
    SYNTHETIC,
    SceneSet,
    SceneSpec,
    batches,
    counting_lines,
    crossmodal_data,
    scene_labels,
)
from sickbay.models.crossmodal.lines import scene_lines
from sickbay.models.crossmodal.losses import constant_losses, sample_loss
from sickbay.models.crossmodal.metrics import (
    Steps,
    branch_norms,
    evaluation_signals,
    training_signals,
    truth_signals,
)
from sickbay.models.crossmodal.network import GRID, SceneNet, Scored, group_names
from sickbay.models.shared.arithmetic import arithmetic
from sickbay.models.shared.classification_metrics import Metrics, label_flip_rate
from sickbay.models.shared.compilation import compile_methods
from sickbay.models.shared.early_stopping import Patience
from sickbay.models.shared.inputs import shown
from sickbay.models.shared.reference_lines import flip_line
from sickbay.trials.contract import Config, Context, ReferenceLine, Row, TaskFacts, TaskKind
from sickbay.trials.probes import SAMPLE_EVERY, StepProbe
from sickbay.trials.seeding import dropout_stream, epoch_stream, seed_everything
from sickbay.trials.store.checkpoints import Progress
from sickbay.trials.workloads.shared.kept_data import kept_splits
from sickbay.trials.workloads.shared.placement import Placement

EVAL_SCENES = 64  # scenes that go through the net at once in evaluation
TRAIN, VAL = 2**61, 2**61 + 2**60  # keep the draws of labels apart from those of the batches


def train(config: Config, context: Context) -> Iterator[Row]:
    """Train and yield a row after each epoch."""
    seed_everything(context.seed, context.threads)
    place = Placement.of(config, context)
    scenes, val = map(place.keep, _data(_spec(config, context)))
    torch.manual_seed(epoch_stream(context.seed, 0))
    threshold, patience = _threshold(config), Patience(int(config["patience"]))
    net = SceneNet(str(config["size"]), str(config["fusion"]), float(config["dropout"]))
    net, attends = net.to(context.device), net.attends
    compile_methods([net.forward], wanted=bool(config["compile"]), device=context.device)
    progress = Progress(net, torch.optim.Adam(net.parameters(), lr=float(config["lr"]), fused=True))
    if patience.epochs:
        progress.schedule = patience
    progress.resume(context.restore(), context.device)
    probe = StepProbe(net.groups())
    for epoch in range(progress.epoch + 1, context.epochs + 1):
        if patience.over:
            return
        net.attends = attends and epoch > float(config["staged"]) * context.epochs
        stream = epoch_stream(context.seed, epoch)
        labels = _labels(scenes, config, context, epoch, TRAIN)
        # mean_std drives gradients below 1e-38, where arithmetic is several times as slow.
        torch.set_flush_denormal(True)
        with arithmetic(str(config["precision"]), context.device):
            learnt = _train_epoch(progress, scenes, labels, config, probe, stream, place)
            torch.set_flush_denormal(False)
            val_labels = _labels(val, config, context, epoch, VAL)
            scores = _evaluate(net, val, val_labels, config, threshold, place)
        progress.epoch = epoch
        loss = scores["val_loss"]
        assert isinstance(loss, float)
        patience.step(loss)
        signals = {
            **probe.finish_epoch(),
            **learnt,
            **_label_signals(scenes, labels, config, context, epoch),
            **scores,
        }
        context.save(progress.pack)
        yield Row(epoch, progress.step, signals)


def facts(config: Config, context: Context) -> TaskFacts:
    """Return the floors, measured through the trained loss on its training labels."""
    scenes, val = _data(_spec(config, context))
    train_labels = _labels(scenes, config, context, 1, TRAIN)
    val_labels = _labels(val, config, context, 1, VAL)
    loss, pos_weight = str(config["loss"]), float(config["pos_weight"])
    positives = int(train_labels.sum())
    drawn = train_labels
    if config["sampling"] == "balanced" and 0 < positives < len(train_labels):
        drawn = train_labels.new_tensor([0.0, 1.0])  # one class is seen as often as the other
    return TaskFacts(
        kind=TaskKind.BINARY,
        floors={
            "val_loss": float(constant_losses(loss, val_labels, pos_weight).mean()),
            "train_loss": float(constant_losses(loss, drawn, pos_weight).mean()),
        },
        class_counts=(len(train_labels) - positives, positives),
        n={"train": len(scenes), "val": len(val)},
        groups=group_names(str(config["fusion"])),
        loss_minimum=0.0,
        reference_lines=_reference_lines(config, float(val_labels.mean())),
    )


def _threshold(config: Config) -> float:
    """Read the probability above which a scene is called an anomaly."""
    threshold = float(config["decision_threshold"])
    if not 0.0 < threshold < 1.0:
        raise ValueError(f"decision_threshold: {threshold} is not between 0 and 1")
    return threshold


def _labels(scenes: SceneSet, config: Config, context: Context, epoch: int, offset: int) -> Tensor:
    """Return the labels of an epoch; of the made-up ones only `random10` change with it."""
    source = str(config["label_source"])
    drawn_at = epoch if source == "random10" else 0
    return scene_labels(scenes, source, epoch_stream(context.seed, drawn_at) + offset)


def _train_epoch(
    progress: Progress,
    scenes: SceneSet,
    labels: Tensor,
    config: Config,
    probe: StepProbe,
    stream: int,
    place: Placement,
) -> Metrics:
    """Go once through the training split; return what its steps have shown."""
    generator = torch.Generator().manual_seed(stream)
    torch.manual_seed(dropout_stream(stream))  # dropout draws from the global generator
    net, optimizer = progress.net.train(), progress.optimizer
    assert isinstance(net, SceneNet)
    groups, parameters = net.groups(), list(net.parameters())
    loss_name, pos_weight = str(config["loss"]), float(config["pos_weight"])
    points, select = int(config["points"]), str(config["point_select"])
    inputs, sampling = str(config["inputs"]), str(config["sampling"])
    size = int(config["batch_size"])
    learnt = Steps()
    drawn = batches(scenes, labels, size, points, select, generator, sampling)
    for batch in place.sent(drawn):
        logits = net(shown(inputs, batch.images), shown(inputs, batch.points)).logits
        logits.retain_grad()
        loss = sample_loss(loss_name, logits, batch.labels, pos_weight).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        probe.after_backward()
        learnt.add(logits, batch.labels)
        if progress.step % SAMPLE_EVERY == 0:
            learnt.branches.append(branch_norms(groups))
        norm = get_total_norm(
            [parameter.grad for parameter in parameters if parameter.grad is not None]
        )
        optimizer.step()
        probe.after_update(loss, norm)
        progress.step += 1
    return training_signals(learnt, loss_name, _threshold(config))


def _label_signals(
    scenes: SceneSet, labels: Tensor, config: Config, context: Context, epoch: int
) -> Metrics:
    """Compare the labels with the ground truth, and with those of the epoch before."""
    signals = truth_signals(labels, scenes.truth)
    if epoch > 1:
        before = _labels(scenes, config, context, epoch - 1, TRAIN)
        signals["label_flip_rate"] = label_flip_rate(before, labels)
        signals["label_flip_n"] = float(len(labels))
    return signals


@torch.no_grad()
def _evaluate(
    net: SceneNet, val: SceneSet, labels: Tensor, config: Config, threshold: float, place: Placement
) -> Metrics:
    net.eval()
    points, select = int(config["points"]), str(config["point_select"])
    inputs = str(config["inputs"])
    scored = Scored.concatenate(
        net(shown(inputs, batch.images), shown(inputs, batch.points))
        for batch in place.sent(batches(val, labels, EVAL_SCENES, points, select))
    )
    truth = place.send(val.truth) if config["label_source"] != "true" else None
    loss, pos_weight = str(config["loss"]), float(config["pos_weight"])
    return evaluation_signals(scored, place.send(labels), truth, loss, pos_weight, threshold)


@functools.lru_cache(maxsize=2)
def _data(spec: SceneSpec) -> tuple[SceneSet, ...]:
    return kept_splits(dataset_code, spec, SceneSet, crossmodal_data)


def _spec(config: Config, context: Context) -> SceneSpec:
    return SceneSpec(
        dataset=str(config["dataset"]),
        train_scenes=int(config["train_scenes"]),
        val_scenes=int(config["val_scenes"]),
        height=int(config["height"]),
        width=int(config["width"]),
        seed=context.seed,
    )


def _reference_lines(config: Config, share: float) -> tuple[ReferenceLine, ...]:
    tokens = GRID * GRID if str(config["fusion"]).startswith("full") else 0
    lines = scene_lines(str(config["loss"]), float(config["pos_weight"]), share, tokens)
    if config["label_source"] == "random10":
        lines = (*lines, flip_line(P_RANDOM))
    if config["label_source"] in ("true", "voxel") and config["dataset"] == SYNTHETIC:
        lines = (*lines, *counting_lines())
    return tuple(ReferenceLine(*line) for line in lines)
