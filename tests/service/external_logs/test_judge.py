"""Foreign logs of every kind are read, matched and judged; what they cannot show stays open."""

import json
import math
import random

import pytest

from sickbay.service.external_logs.judge import LogOptions, as_plain, entropy, judge_log
from sickbay.trials.contract import Health, TaskKind
from sickbay.trials.logs.evaluations import rows_of
from sickbay.trials.logs.log import LogError
from sickbay.trials.logs.readers import read_log
from sickbay.trials.logs.signal_names import match_names, words
from sickbay.trials.registry import all_detectors

DETECTORS = all_detectors()


def write(folder, name, text):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def curve(n=30, seed=0, floor=0.3251, gain=0.0):
    """Losses that fall from the floor by `gain` of it, with a little noise between evaluations."""
    noise = random.Random(seed)
    share = [gain * (1.0 - math.exp(-epoch / 5.0)) for epoch in range(n)]
    return [floor * (1.0 - g) + noise.gauss(0.0, 0.0005) for g in share]


def csv_of(columns):
    names = list(columns)
    lines = [",".join(names)]
    lines += [
        ",".join(str(columns[name][i]) for name in names) for i in range(len(columns[names[0]]))
    ]
    return "\n".join(lines) + "\n"


def judge(path, **told):
    return judge_log(path, LogOptions(**told), DETECTORS)


def test_a_loss_curve_alone_proves_nothing_and_says_so(tmp_path):
    path = write(tmp_path, "log.csv", csv_of({"epoch": range(30), "loss": curve(gain=0.9)}))
    found = judge(path)
    assert found.diagnosis.label.health is Health.INCONCLUSIVE
    assert "Skill is not proven" in found.diagnosis.label.reason
    assert set(found.coverage.judged) == {"divergence", "non_finite", "zero_supervision"}
    assert "val_auroc" not in found.matched.taken
    assert found.coverage.open["no_parameter_update"]


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
    told = {"classes": (9000, 1000), "task": TaskKind.BINARY, "val_n": 10_000}
    label = judge(path, **told, floors={"val_loss": "cross_entropy"}).diagnosis.label
    assert (label.health, label.pathology) == (Health.PATHOLOGICAL, "no_skill")
    assert judge(path, **told).diagnosis.label.pathology == "no_skill"
    assert judge(path).diagnosis.label.health is Health.INCONCLUSIVE


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
    told = {"classes": (900, 100), "floors": {"val_loss": "cross_entropy"}}
    found = judge(full_csv(tmp_path), **told)
    assert found.diagnosis.label.health is Health.HEALTHY, found.diagnosis.label.reason
    assert found.assumptions == ()


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


def test_without_belief_an_accuracy_over_the_majority_counts_as_proof(tmp_path):
    from sickbay.service.external_logs.judge import _accuracy_proves
    from sickbay.trials.contract import Row, TaskFacts
    from sickbay.trials.history import History

    def history(accuracy, n):
        rows = [Row(e, e, {"val_accuracy": accuracy}) for e in range(1, 5)]
        return History(rows, TaskFacts(class_counts=(90, 10), n={"val": n}), 4)

    assert _accuracy_proves(history(0.95, 1000))
    assert not _accuracy_proves(history(0.91, 100))
    assert not _accuracy_proves(history(0.90, 1000))


def test_entropy_is_the_best_constants_cross_entropy():
    p = 0.1
    assert entropy((90, 10)) == pytest.approx(-p * math.log(p) - 0.9 * math.log(0.9))
    assert entropy((5, 5, 5)) == pytest.approx(math.log(3))
    assert entropy((5, 0)) == 0.0


@pytest.mark.parametrize(
    ("name", "signal"),
    [
        ("loss", "train_loss"),
        ("Loss/train", "train_loss"),
        ("train/loss", "train_loss"),
        ("training_loss", "train_loss"),
        ("train_loss_epoch", "train_loss"),
        ("epoch_loss", "train_loss"),
        ("valLoss", "val_loss"),
        ("eval_loss", "val_loss"),
        ("validation loss", "val_loss"),
        ("Loss/validation", "val_loss"),
        ("dev.nll", "val_loss"),
        ("validation/epoch_loss", "val_loss"),
        ("test_loss", "val_loss"),
        ("acc", "train_accuracy"),
        ("Val Acc", "val_accuracy"),
        ("eval/accuracy", "val_accuracy"),
        ("val_roc_auc", "val_auroc"),
        ("auc", "train_auroc"),
        ("val_average_precision", "val_auprc"),
        ("mcc", "val_mcc"),
        ("eval_matthews_correlation", "val_mcc"),
        ("grad_norm", "grad_norm"),
        ("train/grad_norm", "grad_norm"),
        ("val_confusion", "val_confusion"),
    ],
)
def test_common_spellings(name, signal):
    assert dict(match_names([name], {}, {"val_confusion"}).taken) == {signal: name}


