"""The step of Strategy A: who hears which loss, when the encoder rests, what two optimisers do."""

import math

import pytest
import torch

from sickbay.models.longtail.losses import SemanticOptions
from sickbay.models.longtail.network import HeadOptions, LongtailNet
from sickbay.models.longtail.steps import Steps
from sickbay.models.longtail.training import Strategy, StrategyOptions

SEMANTIC = SemanticOptions(0.05, 0.05, "mse")


class Watch:
    def __init__(self, net):
        self.net, self.looks, self.losses = net, [], []

    def after_backward(self):
        grads = {n: [p.grad for p in ps] for n, ps in self.net.groups().items()}
        self.looks.append({n: any(g is not None for g in gs) for n, gs in grads.items()})

    def after_update(self, loss, grad_norm):
        self.losses.append((float(loss.detach()), float(grad_norm)))


def options(**changes):
    settings = {
        "mode": "joint",
        "bn_mode": "train",
        "encoder_lr": 1e-3,
        "head_lr": 1e-3,
        "diffusion_lr": 1e-3,
        "weight": 0.01,
        "semantic": SEMANTIC,
        "warm": 0,
        "generate_from": 10**9,
        "ddim_steps": 3,
    }
    return StrategyOptions(**{**settings, **changes})


def batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(12, 3, 16, 16, generator=generator), torch.arange(12) % 3


def strategy(**changes):
    torch.manual_seed(0)
    net = LongtailNet("small", 3, HeadOptions("ce", 0.0, 0.0))
    net.encoder.eval()
    images, labels = batch()
    net.start_prototypes(net.encoder(images).detach(), labels)
    return Strategy(net, options(**changes))


def taken(count=1, **changes):
    """A strategy after some steps, what its watch has seen, and the record of its steps."""
    run = strategy(**changes)
    watch, steps = Watch(run.net), Steps(count)
    for number in range(count):
        run.step(batch(number), torch.Generator().manual_seed(number), watch, steps)
    return run, watch, steps


def moved(run, **changes):
    """Which groups differ from a fresh strategy's."""
    before = strategy(**changes).net.groups()
    return {
        name
        for name, group in run.net.groups().items()
        if any(not torch.equal(a, b) for a, b in zip(group, before[name], strict=True))
    }


@pytest.mark.parametrize("mode", ["joint", "detach_features", "decoupled"])
def test_every_part_moves_in_every_mode(mode):
    run, watch, steps = taken(2, mode=mode)
    assert moved(run) == {"encoder", "diffusion", "head"}
    assert len(watch.losses) == len(watch.looks) == 2
    signals = steps.signals(3)
    assert signals["task_losses"][0] == pytest.approx(sum(loss for loss, _ in watch.losses) / 2)
    assert signals["task_losses"][1] > signals["diffusion_loss"] > 0.0
    assert ("loss_gradient_cosine" in signals) == (mode != "detach_features")


def test_a_resting_encoder_keeps_its_weights_and_statistics_and_has_no_gradient():
    run, watch, steps = taken(2, warm=2)
    assert moved(run) == {"diffusion", "head"}
    assert watch.looks == [{"encoder": False, "diffusion": True, "head": True}] * 2
    fresh = strategy().net.encoder.state_dict()
    assert all(torch.equal(v, fresh[k]) for k, v in run.net.encoder.state_dict().items())
    assert "loss_gradient_cosine" not in steps.signals(3)


def test_warmup_ends_with_weights_and_normalisation_let_go_at_one_step():
    run, watch, _ = taken(3, warm=2)
    assert [look["encoder"] for look in watch.looks] == [False, False, True]
    assert run.net.encoder.training
    counted = [v for k, v in run.net.encoder.state_dict().items() if "batches_tracked" in k]
    assert all(int(count) == 1 for count in counted)


def test_a_rate_of_zero_leaves_the_weights_but_not_the_statistics():
    run, watch, _ = taken(2, encoder_lr=0.0)
    assert moved(run) == {"diffusion", "head"}
    assert not any(look["encoder"] for look in watch.looks)
    counted = [v for k, v in run.net.encoder.state_dict().items() if "batches_tracked" in k]
    assert all(int(count) == 2 for count in counted)
    still, _, _ = taken(2, encoder_lr=0.0, bn_mode="eval")
    fresh = strategy().net.encoder.state_dict()
    assert all(torch.equal(v, fresh[k]) for k, v in still.net.encoder.state_dict().items())


