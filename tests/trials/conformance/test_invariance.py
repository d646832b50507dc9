import json
from dataclasses import replace
from pathlib import Path

import pytest

from sickbay.trials.conformance import ConformanceError, check_detector
from sickbay.trials.conformance.class_order import permuted
from sickbay.trials.conformance.invariance import check_invariance, plausible_history, variants
from sickbay.trials.contract import Finding, FindingState, Row, Severity, TaskFacts
from sickbay.trials.detector import as_detector, clear, detector, fired
from sickbay.trials.history import History

NAMES = sorted(
    path.stem
    for path in (Path(__file__).parents[3] / "trials" / "detectors").glob("*.py")
    if path.stem != "__init__"
)


def toy(detect):
    fields = {"severity": Severity.WARNING, "online": False, "remedy": "Change it."}
    return detector(name="toy", version="1", signals=("val_loss",), **fields)(detect)


def planted(name):
    """Columns of a fault for each detector, long enough to be halved."""
    collapsed, wobble = (
        [0.9997, 0.0001, 0.0001, 0.0001],
        [0.7 + 0.001 * (i * 7 % 5) for i in range(48)],
    )
    error, many, groups = [0.01] * 48, [1e4] * 48, [[1e-9, 1e-3, 1e-3]] * 48
    rare = {"val_confusion": [[1900, 0, 100, 0]] * 48}
    return {
        "accumulated_gradient": {"uncleared_grad_share": [1.0] * 48},
        "dead_part": {
            "task_losses": [[0.5 - 0.01 * i, 0.7] for i in range(48)],
            "task_floors": [[1.0, 0.7]] * 48,
        },
        "double_activation": {"logit_min": [0.0] * 48, "logit_max": [1.0] * 48},
        "impossible_loss": {"val_loss": [-0.5 - 0.01 * i for i in range(48)]},
        "shrinking_features": {"feature_std": [1.0] * 8 + [0.02] * 40},
        "accuracy_paradox": {"val_confusion": [[9500, 0, 500, 0]] * 48},
        "catastrophic_forgetting": {
            "encoder_reference_skill": [0.8] * 8 + [0.3] * 40,
            "encoder_reference_n": [500] * 48,
        },
        "chance_level_ranking": rare
        | {"val_auroc": [0.5] * 48, "val_auroc_se": [0.02] * 48, "val_auprc": [0.05] * 48},
        "feature_energy_loss": {"feature_energy_ratio": [0.04] * 48},
        "gradient_conflict": {
            "loss_gradient_cosine": [-0.5] * 48,
            "loss_gradient_cosine_se": [0.02] * 48,
        },
        "label_instability": {"label_flip_rate": [0.18] * 48, "label_flip_n": [256] * 48},
        "majority_class_collapse": rare,
        "memorisation_without_generalisation": {
            "train_loss": [0.3 - 0.005 * i for i in range(48)],
            "val_loss": [0.72 + 0.01 * i for i in range(48)],
            "val_loss_se": error,
            "val_n": many,
        },
        "metric_inconsistency": {"probe_loss_train": [0.02] * 48, "probe_loss_val": [1.0] * 48},
        "minority_gradient_starvation": rare | {"class_gradient_share": [[0.97, 0.03]] * 48},
        "representation_collapse": {"feature_rank": [30.0] * 8 + [1.1] * 40},
        "weight_map_attenuation": {"map_mean_before": [0.4] * 48, "map_mean_after": [0.01] * 48},
        "weight_map_out_of_range": {"map_max": [8.78] * 48},
        "constant_output": {"output_variance_ratio": [1e-6] * 48},
        "divergence": {"val_loss": [0.3] * 8 + [2.0 + i for i in range(40)]},
        "exploding_gradient": {
            "grad_norm_p90": [1.0] * 8 + [1.5**i for i in range(40)],
            "train_loss": wobble,
        },
        "late_collapse": {
            "val_loss": [0.2] * 20 + wobble[:28],
            "val_loss_se": error,
            "val_n": many,
        },
        "loss_plateau": {"val_loss": [value / 10 for value in wobble]},
        "mixture_collapse": {"mixture_weights": [collapsed] * 48, "peak_coverage": [0.25] * 48},
        "no_parameter_update": {"group_grad_max": [[0.1, 0.1, 0.0]] * 48},
        "no_skill": {"val_loss": wobble, "val_loss_se": error, "val_n": many},
        "non_finite": {"train_loss": wobble[:20] + [float("nan")] * 28},
        "overfitting": {
            "val_loss": [0.3] * 8 + [0.3 + 0.01 * i for i in range(40)],
            "train_loss": [0.3 - 0.005 * i for i in range(48)],
        },
        "dead_units": {"dead_unit_share": [[0.1, 0.2]] * 8 + [[0.1, 0.97]] * 40},
        "loss_spike": {
            "train_loss_steps": [
                [9.0 if j == 5 else value * (1.0 + 0.1 * (j * 7 % 5)) for j in range(24)]
                for value in wobble
            ]
        },
        "posterior_collapse": {"latent_variance": [[0.5] + [1e-4] * 31] * 48},
        "saturated_activation": {"saturated_share": [[0.1, 0.2]] * 8 + [[0.1, 0.97]] * 40},
        "symmetric_component_trap": {
            "component_distance": [1e-8] * 48,
            "component_gradient_cosine": [1.0] * 48,
        },
        "vanishing_gradient": {"group_update_ratio": groups, "val_loss": wobble},
        "zero_supervision": {"train_loss": [0.0] * 48},
        "throughput_decay": {"step_seconds": [0.1] * 24 + [0.1 + 0.01 * i for i in range(24)]},
        "memory_growth": {"host_memory": [2.0 + 0.1 * i for i in range(48)]},
        "slow_input": {"data_wait_share": [0.5] * 48},
        "idle_gpu": {"gpu_utilisation": [0.1] * 48},
        "untrue_labels": {"label_truth_recall": [0.1] * 48},
    }[name]


