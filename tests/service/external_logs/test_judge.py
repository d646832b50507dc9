"""External logs are judged as trials are; what they cannot show stays open."""

import json
import math
import random

import pytest
from external_logs import DETECTORS, csv_of, judge, write

from sickbay.service.external_logs.judge import as_plain
from sickbay.trials.contract import Health, TaskKind
from sickbay.trials.logs.facts import entropy


def curve(n=30, seed=0, floor=0.3251, gain=0.0):
    """Losses that fall from the floor by `gain` of it, with a little noise between evaluations."""
    noise = random.Random(seed)
    share = [gain * (1.0 - math.exp(-epoch / 5.0)) for epoch in range(n)]
    return [floor * (1.0 - g) + noise.gauss(0.0, 0.0005) for g in share]


def test_a_loss_curve_alone_proves_nothing_and_says_so(tmp_path):
    path = write(tmp_path, "log.csv", csv_of({"epoch": range(30), "loss": curve(gain=0.9)}))
    judgement = judge(path)
    assert judgement.diagnosis.label.health is Health.INCONCLUSIVE
    assert "Skill is not proven" in judgement.diagnosis.label.reason
    judged = {"divergence", "impossible_loss", "non_finite", "zero_supervision"}
    assert set(judgement.coverage.judged) == judged
    assert "val_auroc" not in judgement.matched.taken
    assert judgement.coverage.open["no_parameter_update"]


def test_a_nan_loss_is_found_without_any_facts(tmp_path):
    losses = [0.7, 0.6, 0.5, "nan", "nan"]
    path = write(tmp_path, "log.csv", csv_of({"epoch": range(5), "train_loss": losses}))
    label = judge(path).diagnosis.label
    assert (label.health, label.pathology, label.onset_epoch) == (
        Health.PATHOLOGICAL,
        "non_finite",
        3,
    )


def stuck_csv(folder):
    columns = {"epoch": range(40), "loss": curve(40, 1), "val_loss": curve(40, 2)}
    return write(folder, "log.csv", csv_of(columns | {"val_acc": [0.9] * 40}))


def test_a_run_stuck_at_the_base_rate_is_caught_by_its_floor(tmp_path):
    path = stuck_csv(tmp_path)
    stated = {"classes": (9000, 1000), "task": TaskKind.BINARY, "val_n": 10_000}
    label = judge(path, **stated, floors={"val_loss": "cross_entropy"}).diagnosis.label
    assert (label.health, label.pathology) == (Health.PATHOLOGICAL, "no_skill")
    assert judge(path, **stated).diagnosis.label.pathology == "no_skill"
    assert judge(path).diagnosis.label.health is not Health.HEALTHY


def full_csv(folder, name="log.csv", scale=1.0):
    """A learning run with enough telemetry for most fatal detectors."""
    n = 30
    losses = [value * scale for value in curve(n, 3, gain=0.8)]
    rows = [
        {
            "epoch": epoch + 1,
            "step": 10 * (epoch + 1),
            "train_loss": losses[epoch] * 0.9,
            "val_loss": losses[epoch],
            "val_loss_se": 0.004 * scale,
            "val_n": 2000,
            "val_confusion": [1750, 50, 60 - epoch, 140 + epoch],
            "val_auroc": 0.9,
            "val_auroc_se": 0.01,
            "val_auprc": 0.7,
            "output_variance_ratio": 0.6,
            "group_update_norm": [0.1, 0.1],
            "group_grad_max": [0.1, 0.1],
            "group_update_ratio": [0.01, 0.01],
            "grad_norm_p50": 1.0,
            "grad_norm_p90": 2.0,
            "grad_norm_max": 3.0,
            "label_flip_rate": 0.0,
            "label_flip_n": 256,
            "class_gradient_share": [0.5, 0.5],
        }
        for epoch in range(n)
    ]
    return write(folder, name, "\n".join(map(json.dumps, rows)))


def test_full_telemetry_with_a_stated_floor_is_healthy(tmp_path):
    stated = {"classes": (900, 100), "floors": {"val_loss": "cross_entropy"}}
    judgement = judge(full_csv(tmp_path), **stated)
    assert judgement.diagnosis.label.health is Health.HEALTHY, judgement.diagnosis.label.reason
    assert judgement.assumptions == ()


def test_an_assumed_floor_alone_never_makes_a_run_healthy(tmp_path):
    """A focal loss lies far below the entropy with no skill at all."""
    lines = full_csv(tmp_path, scale=0.03).read_text().splitlines()
    drop = ("val_auroc", "val_auroc_se", "val_auprc", "val_confusion")
    kept = [
        json.dumps({k: v for k, v in json.loads(line).items() if k not in drop}) for line in lines
    ]
    path = write(tmp_path, "focal.jsonl", "\n".join(kept))
    label = judge(path, classes=(900, 100)).diagnosis.label
    assert label.health is Health.INCONCLUSIVE
    assert "Skill is not proven" in label.reason


def test_entropy_is_the_best_constants_cross_entropy():
    p = 0.1
    assert entropy((90, 10)) == pytest.approx(-p * math.log(p) - 0.9 * math.log(0.9))
    assert entropy((5, 5, 5)) == pytest.approx(math.log(3))
    assert entropy((5, 0)) == 0.0


def test_plain_data_carries_all_that_was_said(tmp_path):
    plain = as_plain(judge(stuck_csv(tmp_path), classes=(9000, 1000), val_n=10_000))
    assert plain["label"] == "pathological"
    assert plain["taken"]["val_accuracy"] == "val_acc"
    assert plain["facts"]["floors"]["val_loss"] == pytest.approx(entropy((9, 1)))
    assert any("assumed" in assumption for assumption in plain["assumptions"])
    said = [finding["detector"] for finding in plain["findings"]]
    assert said == [*(d.name for d in DETECTORS), "judge"]


def test_a_log_may_bring_its_own_facts(tmp_path):
    lines = [{"facts": {"kind": "regression", "floors": {"val_loss": 1.0}, "n": {"val": 50}}}]
    lines += [{"epoch": e, "val_loss": 1.0 / e} for e in range(1, 4)]
    judgement = judge(write(tmp_path, "log.jsonl", "\n".join(map(json.dumps, lines))))
    assert judgement.history.facts.kind is TaskKind.REGRESSION
    assert judgement.history.facts.floor_loss == 1.0
    assert len(judgement.history) == 3
