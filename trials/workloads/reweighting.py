"""System 4: a detector whose queries weight the features that they look at.

Gaussian weights that sum to one have a map of mean Σw / (H W), some hundredths, whatever their
width; queries that no camera sees and padding pile up on one pixel, whose value then normalises the
rest away. Features vanish but for the residual, and a weight read as a plain number passes no
gradient, so its generator never learns.
"""

import functools
import math
from collections.abc import Iterator
from dataclasses import replace
from types import ModuleType

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

import sickbay.datasets.formats.nuscenes as files
import sickbay.datasets.formats.nuscenes_tables as tables
import sickbay.datasets.reweighting as dataset_code
import sickbay.datasets.reweighting.synthetic as worlds
import sickbay.models.reweighting as model_code
import sickbay.models.reweighting.network as nets
from sickbay.datasets.formats.file_trees import tree_identity
from sickbay.datasets.reweighting import drives, frames
from sickbay.datasets.reweighting.frames import Frames
from sickbay.datasets.reweighting.synthetic import SYNTHETIC, WorldSpec, detection_data, draw_drives
from sickbay.models.reweighting import losses, maps, parts, training
from sickbay.models.reweighting.evaluation import (
    Modulation,
    assess,
    assess_before,
    compare_encoders,
    encoded,
    look,
    measures_plain,
)
from sickbay.models.reweighting.losses import best_constant, detection_losses
from sickbay.models.reweighting.maps import HEALTHY_MAXIMUM, MapOptions, map_lines
from sickbay.models.reweighting.metrics import ScoreRules
from sickbay.models.reweighting.network import GROUPS, SIZES, Batch, NetOptions, QueryDetector
from sickbay.models.reweighting.probes import Signals, gradient_signals
from sickbay.models.reweighting.training import CLIP, Rates, clear_gradients, part_optimizer
from sickbay.models.shared.arithmetic import arithmetic
from sickbay.models.shared.compilation import compile_methods
from sickbay.models.shared.inputs import shown
from sickbay.trials.contract import Config, Context, ReferenceLine, Row, TaskFacts, TaskKind
from sickbay.trials.probes import StepProbe
from sickbay.trials.seeding import epoch_stream, seed_everything
from sickbay.trials.store.checkpoints import Progress
from sickbay.trials.store.pretrained import PretrainingLog, Recipe, State, pretrained
from sickbay.trials.workloads.shared.kept_data import kept_floor, kept_splits
from sickbay.trials.workloads.shared.placement import Placement

REFERENCE = 128  # training samples from which the encoders' reference task learns
PRETRAINED = 2  # the stream of drives that pretraining sees; 0 and 1 are the splits
SHAPES = ("dataset", "size", "queries", "extent", "grid", "views", "height", "width")
SCHEDULE = ("pretrain_batch", "pretrain_lr", "pretrain_samples", "pretrain_steps")


def train(config: Config, context: Context) -> Iterator[Row]:
    """Tune a pretrained detector and yield a row after each epoch."""
    seed_everything(context.seed, context.threads)
    place = Placement.of(config, context)
    data, val = _data(config, context, place)
    modulation = _modulation(config)
    state = pretrained(_recipe(config, context), lambda log: _pretrain(config, context, log))
    torch.manual_seed(epoch_stream(context.seed, 0))
    net = QueryDetector(_options(config), float(config["weight_bias"])).to(context.device)
    net.load_state_dict({**net.state_dict(), **state})
    parts = (net.grid_encoder, net.view_encoder, net.generator, *net.decoder)
    methods = [part.forward for part in parts]
    compile_methods(methods, wanted=bool(config["compile"]), device=context.device)
    progress = Progress(net, part_optimizer(net, _rates(config)))
    floor = _floor(_spec(config, context), _options(config)).to(context.device)
    data, val = encoded(net, data), encoded(net, val)
    fixed = place.send(data.pick(torch.arange(min(REFERENCE, len(data.bev)))))
    before = assess_before(net, fixed, val, modulation)
    progress.resume(context.restore(), context.device)
    probe = StepProbe({name: net.groups()[name] for name in _trained(config)}, CLIP)
    for epoch in range(progress.epoch + 1, context.epochs + 1):
        stream = epoch_stream(context.seed, epoch)
        modulation = _modulation(config, (epoch - 1) / context.epochs)
        plain = measures_plain(epoch, context.epochs)
        with arithmetic(str(config["precision"]), context.device):
            learnt = _train_epoch(progress, data, config, modulation, probe, stream, place)
            scores = assess(net, val, modulation, floor, plain=plain)
        progress.epoch = epoch
        signals = {
            **probe.finish_epoch(),
            **learnt,
            **scores,
            **before.signals,
            **compare_encoders(net, fixed, val, before),
        }
        context.save(progress.pack)
        yield Row(epoch, progress.step, signals)


