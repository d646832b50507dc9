"""The detector, its loss and its probes: against brute force where there is a formula."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from sickbay.datasets.reweighting.synthetic import WorldSpec, detection_data
from sickbay.models.reweighting.evaluation import Modulation, assess, assess_before, look
from sickbay.models.reweighting.losses import (
    CODE_WEIGHTS,
    best_constant,
    decode_boxes,
    detection_losses,
    encode_boxes,
)
from sickbay.models.reweighting.maps import MapOptions
from sickbay.models.reweighting.network import GROUPS, SIZES, Batch, Features, QueryDetector
from sickbay.models.reweighting.parts import Positions, WeightGenerator, focal, rays, window
from sickbay.models.reweighting.probes import (
    gradient_signals,
    linear_cka,
    map_signals,
    reference_signals,
    reference_task,
)
from sickbay.models.reweighting.training import Rates, clear_gradients, part_optimizer

TINY = replace(SIZES["small"], width=16, heads=2, queries=16)
PEAK = MapOptions(kernel="peak", norm="clamp1.5", padding=5)


def batch(samples=6, split=0, seed=0):
    parts = detection_data(WorldSpec("synthetic", 40, 20, 16.0, 32, 4, 6, 12, seed))
    part = parts[split]
    whole = Batch(part.bev, part.views, part.lidar2img, part.boxes, part.classes)
    return whole.pick(torch.arange(samples))


def net(bias=2.0, seed=0, options=TINY):
    torch.manual_seed(seed)
    return QueryDetector(options, bias)


def test_every_parameter_belongs_to_one_part():
    model = net()
    groups = model.groups()
    assert tuple(groups) == GROUPS
    listed = [id(parameter) for group in groups.values() for parameter in group]
    assert len(listed) == len(set(listed))
    assert set(listed) == {id(parameter) for parameter in model.parameters()}


def test_sizes_are_those_that_are_described():
    full = SIZES["full"]
    assert (full.width, full.heads, full.layers, full.queries, full.windows) == (
        256,
        8,
        6,
        900,
        (5, 15),
    )
    with pytest.raises(ValueError, match="queries: 37 is no square number"):
        net(options=replace(TINY, queries=37))


def test_a_factor_of_one_everywhere_changes_nothing():
    """No map, and a residual of one: what is left is the detector without weights."""
    model, data = net(), batch()
    features = model.encode(data)
    ones = MapOptions(kernel="peak", sigma=1.0, padding=0, pile=False, residual=1.0, mix=True)
    weighted = model.weigh(features, ones, detach=False)
    assert torch.equal(weighted.factors[0], torch.ones_like(weighted.factors[0]))
    plain = model.decode(features)
    assert torch.allclose(model.decode(features, weighted).logits, plain.logits)
    other = model.decode(features, model.weigh(features, PEAK, detach=False))
    assert not torch.allclose(other.logits, plain.logits, atol=1e-4)


def test_weights_start_near_the_sigmoid_of_the_bias():
    data = batch()
    for bias in (0.0, 1.5, 2.0):
        model = net(bias)
        with torch.no_grad():
            model.generator.weigh.weight.zero_()
        weights = model.weigh(model.encode(data), PEAK, detach=False).weights
        assert weights.shape == (6, 16, 2)
        assert torch.allclose(weights, torch.tensor(1.0 / (1.0 + math.exp(-bias))))


@pytest.mark.parametrize("detach", [True, False])
def test_a_detached_weight_leaves_the_generator_a_gradient_of_exactly_zero(detach):
    model, data = net(), batch()
    part_optimizer(model, Rates(0.0, 1e-3, 1e-3, 1e-3))
    groups = model.groups()
    clear_gradients({name: groups[name] for name in ("generator", "decoder", "heads")})
    features, weighted = look(model, data, Modulation(PEAK, detach))
    predicted = model.decode(features, weighted)
    detection_losses(
        predicted.logits, predicted.codes, data.boxes, data.classes
    ).total.sum().backward()
    largest = max(float(parameter.grad.abs().max()) for parameter in groups["generator"])
    assert (largest == 0.0) is detach
    assert max(float(parameter.grad.abs().max()) for parameter in groups["decoder"]) > 0.0
    assert all(parameter.grad is None for parameter in groups["grid_encoder"])


def test_frozen_encoders_have_no_rate_and_a_still_generator_no_decay():
    model, data = net(), batch()
    optimizer = part_optimizer(model, Rates(0.0, 1e-3, 3e-4, 1e-4))
    assert [group["lr"] for group in optimizer.param_groups] == [0.0, 1e-3, 3e-4, 1e-4]
    before = [parameter.clone() for parameter in model.groups()["generator"]]
    clear_gradients(model.groups())
    predicted = model.decode(*look(model, data, Modulation(PEAK, detach=True)))
    predicted.logits.sum().backward()
    optimizer.step()
    after = model.groups()["generator"]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_positions_attract_what_is_near():
    encode = Positions(64, 4, 16.0)
    line = torch.linspace(-16, 16, 65)
    places = encode(torch.stack([line, torch.zeros(65)], dim=-1))
    for head in places.unflatten(-1, (4, 16)).unbind(1):
        assert int((head @ head[32]).argmax()) == 32
    assert int((places @ places[10]).argmax()) == 10
    assert float((places @ places[10])[12]) < float((places @ places[10])[11])


def test_a_window_is_cut_out_by_hand():
    maps = torch.randn(2, 3, 5, 7)
    pixels = torch.tensor([[[0, 0], [2, 3]], [[4, 6], [1, 5]]])
    windows = window(maps, pixels, 3).reshape(2, 2, 3, 3, 3)
    for b, q, i, j in itertools.product(range(2), range(2), range(3), range(3)):
        row = min(max(int(pixels[b, q, 0]) + i - 1, 0), 4)
        column = min(max(int(pixels[b, q, 1]) + j - 1, 0), 6)
        assert torch.equal(windows[b, q, i, j], maps[b, :, row, column])


def test_a_generator_sees_its_window_and_nothing_else():
    torch.manual_seed(0)
    generator = WeightGenerator(8, 2, (3, 3), 2.0)
    content = torch.randn(1, 1, 8)
    maps = [torch.randn(1, 8, 9, 9), torch.randn(1, 8, 9, 9)]
    pixels = [torch.tensor([[[4, 4]]])] * 2
    base = generator(content, maps, pixels)
    for side, (row, column), seen in ((0, (5, 5), True), (0, (6, 4), False), (1, (3, 4), True)):
        changed = [feature_map.clone() for feature_map in maps]
        changed[side][0, :, row, column] += 1.0
        assert torch.equal(generator(content, changed, pixels), base) is not seen


def test_a_ray_projects_back_onto_its_pixel():
    data = batch(2)
    points = rays(data.lidar2img, 6, 12, torch.tensor([4.0, 8.0]))
    assert points.shape == (2, 4, 6, 12, 2, 2)
    inverse = np.linalg.inv(data.lidar2img[0, 1].double().numpy())
    u, v, d = 3.5, 2.5, 8.0
    by_hand = inverse @ np.array([u * d, v * d, d, 1.0])
    assert points[0, 1, 2, 3, 1].tolist() == pytest.approx(by_hand[:2].tolist(), abs=1e-4)


def test_focal_loss_is_its_formula():
    logits = torch.linspace(-4, 4, 9, dtype=torch.float64)
    for target in (0.0, 1.0):
        losses = focal(logits, torch.full_like(logits, target))
        for z, value in zip(logits.tolist(), losses.tolist(), strict=True):
            p = 1 / (1 + math.exp(-z))
            p_t, alpha = (p, 0.25) if target else (1 - p, 0.75)
            assert value == pytest.approx(-alpha * (1 - p_t) ** 2 * math.log(p_t))


def test_boxes_survive_their_code():
    boxes = batch().boxes[batch().classes >= 0]
    assert torch.allclose(decode_boxes(encode_boxes(boxes)), boxes, atol=1e-5)


def test_the_loss_is_the_cheapest_assignment_by_enumeration():
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 2, 4, 3, generator=rng)
    codes = torch.randn(1, 2, 4, 10, generator=rng) * 3
    boxes, classes = batch(2).boxes, batch(2).classes
    losses = detection_losses(logits, codes, boxes, classes)
    weights = torch.tensor(CODE_WEIGHTS)
    for index in range(2):
        real = torch.nonzero(classes[index] >= 0).flatten().tolist()
        targets = encode_boxes(boxes[index])
        options = []
        for chosen in itertools.permutations(range(4), len(real)):
            wanted = torch.zeros(4, 3)
            located = 0.0
            for query, box in zip(chosen, real, strict=True):
                wanted[query, int(classes[index, box])] = 1.0
                located += float(((codes[0, index, query] - targets[box]).abs() * weights).sum())
            classified = float(focal(logits[0, index], wanted).sum())
            options.append((2 * classified + located / 4, 2 * classified, located / 4))
        best = min(options)
        assert float(losses.total[index]) == pytest.approx(best[0] / len(real), rel=1e-5)
        assert float(losses.classes[index]) == pytest.approx(best[1] / len(real), rel=1e-5)


def test_a_sample_without_boxes_has_the_loss_of_its_background():
    logits = torch.zeros(1, 2, 4, 3)
    boxes, classes = batch(2).boxes, batch(2).classes.clone()
    classes[0] = -1
    losses = detection_losses(logits, torch.zeros(1, 2, 4, 10), boxes, classes)
    assert float(losses.boxes[0]) == 0.0
    background = focal(torch.tensor(0.0), torch.tensor(0.0))
    assert float(losses.classes[0]) == pytest.approx(2 * 12 * float(background), rel=1e-5)


def test_the_best_constant_beats_what_is_near_it_and_no_constant_tried_beats_it():
    data = batch(20)
    points = net().points()[:, :2].detach()
    floor = best_constant(points, data.boxes, data.classes, 3)
    assert floor.shape == (20,)
    usual = encode_boxes(data.boxes[data.classes >= 0]).median(dim=0).values
    for bias in (-4.0, -2.19, -1.0):
        code = usual.expand(len(points), 10).clone()
        code[:, :2] = points
        tried = detection_losses(
            torch.full((1, 20, len(points), 3), bias),
            code.expand(1, 20, -1, -1),
            data.boxes,
            data.classes,
        )
        assert float(floor.mean()) < float(tried.total.mean())


def test_energy_and_change_of_known_factors():
    model, data = net(), batch()
    features = model.encode(data)
    weighted = model.weigh(features, PEAK, detach=False)
    half = tuple(torch.full_like(factor, 0.5) for factor in weighted.factors)
    signals = map_signals([replace(weighted, factors=half)], [features])
    assert signals["feature_energy_ratio"] == pytest.approx([0.25, 0.25])
    assert signals["feature_relative_change"] == pytest.approx([0.5, 0.5])
    assert signals["feature_energy_ratio_se"] == pytest.approx(0.0, abs=1e-6)
    assert signals["modulated_mean"][0] == pytest.approx(
        0.5 * float(features.bev.detach().mean()), rel=1e-4
    )
    assert signals["modulated_std"][1] == pytest.approx(
        0.5 * float(features.views.detach().std(correction=0)), rel=1e-4
    )
    flat = (torch.ones(6, 1, 4, 5), torch.zeros(6, 2, 2, 2))
    flat[1][:, 0, 0, 0] = 3.0
    known = map_signals([replace(weighted, raw=flat, maps=flat)], [features])
    assert known["map_effective_support"] == pytest.approx([1.0, 1 / 8])
    assert known["map_max"] == [1.0, 3.0]
    assert known["map_min"] == [1.0, 0.0]
    assert known["map_mean_after"] == pytest.approx([1.0, 3 / 8])
    assert known["map_zero_share"] == pytest.approx([0.0, 7 / 8])


def test_the_fullest_pixel_is_counted():
    model, data = net(), batch()
    features = model.encode(data)
    for padding, least in ((50, 50), (0, 1)):
        options = replace(PEAK, padding=padding)
        fullest = model.weigh(features, options, detach=False).hottest[0]
        assert fullest.tolist() == [least] * 6


def test_gradients_are_compared_by_angle_and_length():
    gradient, other = torch.tensor([1.0, 0.0]), torch.tensor([-3.0, 4.0])
    signals = gradient_signals([(gradient, other), (gradient, gradient)])
    assert signals["loss_gradient_cosine"] == pytest.approx([-0.6, 1.0])
    assert signals["loss_gradient_norms"] == pytest.approx([1.0, 3.0])


def test_cka_knows_rotations_and_noise():
    torch.manual_seed(0)
    features = torch.randn(400, 6)
    turn, _ = torch.linalg.qr(torch.randn(6, 6))
    assert linear_cka(features, 3.0 * features @ turn + 1.0) == pytest.approx(1.0)
    assert linear_cka(features, torch.randn(400, 6)) < 0.1
    a, b = (x.double() - x.double().mean(0) for x in (features, features**2))
    gram = [(x @ x.T) for x in (a, b)]
    direct = (gram[0] * gram[1]).sum() / (gram[0].norm() * gram[1].norm())
    assert linear_cka(features, features**2) == pytest.approx(float(direct))


def test_the_encoders_reference_falls_when_they_are_destroyed():
    model = net()
    train, val = batch(40), batch(20, split=1)
    start = reference_task(model, train, val)
    same = reference_signals(reference_task(model, train, val), start)
    assert same["encoder_reference_drop_se"] == 0.0
    assert same["encoder_cka"] == pytest.approx(1.0)
    assert same["encoder_reference_n"] == int((val.classes >= 0).sum())
    with torch.no_grad():
        for parameter in [*model.grid_encoder.parameters(), *model.view_encoder.parameters()]:
            parameter.zero_()
    gone = reference_signals(reference_task(model, train, val), start)
    assert gone["encoder_reference_skill"] < gone["encoder_reference_skill_start"]
    assert gone["encoder_reference_drop_se"] > 0.0


def test_evaluation_in_chunks_is_evaluation_at_once(monkeypatch):
    from sickbay.models.reweighting import evaluation

    model, val = net(), batch(20, split=1)
    modulation, floor = Modulation(PEAK, detach=False), torch.ones(20)
    whole = assess(model, val, modulation, floor)
    monkeypatch.setattr(evaluation, "CHUNK", 7)
    parts = assess(model, val, modulation, floor)
    for name, value in whole.items():
        assert parts[name] == pytest.approx(value, rel=1e-4, abs=1e-6), name
    losses = []
    for how in (modulation, None):
        predicted = model.decode(*look(model, val, how))
        loss = detection_losses(predicted.logits, predicted.codes, val.boxes, val.classes)
        losses.append(loss.total)
    assert whole["val_loss"] == pytest.approx(float(losses[0].detach().mean()), rel=1e-5)
    assert whole["val_loss_unmodulated"] == pytest.approx(
        float(losses[1].detach().mean()), rel=1e-5
    )
    gap = (losses[0] - losses[1]).detach().double()
    assert whole["val_modulation_gap_se"] == pytest.approx(
        float(gap.std()) / math.sqrt(20), rel=1e-4
    )


def test_without_weights_both_answers_are_one_and_there_is_no_map():
    model, train, val = net(), batch(20), batch(20, split=1)
    signals = assess(model, val, None, torch.ones(20))
    assert signals["val_loss"] == signals["val_loss_unmodulated"]
    assert not any(name.startswith(("map_", "feature_")) for name in signals)
    before = assess_before(model, train, val, None)
    assert before.signals["val_map_start"] == before.signals["val_map_pretrained"]


def test_a_constant_net_varies_over_no_inputs():
    model, val = net(), batch(20, split=1)
    some = assess(model, val, None, torch.ones(20))["output_variance_ratio"]
    with torch.no_grad():
        for head in [*model.classify, *(branch[-1] for branch in model.locate)]:
            head.weight.zero_()
    none = assess(model, val, None, torch.ones(20))["output_variance_ratio"]
    assert none < 1e-8 < some


def test_attention_looks_where_keys_are_alike():
    from sickbay.models.reweighting.parts import Attention

    torch.manual_seed(0)
    attention = Attention(8, 2)
    query, key, value = torch.randn(2, 3, 8), torch.randn(2, 5, 8), torch.randn(2, 5, 8)
    q, k, v = (
        layer(tokens).unflatten(-1, (2, 4)).transpose(1, 2)
        for layer, tokens in (
            (attention.query, query),
            (attention.key, key),
            (attention.value, value),
        )
    )
    wanted = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    assert torch.allclose(attention(query, key, value), attention.out(wanted), atol=1e-6)


def test_features_keep_their_rig():
    features = net().encode(batch(3))
    assert isinstance(features, Features)
    assert features.bev.shape == (3, 16, 32, 32)
    assert features.views.shape == (3, 4, 16, 6, 12)
