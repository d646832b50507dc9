"""The detector: sizes, what reaches the head, what trains, and its signals."""

import math

import pytest
import torch

from sickbay.models.pointwise.losses import LossOptions, scene_losses
from sickbay.models.pointwise.metrics import (
    Judged,
    Seen,
    evaluate,
    gradient_norm,
    judged_signals,
    label_signals,
    seen_signals,
    unit_of,
)
from sickbay.models.pointwise.network import (
    FrozenResNet18,
    PointAnomalyNet,
    attention_entropy,
    group_names,
)


def net(fusion="full", size="small"):
    torch.manual_seed(0)
    return PointAnomalyNet(size, fusion)


def views(scenes=3, points=20):
    generator = torch.Generator().manual_seed(1)
    cloud = torch.randn(scenes, points, 4, generator=generator) * 10
    return cloud, torch.rand(scenes, 3, 16, 24, generator=generator)


def test_shapes_and_where_points_look():
    feature, weight = net().encode(*views())
    assert feature.shape == (3, 20, 64)
    assert weight.shape == (3, 4, 20, 24)
    assert torch.allclose(weight.sum(dim=-1), torch.ones(3, 4, 20), atol=1e-5)
    assert attention_entropy(torch.full((1, 1, 1, 24), 1 / 24)) == pytest.approx(math.log(24))
    assert net("points").encode(*views())[1] is None


def test_the_attention_is_torch_s_own_without_the_key_s_bias():
    mine = net().attention.eval()
    theirs = torch.nn.MultiheadAttention(64, 4, batch_first=True).eval()
    parts = (mine.query, mine.key, mine.value)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        theirs.in_proj_bias.copy_(torch.cat([mine.query.bias, torch.zeros(64), mine.value.bias]))
        theirs.out_proj.load_state_dict(mine.out.state_dict())
    points, tokens = torch.randn(2, 5, 64), torch.randn(2, 24, 64)
    attended, weight = mine(points, tokens)
    expected, looked = theirs(points, tokens, tokens, average_attn_weights=False)
    assert torch.allclose(attended, expected, atol=1e-5)
    assert torch.allclose(weight, looked, atol=1e-6)


def test_without_a_residual_the_head_sees_only_mixtures_of_image_tokens():
    """With a picture of one colour all tokens inside are alike, and so are all points."""
    points, _ = views()
    flat = torch.full((3, 3, 16, 24), 0.5)
    for fusion, alike in (("full", True), ("full_residual", False)):
        built = net(fusion).eval()
        built.image = torch.nn.AdaptiveAvgPool2d(2)  # no borders: tokens truly alike
        built.image = torch.nn.Sequential(built.image, torch.nn.Conv2d(3, 64, 1))
        feature, _ = built.encode(points, flat)
        spread = float(feature.detach().std(dim=1).max())
        assert (spread < 1e-5) is alike, fusion


def test_the_full_size_has_the_described_layers_and_a_frozen_image_net():
    full = net(size="full")
    image = sum(parameter.numel() for parameter in full.image.parameters())
    assert image == 11_176_512  # a ResNet-18 without its classifier
    trained = sum(parameter.numel() for parameter in full.parameters() if parameter.requires_grad)
    points = sum(a * b + 2 * b for a, b in ((4, 64), (64, 128), (128, 256), (256, 512)))
    attention = 4 * 512 * 512 + 3 * 512
    head = sum(a * b + 2 * b for a, b in ((512, 256), (256, 128))) + 129
    assert trained == points + attention + head
    assert tuple(full.groups()) == group_names("full", "full") == ("points", "attention", "head")
    full.train()
    assert not any(module.training for module in full.image.modules())
    assert full.image(torch.rand(1, 3, 56, 56)).shape == (1, 512, 7, 7)


def test_the_frozen_net_bears_the_usual_names():
    names = FrozenResNet18().state_dict().keys()
    for name in ("conv1.weight", "bn1.running_var", "layer2.0.downsample.1.bias"):
        assert name in names
    assert "layer4.1.conv2.weight" in names
    assert "layer1.0.downsample.0.weight" not in names


@pytest.mark.parametrize("fusion", ["full", "full_residual", "points"])
@pytest.mark.parametrize("plan", ["A", "B", "C", "Ctop5"])
def test_every_group_gets_a_gradient_in_every_plan(fusion, plan):
    built = net(fusion)
    feature, _ = built.encode(*views())
    logits = built.decide(feature, plan)
    logits.retain_grad()
    target = torch.tensor([1.0, 0.0, 1.0])
    target = target[:, None].expand(3, 20) if plan == "A" else target
    scene_losses(plan, LossOptions("focal"), logits, target).mean().backward()
    for name, group in built.groups().items():
        assert all(float(parameter.grad.abs().max()) > 0.0 for parameter in group), name
    score, same, size = unit_of(plan, logits, target)
    assert score.shape == same.shape == size.shape == target.shape
    assert gradient_norm(built.points) > 0.0
    assert math.isnan(gradient_norm(None))


