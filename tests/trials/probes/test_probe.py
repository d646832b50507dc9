"""`Probe`: what any training loop gets from one line a step and one an evaluation."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sickbay.trials.probes import SAMPLE_EVERY, Probe
from sickbay.trials.probes.layers import alignment, rank_of


class Net(nn.Module):
    """Dropout, batch normalisation, a rectifier and a bounded layer."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3))
        self.neck = nn.Sequential(nn.Linear(16, 8), nn.Tanh())
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        return self.head(self.neck(self.body(x)))


def data(n=48):
    x = torch.randn(n, 6, generator=torch.Generator().manual_seed(5))
    return x, (x[:, 0] > 0).long()


def train(model, probe=None, *, epochs=2, batch=4, before=False, lr=0.05):
    """A plain loop; returns the signals of every epoch."""
    x, y = data()
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    evaluations = []
    for _ in range(epochs):
        for start in range(0, len(x), batch):
            part = slice(start, start + batch)
            model.train()
            optimizer.zero_grad()
            logits = model(x[part])
            loss = nn.functional.cross_entropy(logits, y[part])
            if probe and before:
                ids = range(part.start, part.start + batch)
                probe.before(logits=logits, targets=y[part], ids=list(ids))
            loss.backward()
            if probe:
                probe.step(loss)
            optimizer.step()
        if probe:
            evaluations.append(probe.evaluation())
    return evaluations


def state(model):
    return [value.clone() for value in model.state_dict().values()], torch.get_rng_state()


@pytest.mark.parametrize("full", [False, True])
def test_weights_buffers_modes_and_random_numbers_stay_bit_identical(full):
    seen = []
    for watched in (False, True):
        torch.manual_seed(3)
        model = Net()
        probe = Probe(model, batch=data()[0] if full else None) if watched else None
        train(model, probe, before=full and watched)
        seen.append((state(model), [module.training for module in model.modules()]))
    (plain, random), modes = seen[0]
    (other, drawn), other_modes = seen[1]
    assert all(torch.equal(one, two) for one, two in zip(plain, other, strict=True))
    assert torch.equal(random, drawn)
    assert modes == other_modes


def test_every_evaluation_gives_the_signals_of_its_steps():
    torch.manual_seed(0)
    model = Net()
    probe = Probe(model, batch=data()[0])
    first, second = train(model, probe, batch=2)
    assert probe.groups == ("body", "neck", "head")
    assert first["train_steps"] == second["train_steps"] == 24
    assert second["train_loss"] < first["train_loss"]
    for name in ("group_grad_max", "group_update_norm", "group_update_ratio", "saturated_share"):
        assert all(math.isfinite(value) for value in first[name]), name
    assert 1e-4 < first["group_update_ratio"][0] < 1.0
    assert first["grad_norm_p50"] <= first["grad_norm_p90"] <= first["grad_norm_max"]
    assert first["layer_units"] == [16.0]
    assert first["dead_unit_n"] == 48.0
    assert 1.0 <= first["feature_rank"] <= 8.0
    assert first["feature_rank_start"] == second["feature_rank_start"]
    assert second["feature_cka"] < 1.0