@pytest.mark.parametrize(
    "name", ["lr", "learning_rate", "f1", "val_f1", "loss_scale", "time", "gpu"]
)
def test_other_names_are_left_out(name):
    assert not match_names([name], {}, set()).taken


def test_the_plainest_of_several_spellings_counts():
    found = match_names(["train_loss_step", "train_loss_epoch", "test_loss", "val_loss"], {}, set())
    assert dict(found.taken) == {"train_loss": "train_loss_epoch", "val_loss": "val_loss"}
    assert set(found.passed_over) == {"train_loss_step", "test_loss"}


def test_the_users_word_wins_and_must_name_a_column():
    found = match_names(["val_loss", "elbo"], {"elbo": "val_loss"}, set())
    assert found.taken["val_loss"] == "elbo"
    assert match_names(["val_loss"], {"val_loss": "-"}, set()).taken == {}
    with pytest.raises(ValueError, match=r"the log has no 'elbow'; it has val_loss"):
        match_names(["val_loss"], {"elbow": "val_loss"}, set())


def test_words_split_at_every_sign():
    assert words("Loss/valEpoch") == "loss val epoch"
    assert words("train__loss.mean") == "train loss mean"


def rows(path, **names):
    log = read_log(path)
    columns = list(dict.fromkeys(name for record in log.records for name in record))
    return rows_of(log.records, match_names(columns, names, set()))


def test_lightnings_csv_has_training_and_validation_on_lines_of_their_own(tmp_path):
    text = "epoch,step,train_loss_epoch,val_loss\n0,9,,0.5\n0,9,0.6,\n1,19,,0.4\n1,19,0.5,\n"
    found, _ = rows(write(tmp_path, "metrics.csv", text))
    assert [(row.epoch, row.step, dict(row.signals)) for row in found] == [
        (0, 9, {"val_loss": 0.5, "train_loss": 0.6}),
        (1, 19, {"val_loss": 0.4, "train_loss": 0.5}),
    ]


def test_a_hugging_face_trainer_state_logs_by_steps(tmp_path):
    history = [
        {"epoch": 0.5, "loss": 0.9, "grad_norm": 2.0, "step": 5},
        {"epoch": 1.0, "loss": 0.7, "grad_norm": 1.0, "step": 10},
        {"epoch": 1.0, "eval_loss": 0.6, "eval_accuracy": 0.8, "step": 10},
        {"epoch": 1.5, "loss": 0.5, "grad_norm": float("nan"), "step": 15},
        {"epoch": 2.0, "eval_loss": 0.5, "eval_accuracy": 0.9, "step": 20},
    ]
    path = write(tmp_path, "trainer_state.json", json.dumps({"log_history": history}))
    found, remarks = rows(path)
    assert [row.step for row in found] == [10, 20]
    first, second = (row.signals for row in found)
    assert first["train_loss"] == pytest.approx(0.8)
    assert first["train_loss_se"] == pytest.approx(0.1)
    assert (first["grad_norm_p50"], first["grad_norm_max"]) == (2.0, 2.0)
    assert math.isnan(second["grad_norm_max"])
    assert "counted by validation numbers" in remarks[-1]


def test_a_keras_history_is_columns(tmp_path):
    columns = {"loss": [0.7, 0.5], "accuracy": [50, 75], "val_loss": [0.8, float("inf")]}
    found, remarks = rows(write(tmp_path, "history.json", json.dumps(columns)))
    assert [row.signals["val_loss"] for row in found] == [0.8, math.inf]
    assert [row.signals["train_accuracy"] for row in found] == [0.5, 0.75]
    assert "'accuracy' was read as per cent" in remarks


def test_json_lines_keep_nan_words_and_vectors_and_survive_a_torn_last_line(tmp_path):
    lines = ['{"epoch": 1, "val_loss": "NaN", "val_confusion": [1, 2, 3, 4]}', '{"epoch": 2, "va']
    log = read_log(write(tmp_path, "log.jsonl", "\n".join(lines)))
    assert math.isnan(log.records[0]["val_loss"])
    assert log.records[0]["val_confusion"] == (1.0, 2.0, 3.0, 4.0)
    assert log.remarks == ("line 2, the last one, is cut off and was left out",)


def test_nulls_are_gaps_and_are_counted(tmp_path):
    log = read_log(write(tmp_path, "log.jsonl", '{"a": 1, "b": null}\n{"a": 2}\n'))
    assert [dict(record) for record in log.records] == [{"a": 1.0}, {"a": 2.0}]
    assert "1 nulls" in log.remarks[0]


def test_tunes_results_are_nested_and_counted_by_iteration(tmp_path):
    lines = [
        {"training_iteration": i, "config": {"lr": 0.1}, "val_loss": 1.0 / i, "done": False}
        for i in (1, 2, 3)
    ]
    found, _ = rows(write(tmp_path, "result.json", "\n".join(map(json.dumps, lines))))
    assert [(row.epoch, row.signals["val_loss"]) for row in found] == [
        (1, 1.0),
        (2, 0.5),
        (3, 1 / 3),
    ]


