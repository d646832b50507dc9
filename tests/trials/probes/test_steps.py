"""Step measurements on models small enough to work them out by hand."""

import math
import time

import pytest
import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_

from sickbay.trials.probes import SAMPLE_EVERY, StepProbe


class Two(nn.Module):
    """Two groups, one of which can be left out of the loss or multiplied by zero."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 1)

    def groups(self):
        return {"first": [*self.first.parameters()], "second": [*self.second.parameters()]}


def train(model, loss_of, *, steps=4, lr=0.1, clip=math.inf, probe=True):
    """A plain loop; returns the probe's signals, the norms before clipping, and the losses."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    watching = StepProbe(model.groups(), clip) if probe else None
    norms, losses = [], []
    for step in range(steps):
        optimizer.zero_grad()
        loss = loss_of(model, step)
        loss.backward()
        if watching:
            watching.after_backward()
        norm = clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        if watching:
            watching.after_update(loss, norm)
        norms.append(float(norm))
        losses.append(float(loss.detach()))
    return (watching.finish_epoch() if watching else {}), norms, losses


def regression(model, step):
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
    return (model.second(torch.relu(model.first(x))) - x.sum(dim=1, keepdim=True)).square().mean()


def test_numerics_are_those_of_the_steps():
    signals, norms, losses = train(Two(), regression, clip=1.5)
    assert signals["train_steps"] == 4
    assert signals["train_loss"] == pytest.approx(sum(losses) / 4)
    assert signals["grad_norm_max"] == pytest.approx(max(norms))
    assert signals["grad_norm_p50"] == pytest.approx(sorted(norms)[1] / 2 + sorted(norms)[2] / 2)
    assert signals["clipped_share"] == sum(norm > 1.5 for norm in norms) / 4
    assert signals["zero_grad_share"] == 0.0
    assert signals["nonfinite_loss_steps"] == signals["nonfinite_params"] == 0.0


def test_group_signals_are_those_of_the_parameters():
    model = Two()
    before = [[p.detach().clone() for p in group] for group in model.groups().values()]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    probe = StepProbe(model.groups())
    loss = regression(model, 0)
    loss.backward()
    largest = [max(float(p.grad.abs().max()) for p in g) for g in model.groups().values()]
    probe.after_backward()
    norm = clip_grad_norm_(model.parameters(), 1e-3)  # what comes later must not show
    optimizer.step()
    probe.after_update(loss, norm)
    signals = probe.finish_epoch()
    assert signals["group_grad_max"] == pytest.approx(largest)

    def length(parts):
        return math.sqrt(sum(float(part.square().sum()) for part in parts))

    for index, group in enumerate(model.groups().values()):
        moved = length(p.detach() - b for p, b in zip(group, before[index], strict=True))
        weight = length(p.detach() for p in group)
        assert signals["group_update_norm"][index] == pytest.approx(moved, rel=1e-4)
        assert signals["group_weight_norm"][index] == pytest.approx(weight, rel=1e-5)
        assert signals["group_update_ratio"][index] == pytest.approx(moved / weight, rel=1e-4)


def test_a_zero_gradient_is_exactly_zero_and_a_missing_one_is_nan():
    dead, _, _ = train(Two(), lambda m, _: m.first.weight.sum() + 0.0 * m.second.weight.sum())
    assert dead["group_grad_max"] == [1.0, 0.0]
    assert dead["group_update_norm"][1] == 0.0
    assert dead["group_update_ratio"][1] == 0.0
    absent, _, _ = train(Two(), lambda m, _: m.first.weight.sum())
    assert absent["group_grad_max"][0] == 1.0
    assert math.isnan(absent["group_grad_max"][1])


def test_a_gradient_that_lived_in_one_step_only_is_not_dead():
    signals, _, _ = train(Two(), lambda m, s: m.second.weight.sum() * (1e-30 if s == 2 else 0.0))
    assert signals["group_grad_max"][1] == pytest.approx(1e-30)


def test_steps_that_are_not_finite_are_counted_with_their_longest_run():
    bad = {1, 2, 3, 5}
    signals, _, _ = train(
        Two(), lambda m, s: m.first.weight.sum() * (math.nan if s in bad else 1.0), steps=7, lr=0.0
    )
    assert signals["nonfinite_loss_steps"] >= len(bad)
    signals, _, _ = train(
        Two(),
        lambda m, s: (m.first.weight * 0.0).sum() * (math.inf if s in bad else 1.0),
        steps=7,
        lr=0.0,
    )
    assert signals["nonfinite_grad_steps"] >= len(bad)
    assert signals["nonfinite_grad_run"] >= 3
    assert signals["group_grad_max"][0] == math.inf
    assert signals["nonfinite_params"] > 0