def facts(config: Config, context: Context) -> TaskFacts:
    """Return the floor, fitted through the trained loss, and the range and start of the maps."""
    spec, options, modulation = _spec(config, context), _options(config), _modulation(config)
    start = 1.0 / (1.0 + math.exp(-float(config["weight_bias"])))
    drawn = map_lines(modulation.maps, options.queries, spec.grid, start) if modulation else ()
    return TaskFacts(
        kind=TaskKind.DETECTION,
        floors={"val_loss": float(_floor(spec, options).double().mean())},
        n={"train": spec.train_samples, "val": spec.val_samples},
        bounds={"map_max": (0.0, HEALTHY_MAXIMUM)} if modulation else {},
        groups=_trained(config),
        loss_minimum=0.0,
        reference_lines=tuple(ReferenceLine(*line) for line in drawn),
    )


def _train_epoch(
    progress: Progress,
    data: Batch,
    config: Config,
    modulation: Modulation | None,
    probe: StepProbe,
    stream: int,
    place: Placement,
) -> Signals:
    """Take the epoch's steps on samples drawn anew; return what the two losses did."""
    generator = torch.Generator().manual_seed(stream)
    net, optimizer = progress.net.train(), progress.optimizer
    assert isinstance(net, QueryDetector)
    groups = {name: net.groups()[name] for name in _trained(config)}
    parameters = [parameter for group in groups.values() for parameter in group]
    compared, by_task, targets = [], [], []
    for _ in range(int(config["steps"])):
        batch = place.send(_draw(data, int(config["batch_size"]), generator))
        predicted = net.decode(*look(net, batch, modulation))
        result = detection_losses(predicted.logits, predicted.codes, batch.boxes, batch.classes)
        tasks = (result.classes.mean(), result.boxes.mean())
        loss = tasks[0] + tasks[1]
        gradient, other = (
            torch.autograd.grad(task, predicted.content, retain_graph=True)[0] for task in tasks
        )
        compared.append((gradient.flatten(), other.flatten()))
        clear_gradients(groups)
        loss.backward()  # type: ignore[no-untyped-call]
        probe.after_backward()
        norm = clip_grad_norm_(parameters, CLIP)
        optimizer.step()
        probe.after_update(loss, norm)
        progress.step += 1
        by_task.append(torch.stack(tasks).detach())
        targets.append((batch.classes >= 0).sum())
    return {
        **gradient_signals(compared),
        "task_losses": torch.stack(by_task).double().mean(dim=0).tolist(),
        "supervised_targets": float(torch.stack(targets).sum()),
    }


def _pretrain(config: Config, context: Context, log: PretrainingLog) -> State:
    """Train the detector without weights on its own data; return all but the generator."""
    spec = _spec(config, context)
    seen = _splits(spec)[0]
    if spec.dataset == SYNTHETIC:
        seen = draw_drives(spec, int(config["pretrain_samples"]), PRETRAINED)
    data = _batch(seen.to(context.device))
    # What is kept must follow from the recipe alone, not from the trial that happens to make it.
    torch.manual_seed(epoch_stream(context.seed, 1_000_000))
    net = QueryDetector(_options(config)).to(context.device)
    generator = torch.Generator().manual_seed(epoch_stream(context.seed, 1_000_001))
    size = int(config["pretrain_batch"])
    training.pretrain(
        net,
        lambda _: _draw(data, size, generator),
        int(config["pretrain_steps"]),
        float(config["pretrain_lr"]),
        log,
    )
    return {
        key: tensor for key, tensor in net.state_dict().items() if not key.startswith("generator.")
    }


def _recipe(config: Config, context: Context) -> Recipe:
    code: tuple[ModuleType, ...] = (worlds, frames, nets, parts, maps, losses, training)
    settings = {name: config[name] for name in (*SHAPES, *SCHEDULE)}
    if config["dataset"] != SYNTHETIC:
        code += (drives, files, tables)
        settings |= {name: config[name] for name in ("train_samples", "val_samples", "sweeps")}
        settings["data"] = _identity(config)
    return Recipe("query_reweighting", settings, context.seed, context.device, code)


def _identity(config: Config) -> str:
    return tree_identity(str(config["dataset"]), SYNTHETIC)


@functools.lru_cache(maxsize=8)
def _floor(spec: WorldSpec, options: NetOptions) -> Tensor:
    """Return the loss (S,) of the best constant answer on each validation sample."""

    def fitted() -> Tensor:
        _, val = _splits(spec)
        points_Q2 = QueryDetector(replace(options, width=4, heads=1, layers=1)).points()[:, :2]
        return best_constant(points_Q2.detach(), val.boxes, val.classes, options.classes)

    settings = {"queries": options.queries, "classes": options.classes}
    return kept_floor((dataset_code, model_code), spec, settings, fitted)


