"""The scene classifier: its size, what each fusion lets through, and its signals."""

import math

import pytest
import torch

from sickbay.models.crossmodal.metrics import (
    Steps,
    branch_norms,
    evaluation_signals,
    training_signals,
    truth_signals,
)
from sickbay.models.crossmodal.network import (
    FUSIONS,
    ImageTokens,
    SceneNet,
    Scored,
    attention_entropy,
    few_keys,
    group_names,
)


def net(fusion="full", size="small"):
    torch.manual_seed(0)
    return SceneNet(size, fusion, 0.3).eval()


def inputs(batch=3, points=20):
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(batch, 3, 32, 48, generator=generator),
        torch.randn(batch, points, 4, generator=generator),
    )


def count(parameters):
    return sum(parameter.numel() for parameter in parameters)


def test_the_report_s_architecture_has_792321_parameters():
    parts = {name: count(group) for name, group in net(size="full").groups().items()}
    assert parts == {"image": 93_248, "points": 41_664, "attention": 263_168, "head": 394_241}
    assert sum(parts.values()) == count(net(size="full").parameters()) == 792_321


def test_with_the_head_that_the_report_prints_it_would_have_fewer():
    """512 -> 256 -> 1, without the 512 -> 512 layer: 529,665, not the 792,321 that it states."""
    head = (512 * 256 + 256) + (256 + 1)
    assert 93_248 + 41_664 + 263_168 + head == 529_665


def test_the_small_one_has_fifty_thousand():
    assert count(net().parameters()) == 50_241


@pytest.mark.parametrize("fusion", FUSIONS)
def test_groups_cover_every_parameter_once_and_all_of_them_get_a_gradient(fusion):
    model = net(fusion).train()
    groups = model.groups()
    assert tuple(groups) == group_names(fusion)
    listed = [id(parameter) for group in groups.values() for parameter in group]
    assert sorted(listed) == sorted(id(parameter) for parameter in model.parameters())
    model(*inputs()).logits.sum().backward()
    for name, group in groups.items():
        assert max(float(parameter.grad.abs().max()) for parameter in group) > 0.0, name


@pytest.mark.parametrize("fusion", FUSIONS)
def test_each_fusion_looks_at_what_its_name_says(fusion):
    model = net(fusion)
    images, points = inputs()
    before = model(images, points).logits
    assert before.shape == (3,)
    assert torch.equal(model(images + 1.0, points).logits, before) == (fusion == "points")
    assert torch.equal(model(images, points + 1.0).logits, before) == (fusion == "image")


@pytest.mark.parametrize("fusion", [fusion for fusion in FUSIONS if fusion != "image"])
def test_the_order_of_points_does_not_matter(fusion):
    model = net(fusion)
    images, points = inputs()
    shuffled = points[:, torch.randperm(points.shape[1])]
    assert torch.allclose(model(images, shuffled).logits, model(images, points).logits, atol=1e-6)


def test_without_a_residual_the_points_reach_the_head_only_by_where_they_look():
    """An image whose tokens are all alike leaves nothing to choose: the points are lost."""
    images, points = inputs()
    flat = torch.zeros_like(images)
    for fusion, blind in (("full", True), ("full_residual", False), ("none", False)):
        model = net(fusion)
        with torch.no_grad():
            for layer in model.image.layers:
                if isinstance(layer, torch.nn.Conv2d):
                    layer.padding_mode = "replicate"
                    layer._reversed_padding_repeated_twice = [1, 1, 1, 1]
            logits, other = model(flat, points).logits, model(flat, 3.0 * points + 1.0).logits
        assert torch.allclose(logits, other, atol=1e-6) == blind, fusion


def test_attention_is_torch_s_with_its_gradients():
    torch.manual_seed(0)
    attention = torch.nn.MultiheadAttention(64, 4, batch_first=True)
    with torch.no_grad():
        attention.in_proj_bias.normal_()  # zero at the start: then a lost bias would not show
        attention.out_proj.bias.normal_()
    queries, tokens = torch.randn(3, 20, 64), torch.randn(3, 16, 64)
    attended = few_keys(attention, queries, tokens)
    wanted = attention(queries, tokens, tokens, average_attn_weights=False)
    pull = torch.randn(3, 20, 64)
    for tensor, other in zip(attended, wanted, strict=True):
        assert torch.allclose(tensor, other, atol=1e-5)
    slopes = [
        torch.autograd.grad((some[0] * pull).sum(), list(attention.parameters()))
        for some in (attended, wanted)
    ]
    for tensor, other in zip(*slopes, strict=True):
        assert torch.allclose(tensor, other, atol=1e-3)


def test_positions_distinguish_equal_tokens():
    model = net("full_residual_pos")
    images, points = inputs()
    before = model(images, points).logits
    with torch.no_grad():
        model.position.copy_(model.position.flip(0) * 5.0)
    assert not torch.allclose(model(images, points).logits, before, atol=1e-6)
    assert count(model.parameters()) == 50_241 + 16 * 64


def test_tokens_are_the_adaptive_average_written_twice():
    model = ImageTokens(64).eval()
    images, _ = inputs()
    tokens = model(images)
    pooled = torch.nn.functional.adaptive_avg_pool2d(model.layers(images), 4)
    assert tokens.shape == (3, 16, 64)
    assert torch.allclose(tokens[..., :32], pooled.flatten(2).transpose(1, 2), atol=1e-6)
    assert torch.equal(tokens[..., :32], tokens[..., 32:])


