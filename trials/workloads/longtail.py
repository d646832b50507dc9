"""System 5: Strategy A, an encoder, a diffusion model of its features and a classifier at once.

A pretrained encoder is fine-tuned on images of classes whose sizes fall a hundredfold. At a rate of
1e-2 it forgets for good; at 1e-3 the accuracy dips when the encoder is unfrozen and recovers, and
warmup only postpones the dip; a capped semantic loss has no gradient at all.
"""

import functools
import itertools
import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

import sickbay.datasets.formats.cifar as cifar_code
import sickbay.datasets.longtail as dataset_code
import sickbay.datasets.longtail.images as images_code
import sickbay.datasets.longtail.synthetic as data_code
import sickbay.models.longtail.network as encoder_code
import sickbay.models.longtail.pretraining as pretraining_code
from sickbay.datasets.longtail.synthetic import (
    Images,
    LongtailData,
    LongtailSpec,
    batches,
    data_identity,
    longtail_data,
)
from sickbay.models.longtail.evaluation import Seen, Start, Views, encoded, evaluate, start_of
from sickbay.models.longtail.lines import longtail_lines
from sickbay.models.longtail.losses import constant_loss, entropy
from sickbay.models.longtail.network import Encoder, HeadOptions, LongtailNet, group_names
from sickbay.models.longtail.pretraining import pretrain
from sickbay.models.longtail.steps import Steps
from sickbay.models.longtail.training import Strategy, StrategyOptions
from sickbay.models.shared.arithmetic import arithmetic
from sickbay.models.shared.compilation import compile_methods
from sickbay.models.shared.inputs import shown
from sickbay.trials.contract import Config, Context, ReferenceLine, Row, TaskFacts, TaskKind
from sickbay.trials.probes import StepProbe
from sickbay.trials.seeding import epoch_stream, seed_everything
from sickbay.trials.store.checkpoints import pack, unpack
from sickbay.trials.store.pretrained import PretrainingLog, Recipe, pretrained
from sickbay.trials.workloads.shared.kept_data import kept_splits
from sickbay.trials.workloads.shared.placement import Placement

EVAL_IMAGES = 250  # images that go through the encoder at once in evaluation
PRETRAIN, PRETRAIN_ORDER = -1, -2  # stand for epochs where pretraining draws
PRETRAIN_SETTINGS = """size dataset classes n_max imbalance width augment pretrain_split
    pretrain_images pretrain_steps pretrain_batch"""
PRETRAIN_CODE = (cifar_code, data_code, images_code, encoder_code, pretraining_code)


def train(config: Config, context: Context) -> Iterator[Row]:
    """Train and yield a row after each epoch."""
    seed_everything(context.seed, context.threads)
    place = Placement.of(config, context)
    data = _shown(place.keep(_data(_spec(config, context))), str(config["inputs"]))
    counts, size, augment = data.counts(), int(config["batch_size"]), bool(config["augment"])
    net, start, views = _begin(config, context, data, place)
    planned = math.ceil(len(data.train) / size)
    strategy = Strategy(net, StrategyOptions.of(config, planned * context.epochs))
    done = _resume(strategy, context)
    groups = net.groups()
    probe = StepProbe({name: groups[name] for name in _trained(config)})
    seen: Images | None = None  # the training images as features, while the encoder is frozen
    for epoch in range(done + 1, context.epochs + 1):
        generator = torch.Generator().manual_seed(epoch_stream(context.seed, epoch))
        steps = Steps(planned)
        net.zero_grad()  # of two optimisers the probe sees one a step late: not over an epoch's end
        encoded = strategy.stays_frozen(planned) and not augment
        if encoded and seen is None:
            labels = place.send(data.train.labels)
            seen = Images(_encoded(net.encoder, data.train, place), labels)
        images = seen if encoded and seen is not None else data.train
        with arithmetic(str(config["precision"]), context.device):
            for batch in place.sent(batches(images, size, generator, augment=augment)):
                strategy.step(batch, generator, probe, steps, encoded=encoded)
            if strategy.moved:
                views, strategy.moved = _views(net.encoder, data, place), False
            scores = evaluate(net, views, start, counts)
        learnt = steps.signals(data.classes)
        diffusion = learnt.get("diffusion_loss", math.nan)
        assert isinstance(diffusion, float)
        strategy.follow(diffusion)
        signals = {**probe.finish_epoch(), **learnt, **scores}
        context.save(functools.partial(_packed, strategy, epoch))
        yield Row(epoch, strategy.taken, signals)


