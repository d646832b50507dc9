"""Each closed-form line of the workloads against a formula that shares no code with it."""

import itertools
import math

import numpy as np
import pytest
from scipy import integrate, optimize, special, stats

from sickbay.service.summary.signals import label_of, reference_lines_of
from sickbay.trials.contract import Context, ReferenceLine, TaskFacts
from sickbay.trials.history import facts_from_json, facts_to_json
from sickbay.trials.registry import workload

TINY = {
    "mvm_orientation": {"points": 16, "train_shapes": 2, "val_shapes": 2, "val_rotations": 2},
    "crossmodal_anomaly": {"train_scenes": 20, "val_scenes": 40, "height": 16, "width": 16},
    "pointwise_anomaly": {"points": 16, "train_scenes": 10, "val_scenes": 25},
    "query_reweighting": {"grid": 16, "train_samples": 2, "val_samples": 2},
    "longtail_diffusion": {
        "n_max": 40,
        "imbalance": 20.0,
        "classes": 4,
        "val_images": 2,
        "width": 8,
    }
    | {"pretrain_images": 2},
}


def facts(name, **changes):
    known = workload(name)
    context = Context(0, 1, "cpu", "", lambda: None, lambda make: None)
    return known.facts({**known.defaults, **TINY[name], **changes}, context)


def lines(name, **changes):
    by_name = {
        (line.signal, line.name): line.value for line in facts(name, **changes).reference_lines
    }
    assert len(by_name) == len(facts(name, **changes).reference_lines), "a name twice"
    return by_name


@pytest.mark.parametrize("name", TINY)
def test_every_line_has_a_name_a_meaning_and_a_formula(name):
    declared = facts(name).reference_lines
    assert declared
    for line in declared:
        assert line.signal.isidentifier()
        assert line.name.isidentifier()
        assert line.text.strip()
        assert line.formula.strip()
        assert "\n" not in line.formula + line.text
        assert math.isfinite(line.value)


@pytest.mark.parametrize("name", TINY)
def test_lines_survive_the_store(name):
    known = facts(name)
    assert facts_from_json(facts_to_json(known)) == known


def test_facts_without_names_are_written_as_they_were_before_there_were_any():
    old = TaskFacts(reference_lines=(ReferenceLine("val_loss", 0.5, "half"),))
    assert '"reference_lines": [{"signal": "val_loss", "text": "half", "value": 0.5}]' in (
        facts_to_json(old)
    )


# --- system 1


def four_peaks(theta, kappa, kfold):
    turns = [2.0 * math.pi * k / kfold for k in range(kfold)]
    return sum(stats.vonmises.pdf(theta, kappa, loc=turn) for turn in turns) / kfold


def divergence(p, q):
    def integrand(theta):
        return p(theta) * (math.log(p(theta)) - math.log(q(theta)))

    return integrate.quad(integrand, -math.pi, math.pi, limit=400)[0]


@pytest.mark.parametrize(("kfold", "kappa"), [(4, 8.0), (2, 8.0), (3, 5.0)])
def test_the_best_constant_angle_is_a_minimum_over_concentrations(kfold, kappa):
    """E over the offset of KL(constant ‖ nearest peak), minimised by a search."""

    def mean_divergence(own):
        offsets = np.linspace(-math.pi / kfold, math.pi / kfold, 4001)
        agreement = np.trapezoid(np.cos(offsets), offsets) * kfold / (2.0 * math.pi)
        ratio = special.ive(1, own) / special.ive(0, own)
        logs = np.log(special.ive(0, [kappa, own])) + np.array([kappa, own])
        return logs[0] - logs[1] + ratio * (own - kappa * agreement)

    least = optimize.minimize_scalar(mean_divergence, bounds=(1e-3, 50.0), method="bounded").fun
    reference = lines("mvm_orientation", kfold=kfold, kappa_gt=kappa)
    assert reference["val_matched_kl", "floor"] == pytest.approx(least, abs=1e-5)


@pytest.mark.parametrize(("kfold", "kappa"), [(4, 8.0), (2, 3.0)])
def test_no_direction_and_one_direction_by_quadrature(kfold, kappa):
    reference = lines("mvm_orientation", kfold=kfold, kappa_gt=kappa)

    def truth(theta):
        return four_peaks(theta, kappa, kfold)

    flat = divergence(truth, lambda theta: 1.0 / (2.0 * math.pi))
    collapsed = divergence(truth, lambda theta: stats.vonmises.pdf(theta, kappa))
    assert reference["val_density_kl", "uniform"] == pytest.approx(flat, rel=1e-6)
    assert reference["val_density_kl", "collapse"] == pytest.approx(collapsed, rel=1e-6)