def _data(config: Config, context: Context, place: Placement) -> tuple[Batch, Batch]:
    """Return both splits; the validation split is on the device wherever the other is kept."""
    inputs = str(config["inputs"])
    train_split, val_split = (
        replace(split, bev=shown(inputs, split.bev), views=shown(inputs, split.views))
        for split in _splits(_spec(config, context))
    )
    data, val = _batch(place.keep(train_split)), _batch(val_split.to(context.device))
    # The rig is one for all samples: sent once, so that its rays are embedded once.
    return replace(data, rig=None if data.rig is None else place.send(data.rig)), val


@functools.lru_cache(maxsize=2)
def _splits(spec: WorldSpec) -> tuple[Frames, ...]:
    made = detection_data if spec.dataset == SYNTHETIC else drives.real_drives
    return kept_splits(dataset_code, spec, Frames, made)


def _batch(frame_set: Frames) -> Batch:
    same = bool((frame_set.lidar2img == frame_set.lidar2img[:1]).all())
    rig = frame_set.lidar2img[:1].clone() if same else None
    return Batch(
        frame_set.bev, frame_set.views, frame_set.lidar2img, frame_set.boxes, frame_set.classes, rig
    )


def _draw(data: Batch, size: int, generator: torch.Generator) -> Batch:
    chosen = torch.randint(len(data.bev), (size,), generator=generator)
    return data.pick(chosen.to(data.bev.device))


def _modulation(config: Config, done: float = 0.0) -> Modulation | None:
    """How features are weighted when a share of the epochs is `done`; None where they are not.

    Raises ValueError for unknown levels.
    """
    levels = {
        "reweighting": ("on", "off"),
        "detach_weight": ("grad", "item"),
        "perspective_norm": ("present", "missing"),
        "invalid_query": ("pile_to_origin", "drop"),
        "residual_form": ("add", "mix"),
        "residual_schedule": ("constant", "falling"),
    }
    for name, allowed in levels.items():
        if config[name] not in allowed:
            known = ", ".join(allowed)
            raise ValueError(f"{name}: {config[name]!r} is not known; choose one of {known}")
    options = MapOptions(
        kernel=str(config["kernel_norm"]),
        sigma=float(config["gaussian_sigma"]),
        norm=str(config["map_norm"]),
        norm_views=config["perspective_norm"] == "present",
        pile=config["invalid_query"] == "pile_to_origin",
        padding=int(config["dn_pad"]),
        residual=_residual(config, done),
        mix=config["residual_form"] == "mix",
        stretch=bool(config["modulator_minmax"]),
    )
    modulation = Modulation(options, detach=config["detach_weight"] == "item")
    return modulation if config["reweighting"] == "on" else None


def _residual(config: Config, done: float) -> float:
    """Return how much passes unweighted: the weight itself, or a fall from 1 to it by half-time."""
    weight = float(config["residual_weight"])
    if config["residual_schedule"] == "constant":
        return weight
    return weight + (1.0 - weight) * max(0.0, 1.0 - 2.0 * done)


def _trained(config: Config) -> tuple[str, ...]:
    """Name the parts that are meant to train."""
    idle = {"grid_encoder", "view_encoder"} if float(config["encoder_lr"]) <= 0.0 else set()
    idle |= {"generator"} if config["reweighting"] != "on" else set()
    return tuple(name for name in GROUPS if name not in idle)


def _rates(config: Config) -> Rates:
    base = float(config["lr"])
    return Rates(
        encoders=float(config["encoder_lr"]),
        generator=base,
        references=base * float(config["reference_mult"]),
        decoder=base * float(config["lr_mult"]),
    )


def _options(config: Config) -> NetOptions:
    size = str(config["size"])
    if size not in SIZES:
        raise ValueError(f"size: {size!r} is not known; choose one of {', '.join(SIZES)}")
    extent, queries = float(config["extent"]), int(config["queries"])
    sized = replace(SIZES[size], extent=extent, queries=queries)
    if config["dataset"] == SYNTHETIC:
        return sized
    return replace(sized, classes=drives.KINDS, rules=_benchmark())


def _benchmark() -> ScoreRules:
    """Return how nuScenes scores its ten classes."""
    names = files.CLASSES
    return ScoreRules(
        kept=drives.BOXES,
        ranges=tuple(drives.RANGES.get(name, drives.FAR) for name in names),
        half_turn=frozenset(names.index(name) for name in drives.HALF_TURN),
        undefined=tuple((names.index(k), frozenset(v)) for k, v in drives.UNDEFINED.items()),
    )


def _spec(config: Config, context: Context) -> WorldSpec:
    return WorldSpec(
        dataset=str(config["dataset"]),
        train_samples=int(config["train_samples"]),
        val_samples=int(config["val_samples"]),
        extent=float(config["extent"]),
        grid=int(config["grid"]),
        views=int(config["views"]),
        height=int(config["height"]),
        width=int(config["width"]),
        seed=context.seed,
        sweeps=int(config["sweeps"]),
    )