def test_a_wandb_chart_names_its_run_in_every_column(tmp_path):
    head = "Step,brisk-1 - val_loss,brisk-1 - val_loss__MIN,calm-2 - val_loss\n"
    text = head + "0,0.5,0.4,0.7\n1,0.4,0.4,0.6\n"
    path = write(tmp_path, "wandb.csv", text)
    with pytest.raises(LogError, match=r"2 runs \(brisk-1, calm-2\): choose by --run"):
        read_log(path)
    assert [r["val_loss"] for r in read_log(path, "calm-2").records] == [0.7, 0.6]
    with pytest.raises(LogError, match="no run 'x'"):
        read_log(path, "x")


def test_an_mlflow_metrics_folder(tmp_path):
    write(tmp_path, "metrics/val_loss", "1700000000 0.5 0\n1700000001 nan 1\n")
    write(tmp_path, "metrics/train/loss", "1700000000 0.6 0\n1700000001 0.5 1\n")
    for folder in (tmp_path, tmp_path / "metrics"):
        log = read_log(folder)
        assert log.kind == "an MLflow metrics folder"
        assert log.records[0] == {"step": 0.0, "train/loss": 0.6, "val_loss": 0.5}
        assert math.isnan(log.records[1]["val_loss"])


def test_tensorboard_events_of_a_real_writer(tmp_path):
    from tensorboardX import SummaryWriter

    for split, base in (("train", 0.5), ("validation", 0.6)):
        with SummaryWriter(str(tmp_path / split)) as writer:
            for step in range(3):
                writer.add_scalar("epoch_loss", base - 0.1 * step, step)
            writer.add_text("note", "no number")
    found, _ = rows(tmp_path)
    assert [row.signals["train_loss"] for row in found] == pytest.approx([0.5, 0.4, 0.3])
    assert [row.signals["val_loss"] for row in found] == pytest.approx([0.6, 0.5, 0.4])
    file = next((tmp_path / "train").iterdir())
    assert [r["epoch_loss"] for r in read_log(file).records] == pytest.approx([0.5, 0.4, 0.3])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "", "is empty"),
        ("a.csv", "hello world, this is\n", "holds no numbers"),
        ("a.csv", "###\n1\n", "no row of column names"),
        ("a.csv", "loss,loss\n1,2\n", "two columns are called 'loss'"),
        ("a.csv", "epoch,loss\n", "holds no numbers"),
        ("a.jsonl", '{"a": 1}\n{broken}\n{"a": 2}\n', "line 2: no JSON"),
        ("a.jsonl", "[1, 2]", "expected one JSON object a row, found 1"),
        ("metrics/loss", "x y z\n", "expected `timestamp value step`"),
        ("empty/.keep", "", "expected `timestamp value step`|holds no numbers"),
    ],
)
def test_a_bad_log_says_what_is_wrong(tmp_path, name, text, message):
    path = write(tmp_path, name, text)
    with pytest.raises(LogError, match=message):
        read_log(path.parent if "/" in name else path)


def test_bytes_that_are_no_text(tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes(b"\x80\x02\xff\xfe\x00")
    with pytest.raises(LogError, match="is no text"):
        read_log(path)
    with pytest.raises(LogError, match="there is no file"):
        read_log(tmp_path / "nothing.csv")


def test_thousands_of_steps_without_validation_become_few_evaluations(tmp_path):
    text = csv_of({"step": range(5000), "loss": [1.0] * 2500 + [0.5] * 2500})
    found, remarks = rows(write(tmp_path, "steps.csv", text))
    assert len(found) == 500
    assert found[0].signals == {
        "train_loss": 1.0,
        "train_loss_se": 0.0,
        "nonfinite_loss_steps": 0.0,
    }
    assert found[-1].step == 4999
    assert "one each 10 records" in remarks[-1]


def test_plain_data_carries_all_that_was_said(tmp_path):
    plain = as_plain(judge(stuck_csv(tmp_path), classes=(9000, 1000), val_n=10_000))
    assert plain["label"] == "pathological"
    assert plain["taken"]["val_accuracy"] == "val_acc"
    assert plain["facts"]["floors"]["val_loss"] == pytest.approx(entropy((9, 1)))
    assert any("assumed" in one for one in plain["assumptions"])
    assert {finding["detector"] for finding in plain["findings"]} == {d.name for d in DETECTORS}


def test_a_log_may_bring_its_own_facts(tmp_path):
    lines = [{"facts": {"kind": "regression", "floors": {"val_loss": 1.0}, "n": {"val": 50}}}]
    lines += [{"epoch": e, "val_loss": 1.0 / e} for e in range(1, 4)]
    found = judge(write(tmp_path, "log.jsonl", "\n".join(map(json.dumps, lines))))
    assert found.history.facts.kind is TaskKind.REGRESSION
    assert found.history.facts.floor_loss == 1.0
    assert len(found.history) == 3