def test_a_run_of_bad_gradients_is_counted_exactly_while_the_weights_stay_finite():
    model = Two()
    probe = StepProbe(model.groups())
    for norm in (1.0, math.nan, math.inf, 1.0, math.nan):
        probe.after_backward()
        probe.after_update(torch.tensor(1.0), torch.tensor(norm))
    signals = probe.finish_epoch()
    assert signals["nonfinite_grad_steps"] == 3
    assert signals["nonfinite_grad_run"] == 2
    assert signals["grad_norm_max"] == 1.0
    assert signals["nonfinite_loss_steps"] == signals["nonfinite_params"] == 0


def test_steps_without_any_gradient_are_counted():
    signals, _, _ = train(Two(), lambda m, s: m.first.weight.sum() * float(s == 0))
    assert signals["zero_grad_share"] == 0.75


def test_each_epoch_starts_anew():
    model = Two()
    probe = StepProbe(model.groups())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        loss = regression(model, 0)
        optimizer.zero_grad()
        loss.backward()
        probe.after_backward()
        norm = clip_grad_norm_(model.parameters(), math.inf)
        optimizer.step()
        probe.after_update(loss, norm)
        assert probe.finish_epoch()["train_steps"] == 1
    empty = probe.finish_epoch()
    assert empty["train_steps"] == 0
    assert empty["group_update_norm"] == [0.0, 0.0]
    for name in ("train_loss", "grad_norm_p50", "clipped_share"):
        assert math.isnan(empty[name]), name
    assert all(map(math.isnan, empty["group_grad_max"]))


@pytest.mark.parametrize("steps", [1, SAMPLE_EVERY, 2 * SAMPLE_EVERY + 1])
def test_watching_leaves_the_training_bit_identical(steps):
    weights = []
    for probe in (False, True):
        torch.manual_seed(0)
        model = Two()
        train(model, regression, steps=steps, clip=0.5, probe=probe)
        weights.append([p.detach().clone() for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))


@pytest.mark.slow
def test_watching_costs_little():
    """Reading every gradient takes at most a twentieth of a small net's step."""
    torch.set_num_threads(1)
    model = nn.Sequential(*[nn.Linear(128, 128) for _ in range(5)])
    x = torch.randn(2048, 128)
    watching = StepProbe({str(i): list(m.parameters()) for i, m in enumerate(model)})

    def clock(work):
        samples = []
        for _ in range(40):
            start = time.process_time()
            work()
            samples.append(time.process_time() - start)
        return sorted(samples)[10]

    def step():
        model.zero_grad()
        model(x).square().mean().backward()

    base = clock(step)
    assert clock(watching.after_backward) < 0.05 * base


def uncleared(*, clear=True, micro=1, steps=6, scale=1.0, fused=False):
    """The share that the probe sees in a loop that may forget to clear, or add micro-batches up."""
    torch.manual_seed(0)
    model = Two()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, fused=fused)
    probe = StepProbe(model.groups())
    for step in range(steps):
        if clear:
            optimizer.zero_grad(set_to_none=step % 2 == 0)
        for part in range(micro):
            loss = regression(model, step * micro + part) * scale
            loss.backward()
        probe.after_backward()
        optimizer.step()
        probe.after_update(loss, None)
    return probe.finish_epoch()["uncleared_grad_share"]


def test_gradients_that_are_not_cleared_between_steps_are_seen():
    assert uncleared() == 0.0
    assert uncleared(clear=False) == 1.0
    assert uncleared(clear=False, steps=20) == 1.0
    assert (uncleared(fused=True), uncleared(clear=False, fused=True)) == (0.0, 1.0)


def test_accumulation_on_purpose_is_no_fault():
    assert uncleared(micro=3) == 0.0


def test_a_gradient_that_is_not_finite_is_not_taken_for_an_old_one():
    assert uncleared(scale=math.nan) == 0.0
    assert math.isnan(uncleared(steps=1))


def test_the_watched_parameter_keeps_no_hook_after_the_watched_steps():
    model = Two()
    train(model, regression, steps=12)
    probe = StepProbe(model.groups())
    for step in range(12):
        regression(model, step).backward()
        probe.after_backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.sub_(0.1 * parameter.grad)
        probe.after_update(torch.zeros(()), None)
    assert not any(parameter._backward_hooks for parameter in model.parameters())