@pytest.mark.parametrize("name", NAMES)
def test_a_planted_fault_fires_however_it_is_written_down(built_in, name):
    detect = next(rule for rule in built_in if rule.name == name)
    columns = planted(name)
    rows = [Row(i + 1, 24 * (i + 1), {k: v[i] for k, v in columns.items()}) for i in range(48)]
    facts = TaskFacts(
        floors={"val_loss": 0.7},
        groups=("a", "b", "c"),
        components=4,
        bounds={"map_max": (0.0, 1.0)},
        loss_minimum=0.0,
    )
    history = History(rows, facts, 48, finished=True)
    assert detect(history).state is FindingState.FIRED
    classes = "val_confusion" in columns and "val_auprc" not in columns
    assert sum(1 for _ in variants(history)) == 6 + classes
    check_detector(detect, [history])


def test_training_that_goes_well_raises_no_alarm(built_in):
    for rule in built_in:
        assert rule(plausible_history(rule)).state is FindingState.CLEAR, rule.name


def test_a_threshold_in_the_units_of_the_loss_is_found_out():
    def detect(history):
        last = history.column("val_loss")[-1]
        return fired("High.", onset=int(history.epochs[0])) if last > 0.05 else clear("Low.")

    with pytest.raises(ConformanceError, match=r"but with the loss times 0\.001 clear"):
        check_invariance(toy(detect))


def test_a_judgement_that_counts_evaluations_is_found_out():
    def detect(history):
        return fired("Long.", onset=2) if len(history) > 50 else clear("Short.")

    with pytest.raises(ConformanceError, match="every second evaluation only"):
        check_invariance(toy(detect))


def test_a_judgement_by_another_column_is_found_out():
    def detect(history):
        return clear("Fine.") if len(history.names) == 1 else fired("Odd.", onset=1)

    with pytest.raises(ConformanceError, match="irrelevant columns"):
        check_invariance(toy(detect))


def test_a_judgement_by_a_column_that_is_not_declared_is_found_out():
    def detect(history):
        return fired("Odd.", onset=1) if history.has("val_n") else clear("Fine.")

    rows = [Row(epoch, epoch, {"val_loss": 0.5, "val_n": 9.0}) for epoch in range(1, 9)]
    with pytest.raises(ConformanceError, match="renamed that it does not declare"):
        check_invariance(toy(detect), [History(rows, TaskFacts(), 8, finished=True)])


def test_a_judgement_by_the_place_of_a_class_is_found_out():
    def detect(history):
        return (
            fired("Lost.", onset=1) if history.vectors("val_confusion")[-1, 3] == 0 else clear("")
        )

    rows = [Row(epoch, epoch, {"val_confusion": [90.0, 0.0, 10.0, 0.0]}) for epoch in range(1, 9)]
    judge = replace(toy(detect), signals=("val_confusion",))
    with pytest.raises(ConformanceError, match="its classes in another order"):
        check_invariance(judge, [History(rows, TaskFacts(), 8, finished=True)])


def test_classes_in_another_order_keep_their_counts_and_their_ranking():
    signals = {
        "val_confusion": [80.0, 10.0, 3.0, 7.0],
        "val_scores_hist_pos": [1.0, 2.0, 7.0],
        "val_scores_hist_neg": [60.0, 20.0, 10.0],
        "class_gradient_share": [0.7, 0.3],
        "val_mean_probability": 0.25,
    }
    history = History([Row(1, 1, signals)], TaskFacts(class_counts=(900, 100)), 1)
    turned = permuted(history)
    assert turned.facts.class_counts == (100, 900)
    assert turned.rows()[0].signals == {
        "val_confusion": [7.0, 3.0, 10.0, 80.0],
        "val_scores_hist_pos": [10.0, 20.0, 60.0],
        "val_scores_hist_neg": [7.0, 2.0, 1.0],
        "class_gradient_share": [0.3, 0.7],
        "val_mean_probability": 0.75,
    }
    assert permuted(turned).digest() == history.digest()
    assert permuted(History([Row(1, 1, {"val_loss": 1.0})], TaskFacts(), 1)) is None


def test_a_judgement_without_the_signal_is_found_out():
    def detect(history):
        return Finding("toy", "1", FindingState.CLEAR, Severity.WARNING, "Fine.")

    judge = as_detector("toy", detect)
    check_invariance(judge)  # it claims to need nothing
    check_invariance(replace(judge, signals=("val_loss",)))  # the wrapper guards it

    class Unguarded(type(judge)):
        def __call__(self, history):
            return detect(history)

    fields = {name: getattr(judge, name) for name in judge.__dataclass_fields__}
    with pytest.raises(ConformanceError, match="needs val_loss, but says clear without"):
        check_invariance(Unguarded(**{**fields, "signals": ("val_loss",)}))


def test_a_signed_finding_is_always_json():
    judge = toy(lambda history: clear("So.", statistic=float("inf"), evidence={"x": float("nan")}))
    finding = judge(plausible_history(judge))
    assert (finding.statistic, finding.evidence) == (None, {})
    assert json.dumps(finding.evidence, allow_nan=False) == "{}"