def test_entropy_lies_between_one_token_and_all():
    even, single = torch.full((2, 4, 5, 16), 1 / 16), torch.zeros(2, 4, 5, 16)
    single[..., 3] = 1.0
    assert attention_entropy(even) == pytest.approx([math.log(16)] * 2)
    assert attention_entropy(single).tolist() == [0.0, 0.0]
    scored = net()(*inputs())
    assert (scored.entropy > 0.0).all()
    assert (scored.entropy <= math.log(16) + 1e-6).all()
    assert net().train()(*inputs()).entropy is None
    assert net("none")(*inputs()).entropy is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SceneNet("tiny", "full", 0.0), "size: 'tiny' is not known"),
        (lambda: SceneNet("small", "img", 0.0), "fusion: 'img' is not known; choose one of full"),
        (lambda: ImageTokens(64)(torch.zeros(1, 3, 30, 48)), "30 x 48 pixels do not divide"),
    ],
)
def test_a_wrong_setting_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_branch_norms_are_those_of_the_encoders():
    model = net().train()
    model(*inputs()).logits.sum().backward()
    norms = branch_norms(model.groups())
    for index, name in enumerate(("points", "image")):
        flat = torch.cat(
            [parameter.grad.flatten() for parameter in getattr(model, name).parameters()]
        )
        assert float(norms[index]) == pytest.approx(float(flat.norm()), rel=1e-5)
    alone = net("image").train()
    alone(*inputs()).logits.sum().backward()
    assert math.isnan(branch_norms(alone.groups())[0])


def test_the_signals_of_steps():
    steps = Steps()
    logits = torch.tensor([2.0, -1.0, 0.5], requires_grad=True)
    labels = torch.tensor([1.0, 0.0, 0.0])
    torch.nn.functional.binary_cross_entropy_with_logits(logits, labels).backward()
    steps.add(logits, labels)
    signals = training_signals(steps, "bce")
    assert signals["train_accuracy"] == pytest.approx(2 / 3)
    assert signals["train_auroc"] == 1.0
    assert signals["supervised_targets"] == 3.0
    assert training_signals(steps, "mean_std")["supervised_targets"] == 0.0
    pull = [1 - 1 / (1 + math.exp(-2)), 1 / (1 + math.exp(1)) + 1 / (1 + math.exp(-0.5))]
    assert signals["class_gradient_share"] == pytest.approx(
        [share / sum(pull) for share in pull[::-1]]
    )
    assert all(math.isnan(norm) for norm in signals["branch_gradient_norm"])


def test_labels_against_the_truth():
    given, true = torch.tensor([1.0, 1.0, 0.0, 0.0]), torch.tensor([True, False, True, True])
    assert truth_signals(given, true) == {
        "label_truth_recall": pytest.approx(1 / 3),
        "label_truth_precision": 0.5,
    }
    assert math.isnan(truth_signals(torch.zeros(4), true)["label_truth_precision"])


def test_the_signals_of_an_evaluation():
    labels = torch.tensor([1.0, 0.0, 1.0, 0.0])
    scored = Scored(torch.tensor([3.0, -3.0, 1.0, 2.0]), torch.tensor([1.0, 2.0, 1.0, 2.0]))
    signals = evaluation_signals(scored, labels, ~(labels > 0.5), "bce", 1.0)
    plain = torch.nn.functional.binary_cross_entropy_with_logits(
        scored.logits, labels, reduction="none"
    )
    assert signals["val_loss"] == pytest.approx(float(plain.mean()))
    assert signals["val_loss_se"] == pytest.approx(float(plain.std() / 2))
    gap = plain - math.log(2)  # the best constant says 1/2
    assert signals["val_floor_gap_se"] == pytest.approx(float(gap.std() / 2), rel=1e-6)
    assert signals["val_auroc"] == 0.75
    assert signals["val_truth_auroc"] == 0.25
    assert signals["attention_entropy"] == 1.5
    scores = torch.sigmoid(scored.logits)
    assert signals["output_variance_ratio"] == pytest.approx(float(scores.var(correction=0)) / 0.25)
    assert signals["score_std"] == pytest.approx(float(scores.std(correction=0)))
    sure = evaluation_signals(scored, torch.ones(4), None, "bce", 1.0)
    assert math.isnan(sure["output_variance_ratio"])
    assert "val_truth_auroc" not in sure


def test_a_threshold_moves_calls_and_no_ranking():
    labels = torch.tensor([1.0, 0.0, 1.0, 0.0])
    scored = Scored(torch.tensor([-1.0, -3.0, 1.0, -2.0]))  # scores .27 .05 .73 .12
    at = {cut: evaluation_signals(scored, labels, None, "bce", 1.0, cut) for cut in (0.5, 0.2, 0.1)}
    assert [at[cut]["val_accuracy"] for cut in at] == [0.75, 1.0, 0.75]
    assert {at[cut]["val_auroc"] for cut in at} == {1.0}
    assert len({at[cut]["val_loss"] for cut in at}) == 1


def test_attention_that_is_switched_off_has_no_gradient():
    model = net("full").train()
    model.attends = False
    model(*inputs()).logits.sum().backward()
    gradients = {n: [p.grad for p in group] for n, group in model.groups().items()}
    assert all(gradient is None for gradient in gradients["attention"])
    assert all(
        gradient is not None for n in ("points", "image", "head") for gradient in gradients[n]
    )
