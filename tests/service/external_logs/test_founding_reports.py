"""The founding reports' own tables, typed in as their authors would have them, are labelled.

The figures are those of docs/reports.md; where a report gives only the first and the last value,
the curve between is exponential. Beside each stands the table of a sound run of the same system.
"""

import json
import math

import pytest
from external_logs import csv_of, judge, write

from sickbay.trials.contract import Health

IMBALANCED = "classes: [3780, 420]\nval_n: 4200\n"
NOISY = "classes: [85000, 15000]\nval_n: 20000\n"


def falling(first, last, n, pace=6.0):
    return [round(last + (first - last) * math.exp(-i / pace), 5) for i in range(n)]


def label_of(folder, name, text, facts=""):
    path = write(folder, name, text)
    if facts:
        write(folder, f"{path.stem}.facts.yaml", facts)
    return judge(path).diagnosis.label


def mixture_table(weights):
    columns = {
        "epoch": range(1, 46),
        "train_loss": falling(0.74, 0.0164, 45),
        "val_loss": falling(0.74, 0.0017, 45),
    }
    return csv_of(columns | {f"weight_{i}": values for i, values in enumerate(weights)})


def test_report_1_its_weights_collapse_under_a_loss_that_falls(tmp_path):
    gone = falling(0.25, 0.0, 45, pace=4.0)
    alive = [round(1.0 - 3 * share, 5) for share in gone]
    label = label_of(tmp_path, "log.csv", mixture_table([alive, gone, gone, gone]))
    assert (label.health, label.pathology) == (Health.PATHOLOGICAL, "mixture_collapse")
    assert "of 4 components" in label.reason
    sound = label_of(tmp_path, "sound.csv", mixture_table([[0.25] * 45] * 4))
    assert sound.health is not Health.PATHOLOGICAL


def crossmodal(losses, **final):
    rows = [{"epoch": i, "val_loss": loss} for i, loss in enumerate(losses, 1)]
    return "\n".join(map(json.dumps, [*rows, {"epoch": len(losses), **final}]))


def test_report_2_a_loss_at_the_entropy_and_one_auroc_of_a_half(tmp_path):
    losses = [0.3617, 0.33, 0.3234, 0.327, 0.33, 0.332, 0.334, 0.335, 0.336, 0.3364]
    text = crossmodal(losses, accuracy=0.9048, auroc=0.4978, auprc=0.0951)
    assert label_of(tmp_path, "log.jsonl", text, IMBALANCED).pathology == "no_skill"
    sound = crossmodal(falling(0.36, 0.1, 10, 3.0), accuracy=0.96, auroc=0.9726, auprc=0.953)
    assert label_of(tmp_path, "s.jsonl", sound, IMBALANCED).health is not Health.PATHOLOGICAL


@pytest.mark.parametrize(("auroc", "worthless"), [(0.4978, True), (0.9726, False)])
def test_report_2_by_its_one_line_of_results(tmp_path, auroc, worthless):
    text = json.dumps({"accuracy": 0.9048, "auroc": auroc, "auprc": 0.0951 if worthless else 0.953})
    label = label_of(tmp_path, "result.json", text, IMBALANCED)
    assert (label.pathology in {"chance_level_ranking", "no_skill"}) is worthless
    assert (label.health is Health.PATHOLOGICAL) is worthless


@pytest.mark.parametrize("other", [{"accuracy": 0.85}, {"precision": 0.0}])
def test_report_3_recall_zero_beside_class_counts(tmp_path, other):
    recall = [0.0034, 0.0012, 0.0003] + [0.0] * 9
    columns = {"epoch": range(1, 13), "loss": falling(0.0133, 0.0122, 12, 2.0), "recall": recall}
    more = {name: [value] * 12 for name, value in other.items()}
    label = label_of(tmp_path, "log.csv", csv_of(columns | more), NOISY)
    assert (label.health, label.pathology) == (Health.PATHOLOGICAL, "majority_class_collapse")


def test_report_3_with_the_right_labels_is_not_pathological(tmp_path):
    recall = [0.3, 0.6, 0.8, 0.9, 0.95, 0.97, 0.98, 0.98, 0.99, 0.99, 0.99, 0.99]
    columns = {
        "epoch": range(1, 13),
        "loss": falling(0.0133, 0.001, 12, 2.0),
        "accuracy": [round(0.84 + 0.15 * share, 4) for share in recall],
        "recall": recall,
    }
    label = label_of(tmp_path, "log.csv", csv_of(columns), NOISY)
    assert label.health is not Health.PATHOLOGICAL


@pytest.mark.parametrize(
    ("after", "energy", "cause"),
    [
        ([0.008, 0.012, 0.020, 0.015, 0.017, 0.016], None, "weight_map_attenuation"),
        ([0.008, 0.012, 0.020, 0.015, 0.017, 0.016], 0.04, "weight_map_attenuation"),
        ([0.39] * 6, 0.95, None),
    ],
)
def test_report_4_by_the_attenuation_of_its_maps(tmp_path, after, energy, cause):
    columns = {
        "epoch": range(1, 7),
        "loss": falling(1.5, 1.4, 6),
        "map_mean_before": [0.40] * 6,
        "map_mean_after": after,
        "map_max": [1.71, 8.78, 5.2, 6.1, 7.7, 7.6] if cause else [1.3] * 6,
        "mAP": [0.135 if cause else 0.7] * 6,
    }
    more = {} if energy is None else {"feature_energy_ratio": [energy] * 6}
    assert label_of(tmp_path, "log.csv", csv_of(columns | more)).pathology == cause