def facts(config: Config, context: Context) -> TaskFacts:
    """Return the facts; each floor is that of the best constant on the very images that are scored.

    The validation images are balanced: their floor is log C, whatever the training classes' shares.
    """
    data = _data(_spec(config, context))
    counts = data.counts()
    return TaskFacts(
        kind=TaskKind.MULTICLASS,
        floors={
            "val_loss": float(constant_loss(data.val.labels).mean()),
            "train_loss": entropy(counts),
        },
        class_counts=counts,
        n={"train": len(data.train), "val": len(data.val)},
        groups=_trained(config),
        loss_minimum=0.0,
        reference_lines=tuple(
            ReferenceLine(*line) for line in longtail_lines(counts, _head(config))
        ),
    )


def _shown(data: LongtailData, inputs: str) -> LongtailData:
    """Blank the images if asked to, but for those of the pretraining."""
    parts = {
        name: replace(images, pixels=shown(inputs, images.pixels))
        for name, images in vars(data).items()
        if name in ("train", "val", "support", "means")
    }
    return replace(data, **parts)


def _begin(
    config: Config, context: Context, data: LongtailData, place: Placement
) -> tuple[LongtailNet, Start, Views]:
    """Build the net around the pretrained encoder; return also what the encoder knows and sees."""
    torch.manual_seed(epoch_stream(context.seed, 0))
    net = LongtailNet(str(config["size"]), data.classes, _head(config)).to(context.device)
    net.encoder.load_state_dict(_pretrained(config, context, data, place))
    methods = (net.encoder.forward, net.diffusion.denoiser.forward)
    compile_methods(methods, wanted=bool(config["compile"]), device=context.device)
    views = _views(net.encoder, data, place)
    net.start_prototypes(views.means.features, views.means.labels)
    return net, start_of(net, views), views


def _pretrained(
    config: Config, context: Context, data: LongtailData, place: Placement
) -> dict[str, Tensor]:
    """Train the encoder alone, or fetch the one that was trained so before."""
    size, steps = str(config["size"]), int(config["pretrain_steps"])
    batch, augment = int(config["pretrain_batch"]), bool(config["augment"])
    stream = epoch_stream(context.seed, PRETRAIN)

    def make(log: PretrainingLog) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(epoch_stream(context.seed, PRETRAIN_ORDER))
        endless = itertools.chain.from_iterable(
            batches(data.pretrain, batch, generator, augment=augment) for _ in itertools.count()
        )
        encoder = Encoder(size).to(context.device)
        return pretrain(encoder, data.classes, steps, place.sent(endless), log)

    settings = {name: config[name] for name in PRETRAIN_SETTINGS.split()}
    settings["data"] = data_identity(str(config["dataset"]))
    recipe = Recipe("longtail_diffusion", settings, stream, context.device, PRETRAIN_CODE)
    return pretrained(recipe, make)


def _views(encoder: Encoder, data: LongtailData, place: Placement) -> Views:
    parts = (data.val, data.support, data.means)
    return Views(*(Seen(_encoded(encoder, part, place), place.send(part.labels)) for part in parts))


def _encoded(encoder: Encoder, images: Images, place: Placement) -> Tensor:
    return encoded(encoder, place.sent(images.chunks(EVAL_IMAGES)))


def _packed(strategy: Strategy, epoch: int) -> bytes:
    return pack(strategy.state() | {"epoch": epoch})


def _resume(strategy: Strategy, context: Context) -> int:
    """Take over a checkpoint, if there is one; return the epochs done."""
    kept = context.restore()
    if kept is None:
        return 0
    state = unpack(kept, context.device)
    strategy.load(state)
    return int(state["epoch"])


def _trained(config: Config) -> tuple[str, ...]:
    """Name the groups that are meant to train."""
    encoder, diffusion = float(config["encoder_lr"]) > 0.0, float(config["lambda_sem"]) > 0.0
    return group_names(encoder=encoder, diffusion=diffusion)


def _head(config: Config) -> HeadOptions:
    kind = str(config["classifier"])
    return HeadOptions(kind, float(config["wcdas_s_init"]), float(config["wcdas_g"]))


@functools.lru_cache(maxsize=2)
def _data(spec: LongtailSpec) -> LongtailData:
    [data] = kept_splits(dataset_code, spec, LongtailData, lambda spec: (longtail_data(spec),))
    return data


def _spec(config: Config, context: Context) -> LongtailSpec:
    return LongtailSpec(
        dataset=str(config["dataset"]),
        classes=int(config["classes"]),
        largest=int(config["n_max"]),
        imbalance=float(config["imbalance"]),
        width=int(config["width"]),
        val_images=int(config["val_images"]),
        val_imbalance=float(config["val_imbalance"]),
        pretrain_split=str(config["pretrain_split"]),
        pretrain_images=int(config["pretrain_images"]),
        seed=context.seed,
    )