def test_detached_features_pass_nothing_of_the_semantic_loss_back():
    """The encoder moves as it does without any semantic loss; jointly it does not."""
    alone, detached, joint = (
        taken(2, **changes)[0].net.groups()["encoder"]
        for changes in (
            {"weight": 0.0},
            {"weight": 10.0, "mode": "detach_features"},
            {"weight": 10.0, "mode": "joint"},
        )
    )
    assert all(torch.equal(a, b) for a, b in zip(alone, detached, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(alone, joint, strict=True))


def test_without_a_semantic_loss_the_diffusion_model_has_no_part():
    run, watch, steps = taken(2, weight=0.0, generate_from=0)
    assert moved(run) == {"encoder", "head"}
    assert not watch.looks[0]["diffusion"]
    assert "task_losses" not in steps.signals(3)


def test_a_cap_leaves_the_diffusion_model_exactly_where_it_is():
    capped = {"semantic": SemanticOptions(0.05, 0.05, "mse", 5.0)}
    run, _, steps = taken(3, **capped)
    assert moved(run) == {"encoder", "head"}
    signals = steps.signals(3)
    assert signals["semantic_capped_share"] == 1.0
    assert signals["diffusion_gradient_norm"] == 0.0
    assert signals["task_losses"][1] == 5.0
    assert signals["loss_gradient_norms"][1] == 0.0
    assert math.isnan(signals["loss_gradient_cosine"])


def test_gradients_at_the_features_are_those_of_the_two_losses():
    """The semantic one scales with its weight, the classifier's does not."""
    one, ten = (taken(1, weight=w)[2].signals(3) for w in (0.01, 0.1))
    real, pulled = one["loss_gradient_norms"]
    assert ten["loss_gradient_norms"] == pytest.approx([real, 10.0 * pulled], rel=1e-4)
    assert ten["loss_gradient_cosine"] == pytest.approx(one["loss_gradient_cosine"], abs=1e-5)
    assert one["loss_gradient_batches"] == 1.0


def test_gradients_are_compared_in_eight_steps_of_an_epoch():
    assert [Steps(16, losses=[torch.zeros(())] * n).compares() for n in range(4)] == [
        True,
        False,
        True,
        False,
    ]
    assert all(Steps(3, losses=[torch.zeros(())] * n).compares() for n in range(3))


def test_generated_features_teach_the_head_once_they_are_due():
    without, _, _ = taken(1)
    generated, _, _ = taken(1, generate_from=0)
    head, other = (run.net.groups()["head"] for run in (without, generated))
    assert not all(torch.equal(a, b) for a, b in zip(head, other, strict=True))


def test_two_optimisers_go_one_after_the_other():
    run, _, _ = taken(2, mode="decoupled")
    states = [len(optimizer.state) for optimizer in run.optimizers]
    sizes = {name: len(group) for name, group in run.net.groups().items()}
    assert states == [sizes["encoder"] + sizes["head"], sizes["encoder"] + sizes["diffusion"]]
    joint, _, _ = taken(2)
    pairs = zip(run.net.groups()["encoder"], joint.net.groups()["encoder"], strict=True)
    assert not all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("mode", ["joint", "decoupled"])
def test_a_strategy_goes_on_from_its_state(mode):
    straight, _, _ = taken(4, mode=mode, warm=1, generate_from=0)
    half, _, _ = taken(2, mode=mode, warm=1, generate_from=0)
    again = strategy(mode=mode, warm=1, generate_from=0)
    again.load(half.state())
    watch, steps = Watch(again.net), Steps(2)
    for number in (2, 3):
        again.step(batch(number), torch.Generator().manual_seed(number), watch, steps)
    state, other = straight.net.state_dict(), again.net.state_dict()
    assert all(torch.equal(state[name], other[name]) for name in state)


def test_large_gradients_are_cut_part_by_part():
    run, watch, steps = taken(1, weight=1e4)
    assert steps.signals(3)["clipped_share"] == 1.0
    assert watch.losses[0][1] > 100.0  # before the cut
    norm = torch.stack([p.grad.norm() for p in run.net.groups()["diffusion"]]).norm()
    assert float(norm) == pytest.approx(5.0, rel=1e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mode": "both"}, "grad_mode: 'both' is not known; choose one of joint, detach_features"),
        ({"bn_mode": "off"}, "bn_mode: 'off' is not known; choose one of train, eval"),
    ],
)
def test_a_wrong_word_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        options(**changes)


def test_warmup_that_follows_the_diffusion_loss_ends_when_that_settles():
    run = strategy(warm=100, warm_until="diffusion")
    run.taken = 10
    for loss, frozen in ((8.0, True), (6.0, True), (5.8, False)):  # a fall of 3 % is none
        run.follow(loss)
        assert run.stays_frozen(1) is frozen
    fixed = strategy(warm=100)
    fixed.follow(6.0)
    fixed.follow(6.0)
    assert fixed.stays_frozen(1)
    again = strategy(warm=100, warm_until="diffusion")
    again.load(run.state())
    assert not again.stays_frozen(1)


def test_gradient_norms_are_by_module():
    run, _, steps = taken(1, warm=1)
    encoder, head, diffusion = steps.signals(3)["module_gradient_norms"]
    assert encoder == 0.0
    gradients = [parameter.grad for parameter in run.net.head.parameters()]
    assert head == pytest.approx(
        float(torch.cat([g.flatten() for g in gradients]).norm()), rel=1e-5
    )
    assert diffusion == pytest.approx(steps.signals(3)["diffusion_gradient_norm"])