def test_signals_of_training_and_labels_by_hand():
    seen = Seen(
        torch.tensor([0.9, 0.2, 0.6, 0.1]),
        torch.tensor([1.0, 1.0, 0.0, 0.0]),
        torch.tensor([1.0, 2.0, 0.5, 0.5]),
    )
    signals = seen_signals(seen)
    assert signals["train_accuracy"] == 0.5
    assert signals["train_recall"] == 0.5
    assert signals["train_auroc"] == 0.75
    assert signals["class_gradient_share"] == [0.25, 0.75]
    target, truth = torch.tensor([1.0, 1.0, 0.0, 0.0]), torch.tensor([1.0, 0.0, 1.0, 0.0])
    labelled = label_signals(target, truth, torch.tensor([1.0, 0.0, 0.0, 0.0]))
    assert labelled["label_truth_recall"] == labelled["label_truth_precision"] == 0.5
    assert labelled["label_flip_rate"] == 0.25
    none = label_signals(torch.zeros(4), truth, None)
    assert none["label_truth_recall"] == 0.0
    assert math.isnan(none["label_truth_precision"])
    assert "label_flip_rate" not in none


def test_signals_of_an_evaluation_by_hand():
    score = torch.tensor([[0.9, 0.1], [0.4, 0.2]])
    truth = torch.tensor([[True, False], [False, False]])
    target = torch.tensor([1.0, 0.0, 1.0, 0.0])
    loss, floor = torch.tensor([1.0, 3.0]), torch.tensor([2.0, 2.0])
    signals = judged_signals(Judged(score.flatten(), target, loss, floor, score, truth))
    assert signals["val_loss"] == 2.0
    assert signals["val_loss_se"] == pytest.approx(1.0)
    assert signals["val_floor_gap_se"] == pytest.approx(1.0)
    assert signals["val_auroc"] == signals["val_truth_auroc"] == signals["val_scene_auroc"] == 1.0
    assert signals["val_recall"] == 0.5
    assert signals["val_precision"] == 1.0
    assert signals["score_std"] == pytest.approx(float(score.double().std(correction=0)))


def test_a_constant_net_has_exactly_the_floor():
    built = net()
    with torch.no_grad():
        built.head[-1].weight.zero_()
        built.head[-1].bias.fill_(math.log(0.25 / 0.75))
    target = torch.zeros(4, 20)
    target[:, :5] = 1.0
    cloud = views(4)
    signals = evaluate(built, cloud, target > 0.5, target, "A", LossOptions("bce"))
    entropy = -0.25 * math.log(0.25) - 0.75 * math.log(0.75)
    assert signals["val_loss"] == pytest.approx(entropy, abs=1e-6)
    assert signals["val_floor_gap_se"] < 1e-6
    assert signals["val_auroc"] == 0.5
    assert signals["output_variance_ratio"] == 0.0
    assert 0.0 < signals["attention_entropy"] <= math.log(24)


def test_unknown_words_are_refused():
    with pytest.raises(ValueError, match="fusion: 'late' is not known; choose one of full, full_"):
        PointAnomalyNet("small", "late")
    with pytest.raises(ValueError, match="size: 'huge' is not known; choose one of small, full"):
        group_names("huge", "full")


def test_the_frozen_image_net_takes_weights_as_torchvision_keeps_them(tmp_path):
    source = net(size="full").image
    with torch.no_grad():
        source.bn1.running_mean.normal_()
    kept = {**source.state_dict(), "fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(9)}
    path = tmp_path / "resnet18.pth"
    torch.save(kept, path)
    full = PointAnomalyNet("full", "full", str(path))
    picture = torch.rand(2, 3, 56, 56)
    assert torch.equal(full.image(picture), source(picture))
    grey = torch.tensor([0.485, 0.456, 0.406])[:, None, None].expand(1, 3, 8, 8)
    first = full.image.conv1.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    seen = []
    full.image(grey)
    first.remove()
    assert float(seen[0].abs().max()) < 1e-6  # the mean of ImageNet becomes zero
    maps = full.seen(picture)
    points = torch.rand(2, 8, 4)
    full.eval()
    assert torch.equal(full.encode(points, maps)[0], full.encode(points, picture)[0])


def test_weights_that_do_not_fit_are_refused_by_file_and_key(tmp_path):
    kept = net(size="full").image.state_dict()
    path = tmp_path / "weights.pth"
    torch.save({key: kept[key] for key in kept if key != "layer3.0.conv1.weight"}, path)
    with pytest.raises(ValueError, match=r"image_weights: .*weights.pth.*layer3.0.conv1.weight"):
        PointAnomalyNet("full", "full", str(path))
    path.write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"weights.pth: expected the state dict of torchvision"):
        PointAnomalyNet("full", "full", str(path))
    with pytest.raises(ValueError, match="only the full size has a frozen image net"):
        PointAnomalyNet("small", "full", str(path))