def test_norms_and_updates_are_those_of_the_steps():
    model = nn.Sequential(nn.Linear(2, 1, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[3.0, 4.0]]))
    probe = Probe(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model[0].weight.sum().backward()  # a gradient of (1, 1)
    probe.step(torch.tensor(7.0))
    nn.utils.clip_grad_norm_(model.parameters(), 0.5)  # comes later: must not show
    optimizer.step()
    signals = probe.evaluation(torch.tensor([1.0, 3.0]))
    assert signals["grad_norm_max"] == pytest.approx(math.sqrt(2.0))
    moved = 0.1 * 0.5
    weight = float(model[0].weight.detach().norm())
    assert signals["group_update_ratio"] == pytest.approx([moved / weight], rel=1e-4)
    assert (signals["train_loss"], signals["val_loss"], signals["val_n"]) == (7.0, 2.0, 2.0)
    assert signals["val_loss_se"] == pytest.approx(1.0)


def test_your_own_norm_is_taken_and_clipping_counted():
    model = nn.Sequential(nn.Linear(2, 1))
    probe = Probe(model, clip=1.0)
    for norm in (0.5, 2.0, 3.0, math.inf):
        model(torch.ones(1, 2)).sum().backward()
        probe.step(torch.tensor(1.0), torch.tensor(norm))
    signals = probe.evaluation()
    assert signals["clipped_share"] == 0.75
    assert signals["nonfinite_grad_steps"] == 1.0
    assert signals["grad_norm_max"] == 3.0


def test_after_a_nonfinite_norm_every_step_is_measured():
    model = nn.Sequential(nn.Linear(2, 1))
    probe = Probe(model)
    for _ in range(SAMPLE_EVERY):
        model.zero_grad()
        (model(torch.ones(1, 2)).sum() * math.nan).backward()
        probe.step(torch.tensor(1.0))
    assert probe.evaluation()["nonfinite_grad_run"] == SAMPLE_EVERY


def test_dead_and_saturated_units_are_counted_by_layer():
    class Wide(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.act = nn.Conv2d(1, 4, 1), nn.ReLU(inplace=True)
            self.flat, self.bound = nn.Linear(4, 4), nn.Tanh()
            self.out, self.end = nn.Linear(4, 1), nn.Sigmoid()

        def forward(self, x):
            hidden = self.act(self.conv(x)).mean(dim=(2, 3))
            return self.end(1e4 * self.out(self.bound(self.flat(hidden))))

    model = Wide()
    with torch.no_grad():
        model.conv.weight.fill_(1.0)
        model.conv.bias.copy_(torch.tensor([0.0, -99.0, -99.0, -99.0]))
        model.flat.weight.zero_()
        model.flat.bias.copy_(torch.tensor([9.0, -9.0, 0.0, 0.1]))
    signals = Probe(model, batch=torch.rand(32, 1, 3, 3)).evaluation()
    assert signals["dead_unit_share"] == [0.75]
    assert signals["layer_units"] == [4.0]
    assert signals["saturated_share"] == [0.5]  # the output's sigmoid is no hidden layer


@pytest.mark.parametrize("rectify", [functional.relu, torch.relu, Tensor.relu, Tensor.relu_])
def test_functional_activations_are_seen(rectify):
    class Inner(nn.Module):
        def forward(self, x):
            return rectify(x - torch.tensor([99.0, 0.0, 99.0, 99.0])) + (9.0 + x).tanh()

    model = nn.Sequential(nn.Linear(3, 4), Inner(), nn.Linear(4, 1))
    with torch.no_grad():
        model[0].weight.zero_()
        model[0].bias.copy_(torch.tensor([0.0, 1.0, 0.0, -9.0]))
    signals = Probe(model, batch=(torch.rand(8, 3),), features="0").evaluation()
    assert signals["dead_unit_share"] == [0.75]
    assert signals["saturated_share"] == [0.75]


def test_relus_of_a_transformer_s_layers_are_seen():
    layer = nn.TransformerEncoderLayer(8, 2, dim_feedforward=5, batch_first=True)
    model = nn.Sequential(
        nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(8, 1)
    )
    signals = Probe(model, batch=torch.rand(4, 6, 8)).evaluation()
    assert signals["layer_units"] == [5.0, 5.0]


def test_what_cannot_be_watched_is_named():
    with pytest.raises(ValueError, match="has no module 'nowhere'"):
        Probe(nn.Linear(3, 1), batch=torch.rand(8, 3), features="nowhere")
    with pytest.raises(ValueError, match="no parameter that trains"):
        Probe(nn.Tanh())


def test_rank_and_alignment_are_what_their_definitions_say():
    assert rank_of(torch.eye(5, dtype=torch.float64)) == pytest.approx(5.0)
    line = torch.arange(1.0, 6.0, dtype=torch.float64)[:, None]
    for flat in (line, line @ line.T, line @ torch.ones(1, 9, dtype=torch.float64)):
        assert rank_of(flat) == pytest.approx(1.0, abs=1e-5)
    assert math.isnan(rank_of(torch.full((3, 3), math.nan, dtype=torch.float64)))
    draw = torch.Generator().manual_seed(0)
    features, other = (torch.randn(20, 4, generator=draw, dtype=torch.float64) for _ in range(2))
    turn = torch.linalg.qr(torch.randn(4, 4, generator=draw, dtype=torch.float64))[0]
    assert alignment(features, features @ turn * 3.0 + 1.0) == pytest.approx(1.0)
    assert alignment(features, other) < 0.6
    wide = torch.cat([other, torch.zeros(20, 30, dtype=torch.float64)], dim=1)
    assert alignment(features, wide) == pytest.approx(alignment(features, other))
    assert math.isnan(alignment(features, torch.ones(20, 4, dtype=torch.float64)))


def test_labels_that_change_are_counted():
    probe = Probe(nn.Linear(1, 1), {"all": list(nn.Linear(1, 1).parameters())})
    probe.before(ids=["a", "b", "c", "d"], targets=torch.tensor([0, 1, 0, 1]))
    assert "label_flip_rate" not in probe.evaluation()
    probe.before(ids=["d", "c", "b", "x"], targets=torch.tensor([0, 0, 1, 1]))
    signals = probe.evaluation()
    assert (signals["label_flip_rate"], signals["label_flip_n"]) == (1 / 3, 3.0)
    numbers = Probe(nn.Linear(1, 1), {"all": list(nn.Linear(1, 1).parameters())})
    numbers.before(ids=torch.tensor([1, 2]), targets=torch.tensor([0.5, 1.5]))
    numbers.evaluation()
    numbers.before(ids=torch.tensor([1, 2]), targets=torch.tensor([0.6, 1.5]))
    assert numbers.evaluation()["target_change"] == pytest.approx(0.05 / math.sqrt(0.5), rel=1e-5)


def test_each_class_gets_its_share_of_the_gradient():
    model = nn.Linear(1, 1)
    probe = Probe(model, {"all": list(model.parameters())})
    logits, targets = model(torch.zeros(4, 1)) * 0.0, torch.tensor([0.0, 0.0, 0.0, 1.0])
    probe.before(logits=logits, targets=targets)
    loss = nn.functional.binary_cross_entropy_with_logits(logits[:, 0], targets)
    loss.backward()
    probe.step(loss)
    assert probe.evaluation()["class_gradient_share"] == pytest.approx([0.75, 0.25])


def test_losses_that_pull_apart_are_seen_at_the_shared_features():
    model = nn.Linear(3, 3)
    probe = Probe(model, {"all": list(model.parameters())})
    for _ in range(10):
        shared = model(torch.ones(2, 3))
        losses = {"up": shared.sum(), "down": -2.0 * shared.sum()}
        probe.before(losses=losses, shared=shared)
        sum(losses.values()).backward()
        probe.step(sum(losses.values()))
    signals = probe.evaluation()
    assert signals["loss_gradient_cosine"] == pytest.approx([-1.0] * 8)
    first, second = signals["loss_gradient_norms"]
    assert second == pytest.approx(2.0 * first)
    assert len(signals["task_losses"]) == 2
    assert "loss_gradient_cosine" not in probe.evaluation()


def test_scores_become_histograms():
    model = nn.Linear(1, 1)
    probe = Probe(model, {"all": list(model.parameters())})
    scores, targets = torch.tensor([0.0, 0.2, 0.9, 1.0]), torch.tensor([0, 0, 1, 1])
    signals = probe.evaluation(scores=scores, targets=targets)
    assert sum(signals["val_scores_hist_pos"]) == sum(signals["val_scores_hist_neg"]) == 2.0
    assert signals["val_scores_hist_pos"][255] == 1.0
    assert signals["val_confusion"] == [2.0, 0.0, 0.0, 2.0]
    assert signals["val_accuracy"] == 1.0
    assert signals["output_variance_ratio"] == pytest.approx(float(scores.var(correction=0)) / 0.25)
    with pytest.raises(ValueError, match="probabilities"):
        probe.evaluation(scores=scores * 9.0, targets=targets)


def test_compiled_models_and_mixed_precision_are_watched_as_well():
    torch.manual_seed(0)
    model = torch.compile(Net(), backend="eager")
    probe = Probe(model, batch=data()[0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        first, _ = train(model, probe)
    assert probe.groups == ("body", "neck", "head")
    assert first["dead_unit_share"][0] < 1.0
    assert math.isfinite(first["grad_norm_max"])


def test_the_range_of_what_enters_the_loss_is_seen():
    model = nn.Linear(3, 4)
    probe = Probe(nn.Sequential(model))
    targets = torch.tensor([0, 1, 2, 3, 0])
    for squashed in (False, True):
        out = model(torch.randn(5, 3, generator=torch.Generator().manual_seed(0)))
        out = out.softmax(dim=1) if squashed else out - 3.0
        probe.before(logits=out, targets=targets)
        loss = nn.functional.cross_entropy(out, targets)
        loss.backward()
        probe.step(loss)
        signals = probe.evaluation()
        assert signals["logit_min"] == pytest.approx(float(out.detach().min()))
        assert signals["logit_max"] == pytest.approx(float(out.detach().max()))
        assert (signals["logit_row_sum_deviation"] < 1e-6) == squashed