def test_one_living_component_covers_one_peak_of_k():
    reference = lines("mvm_orientation", kfold=3)
    assert reference["peak_coverage", "collapse"] == pytest.approx(1 / 3)
    assert reference["mixture_weights_entropy", "even_weights"] == pytest.approx(
        stats.entropy([1 / 3] * 3)
    )
    assert ("peak_coverage", "collapse") not in lines("mvm_orientation", kfold=1)


# --- system 2


def test_noise_ends_at_the_entropy_of_its_labels():
    reference = lines("crossmodal_anomaly", label_source="random10")
    assert reference["val_loss", "label_entropy"] == pytest.approx(stats.entropy([0.1, 0.9]))
    assert reference["val_accuracy", "majority"] == pytest.approx(0.9)
    assert reference["val_auprc", "chance"] == pytest.approx(0.1)
    assert reference["val_auroc", "chance"] == 0.5
    pairs = itertools.product((0, 1), repeat=2)
    flips = sum(0.1 ** (a + b) * 0.9 ** (2 - a - b) for a, b in pairs if a != b)
    assert reference["label_flip_rate", "redrawn_labels"] == pytest.approx(flips)
    assert ("label_flip_rate", "redrawn_labels") not in lines("crossmodal_anomaly")


def test_a_loss_without_labels_ends_at_its_least_value():
    def loss(scores):
        return np.mean(scores) + 0.1 * np.std(scores)

    start = np.random.default_rng(0).random(8)
    least = optimize.minimize(loss, start, bounds=[(0.0, 1.0)] * 8).fun
    reference = lines("crossmodal_anomaly", loss="mean_std")
    assert reference["val_loss", "no_labels"] == pytest.approx(least, abs=1e-9) == 0.0


def test_counting_signs_is_an_enumeration_over_the_clutter():
    """Road works add a reflective box, a parcel a magenta one, an anomaly one of each."""
    p = 0.4
    scenes = [
        ((magenta, bright), (p if magenta else 1 - p) * (p if bright else 1 - p))
        for magenta, bright in itertools.product((0, 1), repeat=2)
    ]

    def auroc(score):
        total = 0.0
        for (m0, b0), p0 in scenes:
            for (m1, b1), p1 in scenes:
                normal, strange = score(m0, b0), score(m1 + 1, b1 + 1)
                total += p0 * p1 * (1.0 * (strange > normal) + 0.5 * (strange == normal))
        return total

    reference = lines("crossmodal_anomaly")
    assert reference["val_auroc", "one_sensor"] == pytest.approx(auroc(lambda m, b: m))
    # Best on both counts: the likelihood ratio; only (1, 1) is ever in doubt.
    pairs = {(m, b): prob for (m, b), prob in scenes}

    def ratio(m, b):
        return pairs.get((m - 1, b - 1), 0.0) / pairs[m, b] if (m, b) in pairs else math.inf

    assert reference["val_auroc", "two_counts"] == pytest.approx(auroc(ratio))


def test_even_attention_has_the_entropy_of_its_tokens():
    reference = lines("crossmodal_anomaly")
    assert reference["attention_entropy", "even_attention"] == pytest.approx(
        stats.entropy([1.0] * 16)
    )
    assert ("attention_entropy", "even_attention") not in lines("crossmodal_anomaly", fusion="none")


# --- system 3


def least_focal(weight, share, alpha, gamma):
    def loss(q):
        hit = -weight * alpha * (1 - q) ** gamma * math.log(q)
        miss = -(1 - alpha) * q**gamma * math.log1p(-q)
        return share * hit + (1 - share) * miss

    minimum = optimize.minimize_scalar(loss, bounds=(1e-6, 1 - 1e-6), options={"xatol": 1e-10})
    return minimum.x, minimum.fun


def test_the_answer_to_noise_under_the_focal_loss():
    reference = lines("pointwise_anomaly")
    q_star, floor = least_focal(1.0, 0.15, 0.1, 3.0)
    assert reference["val_mean_probability", "q_star"] == pytest.approx(q_star, abs=1e-5)
    assert reference["val_loss", "floor"] == pytest.approx(floor, abs=1e-8)
    assert (q_star, floor) == pytest.approx((0.2528, 0.01221), abs=5e-5)
    assert reference["label_flip_rate", "redrawn_labels"] == pytest.approx(2 * 0.15 * 0.85)
    assert reference["val_auroc", "chance"] == 0.5


@pytest.mark.parametrize("weight", [1.0, 3.0, 5.6, 5.7, 1000.0])
def test_the_answer_to_noise_under_weights(weight):
    reference = lines("pointwise_anomaly", loss="bce", pos_weight=weight)
    q_star = weight * 0.15 / (weight * 0.15 + 0.85)
    floor = -weight * 0.15 * math.log(q_star) - 0.85 * math.log1p(-q_star)
    assert reference["val_mean_probability", "q_star"] == pytest.approx(q_star, abs=1e-6)
    assert reference["val_loss", "floor"] == pytest.approx(floor, abs=1e-9)
    assert reference["val_recall", "noise_recall"] == float(q_star > 0.5)


def test_with_right_labels_there_is_no_line_of_noise():
    reference = lines("pointwise_anomaly", label_source="sem", loss="bce")
    assert ("label_flip_rate", "redrawn_labels") not in reference
    assert ("val_auroc", "chance") not in reference


# --- system 4


@pytest.mark.parametrize("kernel", ["sum", "peak"])
@pytest.mark.parametrize("sigma", [2.0, 0.5])
def test_maps_by_a_direct_sum_over_a_kernel(kernel, sigma):
    """The kernel reaches three σ to either side."""
    side = 2 * math.ceil(3 * sigma) + 1
    across = np.arange(side) - side // 2
    drawn = np.exp(-(across[:, None] ** 2 + across**2) / (2.0 * sigma**2))
    drawn /= drawn.sum() if kernel == "sum" else drawn.max()
    changes = {"kernel_norm": kernel, "gaussian_sigma": sigma, "weight_bias": 1.5}
    reference = lines("query_reweighting", queries=36, dn_pad=60, **changes)
    weight = special.expit(1.5)
    assert reference["map_mean_before", "start"] == pytest.approx(weight)
    assert reference["map_mean_raw", "drawn_mean"] == pytest.approx(
        36 * weight * drawn.sum() / 16**2
    )
    assert reference["map_overlap_sum", "pile_up"] == pytest.approx(60 * weight * drawn.max())


def test_without_a_pile_up_there_is_no_line_of_it_and_without_weights_no_map():
    for changes in ({"invalid_query": "drop"}, {"dn_pad": 0}):
        assert ("map_overlap_sum", "pile_up") not in lines("query_reweighting", **changes)
    known = workload("query_reweighting")
    context = Context(0, 1, "cpu", "", lambda: None, lambda make: None)
    config = {**known.defaults, **TINY["query_reweighting"], "reweighting": "off"}
    assert known.facts(config, context).reference_lines == ()


# --- system 5


def test_the_shares_of_the_classes_are_worth_their_entropy():
    reference = lines("longtail_diffusion")
    counts = [int(40 * 0.05 ** (c / 3)) for c in range(4)]
    assert reference["train_loss", "floor"] == pytest.approx(stats.entropy(counts))
    assert reference["val_loss", "uniform"] == pytest.approx(stats.entropy([1.0] * 4))
    assert (
        reference["val_accuracy", "chance"]
        == reference["encoder_reference_skill", "chance"]
        == 0.25
    )
    assert ("train_loss", "wcdas_floor") not in reference


@pytest.mark.parametrize("raw", [0.0, 30.0])
def test_wcdas_ends_at_the_softmax_of_its_two_ends(raw):
    """By its density at every angle: the right class at its best, the others at their worst."""
    reference = lines("longtail_diffusion", classifier="wcdas", wcdas_s_init=raw)
    gamma, scale = special.expit(0.0), np.logaddexp(0.0, raw) + 1.0
    cosine = np.linspace(-1.0, 1.0, 2001)
    logit = scale / (2.0 * math.pi) * (1 - gamma**2) / (1 + gamma**2 - 2 * gamma * cosine)
    scores = np.array([logit.max(), *[logit.min()] * 3])
    least = float(-np.log(special.softmax(scores)[0]))
    assert reference["train_loss", "wcdas_floor"] == pytest.approx(least, rel=1e-6)


# --- what reports draw


def test_h0_comes_first_and_is_not_drawn_twice():
    known = facts("pointwise_anomaly")
    drawn = reference_lines_of(known, "val_loss")
    assert [line.name for line in drawn] == ["floor"]
    assert drawn[0].value == known.floors["val_loss"]
    assert "H0" in label_of(drawn[0])
    assert "min over q" in label_of(drawn[0])
    collapse = reference_lines_of(facts("mvm_orientation"), "val_density_kl")
    assert [line.name for line in collapse] == ["floor", "uniform", "collapse"]
    assert reference_lines_of(known, "val_recall") == ()
    assert label_of(ReferenceLine("x", 1.0, "only words")) == "only words"
