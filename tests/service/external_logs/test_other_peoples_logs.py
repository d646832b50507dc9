"""Logs with the traits of public threads: what each shows is found, and in the log's own terms.

Each sample is a kind of log, shortened; the trait that once hid its pathology stands in the id.
"""

import json

import pytest
from external_logs import judge, write

from sickbay.service.external_logs.judge import as_plain, onset_number
from sickbay.trials.contract import Health
from sickbay.trials.logs.log import LogError


def rows(head, *lines):
    return "\n".join([head, *lines]) + "\n"


def jsonl(*records):
    return "\n".join(map(json.dumps, records)) + "\n"


NAN = float("nan")
NOT_FINITE = {
    "terms_of_a_detector": (
        "results.csv",
        rows(
            "   epoch,  train/box_loss,  train/cls_loss,  metrics/mAP50-95(B),  val/cls_loss",
            "       1,         1.5,            2.5,             0,               nan",
            "       2,         1.4,            2.2,             0,               nan",
        ),
        "epoch 1",
        "val/cls_loss",
    ),
    "iterations_and_a_rare_validation": (
        "log.csv",
        rows("iter,loss,val loss", "10,4.0,", "20,3.9,", "30,,4.1", "30,4.2,", "40,nan,"),
        "step 40",
        "loss",
    ),
    "nanogpt": (
        "train.log",
        (
            "step 0: train loss 4.2, val loss 4.3\niter 0: loss 4.2, time 99.1ms, mfu 1.2%\n"
            "iter 10: loss nan, time 99.1ms, mfu 1.2%\n"
        ),
        "step 10",
        "loss",
    ),
    "a_terms_nan_in_rows_told_apart_by_mode": (
        "a.log.json",
        '{"env_info": "linux"}\n'
        + jsonl(
            {"mode": "train", "epoch": 1, "iter": 50, "loss_cls": 0.5, "loss": 1.0},
            {"mode": "train", "epoch": 1, "iter": 100, "loss_cls": NAN, "loss": 0.9},
            {"mode": "val", "epoch": 1, "iter": 20, "loss": 1.1},
            {"mode": "train", "epoch": 2, "iter": 50, "loss_cls": 0.5, "loss": 0.8},
            {"mode": "val", "epoch": 2, "iter": 20, "loss": 1.0},
        ),
        "epoch 1 (step 100)",
        "train/loss_cls",
    ),
    "test_stands_in": (
        "log.txt",
        jsonl(
            {"train_loss": 6.9, "test_loss": 6.8, "test_acc1": 0.1, "epoch": 0},
            {"train_loss": 6.0, "test_loss": NAN, "test_acc1": 4.8, "epoch": 1},
        ),
        "epoch 1",
        "test_loss",
    ),
    "decimal_comma": (
        "log.csv",
        rows("epoch;loss;val_loss", "1;0,69;0,70", "2;0,68;nan"),
        "epoch 2",
        "val_loss",
    ),
    "printed_dicts": (
        "train.log",
        "{'loss': 5.6, 'lr': 2e-4, 'epoch': 0.09}\n{'loss': nan, 'lr': 2e-4, 'epoch': 0.1}\n",
        "epoch 0.1",
        "loss",
    ),
    "two_adversaries": (
        "log.csv",
        rows("iter,Loss_D,Loss_G,D(x)", "0,2.0,2.9,0.4", "50,0.1,27.6,0.9", "100,nan,nan,nan"),
        "step 100",
        "Loss_D",
    ),
    "one_record_of_lists": (
        "history.json",
        json.dumps({"train_losses": [0.7, 0.6, 0.5], "val_losses": [0.7, 0.7, NAN], "best": 1}),
        "record 3",
        "val_losses",
    ),
    "a_bare_list": ("loss_curve.json", json.dumps([0.7, 0.6, NAN]), "record 3", "loss_curve"),
    "nested_results": (
        "result.json",
        jsonl(
            *(
                {
                    "training_iteration": i,
                    "config": {"loss": "mse", "val_loss": 3},
                    "info": {"learner": {"policy": {"total_loss": NAN if i > 2 else 0.5}}},
                }
                for i in (1, 2, 3)
            )
        ),
        "epoch 3",
        "info/learner/policy/total_loss",
    ),
    "fairseq": (
        "train.log",
        (
            '2020-03-23 11:38:13 | INFO | train | {"epoch": 1, "train_loss": "11.8"}\n'
            '2020-03-23 11:38:31 | INFO | valid | {"epoch": 1, "valid_loss": "9.4"}\n'
            '2020-03-23 12:38:13 | INFO | train | {"epoch": 2, "train_loss": "9.8"}\n'
            '2020-03-23 12:38:31 | INFO | valid | {"epoch": 2, "valid_loss": "nan"}\n'
        ),
        "epoch 2",
        "valid_loss",
    ),
    "brackets": (
        "log.csv",
        rows("epoch,loss [train],loss [val],[/acc]", "1,0.7,0.8,0.5", "2,nan,0.6,0.5"),
        "epoch 2",
        "loss [train]",
    ),
    "a_markdown_table": (
        "table.md",
        (
            "| Epoch | Training Loss | Validation Loss |\n|---|---|---|\n"
            "| 1 | No log | 0.69 |\n| 2 | 0.69 | nan |\n"
        ),
        "epoch 2",
        "Validation Loss",
    ),
    "gradients_of_fractional_epochs": (
        "trainer_state.json",
        json.dumps(
            {
                "log_history": [
                    {"loss": 1.9, "grad_norm": NAN if i > 10 else 0.8, "epoch": i / 40, "step": i}
                    for i in range(40)
                ]
            }
        ),
        "epoch 0.275 (step 11)",
        "grad_norm",
    ),
    "keras_bars": (
        "train.log",
        (
            "Epoch 1/2\n 1/9 [>...] - ETA: 1s - loss: 9.9\r9/9 [====] - 2s 9ms/step - loss: 2.3 - "
            "acc: 0.1 - val_loss: 1.8\nEpoch 2/2\n9/9 [====] - 2s 9ms/step - loss: nan - acc: 0.1\n"
        ),
        "epoch 2",
        "loss",
    ),
    "tensors": (
        "log.csv",
        rows("epoch,loss", "1,\"tensor(0.7, device='cuda:0')\"", "2,tensor(nan)"),
        "epoch 2",
        "loss",
    ),
    "pytorchs_mnist": (
        "train.log",
        (
            "Train Epoch: 1 [0/60000 (0%)]\tLoss: 2.30\n"
            "Test set: Average loss: 0.21, Accuracy: 9336/10000 (93%)\n"
            "Train Epoch: 2 [0/60000 (0%)]\tLoss: nan\n"
            "Test set: Average loss: nan, Accuracy: 980/10000 (10%)\n"
        ),
        "epoch 2",
        "train/Loss",
    ),
    "a_long_table": (
        "long.csv",
        rows("step,metric,value", "0,train_loss,0.7", "0,val_loss,0.7", "1,train_loss,nan"),
        "step 1",
        "train_loss",
    ),
    "stable_baselines_boxes": (
        "train.log",
        (
            "------\n| train/ | |\n| loss | 5.1 |\n------\n"
            "------\n| train/ | |\n| loss | nan |\n------\n"
        ),
        "record 2",
        "train/loss",
    ),
}


@pytest.mark.parametrize("trait", NOT_FINITE)
def test_a_number_that_is_not_finite_is_found_in_any_log(tmp_path, trait):
    name, text, onset, column = NOT_FINITE[trait]
    judgement = judge(write(tmp_path, name, text))
    label = judgement.diagnosis.label
    assert (label.health, label.pathology) == (Health.PATHOLOGICAL, "non_finite"), label.reason
    assert str(judgement.onset) == onset
    assert f"First seen in {column!r}, at {onset}." in label.reason


def test_mlflow_without_steps_keeps_the_order_of_the_lines(tmp_path):
    values = [0.7, 0.6, 0.9, 3.0, 9.0, 20.0, 40.0, 80.0]
    write(tmp_path, "m/metrics/val_loss", "".join(f"{i} {v} 0\n" for i, v in enumerate(values)))
    judgement = judge(tmp_path / "m")
    assert len(judgement.history) == len(values)
    assert judgement.diagnosis.label.pathology == "divergence"


def test_one_early_validation_does_not_hide_what_training_does(tmp_path):
    steps = [1.6, 1.4, 3.3, 6.4, 5.5, 4.9, 4.9, 4.6]
    lines = [f"{25 * i},{loss}," for i, loss in enumerate(steps, 1)]
    judgement = judge(
        write(tmp_path, "log.csv", rows("iter,train_loss,val_loss", "1,,2.1", *lines))
    )
    assert judgement.diagnosis.label.pathology == "divergence"
    assert str(judgement.onset) == "step 100"


@pytest.mark.parametrize("value", [87.3365, 100.0, 27.631])
def test_a_loss_at_the_bound_of_its_logarithm_has_diverged(tmp_path, value):
    lines = [f"{20 * i},{value}" for i in range(1, 8)]
    judgement = judge(write(tmp_path, "log.csv", rows("iteration,loss", "0,21.4058", *lines)))
    assert (judgement.diagnosis.label.pathology, str(judgement.onset)) == ("divergence", "step 20")


def dead_log(folder):
    moving = ["0,0.6773", "1,2.4587", "2,5.3353", "3,1.0234"]
    return write(
        folder, "log.csv", rows("step,loss", *moving, *(f"{i},0.6931" for i in range(4, 20)))
    )


def test_a_training_loss_that_repeats_itself_is_dead(tmp_path):
    path = dead_log(tmp_path)
    without = judge(path).diagnosis.label
    assert without.pathology == "constant_output"
    assert "is 0.6931 in each of the last 16 records, which is log 2" in without.reason
    known = judge(path, floors={"train_loss": 0.6931})
    assert (known.diagnosis.label.pathology, str(known.onset)) == ("no_skill", "step 4")


@pytest.mark.parametrize(
    ("losses", "cause"),
    [
        ([1.0 - 0.05 * i for i in range(10)] + [0.5001] * 10, None),  # it has learnt, and converged
        ([0.69] * 20, "no_skill"),  # two digits prove no dead loss; but it has never fallen
    ],
)
def test_a_loss_that_repeats_itself_for_a_good_reason_is_not_dead(tmp_path, losses, cause):
    lines = [f"{i},{loss:g}" for i, loss in enumerate(losses)]
    label = judge(write(tmp_path, "log.csv", rows("step,loss", *lines))).diagnosis.label
    assert label.pathology == cause, label.reason


def test_a_term_that_never_moves_is_noted(tmp_path):
    lines = [f"{i},0,{5.0 / i}" for i in range(1, 9)]
    path = write(tmp_path, "log.csv", rows("epoch,train/box_loss,train/cls_loss", *lines))
    reasons = [f.reason for f in judge(path).diagnosis.findings if f.state == "fired"]
    assert any("'train/box_loss' is 0 in all 8 records" in r for r in reasons)


def test_a_term_that_never_moves_beside_a_total_that_falls_is_only_noted(tmp_path):
    lines = [f"{i},0.2211,{0.3 + 5.0 / i}" for i in range(1, 13)]
    label = judge(write(tmp_path, "log.csv", rows("epoch,loss_box,loss", *lines))).diagnosis.label
    assert label.health is Health.INCONCLUSIVE


def test_a_loss_of_zero_beside_gradients_that_are_nan_is_not_finite(tmp_path):
    """The Trainer of Hugging Face writes a loss that is NaN as 0."""
    lines = [f"{i},{2.0 - 0.1 * i},3.1" if i < 4 else f"{i},0.0,nan" for i in range(15)]
    judgement = judge(write(tmp_path, "log.csv", rows("step,loss,grad_norm", *lines)))
    assert judgement.diagnosis.label.pathology == "non_finite"
    assert str(judgement.onset) == "step 4"


def test_a_plateau_after_a_fall_is_left_open_unless_chance_is_known(tmp_path):
    lines = [f"{i},{3.3 + 2 * 0.4**i + 0.01 * (i * i % 7):.4f}" for i in range(100)]
    path = write(tmp_path, "log.csv", rows("step,loss", *lines))
    label = judge(path).diagnosis.label
    assert label.health is Health.INCONCLUSIVE
    assert "--floor" in label.reason
    known = judge(path, floors={"train_loss": 3.33}).diagnosis.label
    assert known.health is Health.PATHOLOGICAL


def test_what_early_stopping_prints_is_no_loss(tmp_path):
    lines = [
        f"epoch {i} val_loss {1 / i:.3f}\nValidation loss decreased (inf --> {1 / i:.3f}).\n"
        for i in range(1, 9)
    ]
    judgement = judge(write(tmp_path, "train.log", "".join(lines)))
    assert judgement.diagnosis.label.health is Health.INCONCLUSIVE


def test_a_column_that_names_a_split_alone_is_a_loss_only_if_it_falls(tmp_path):
    falls = [f"{i},{1 / i},{1 - 1 / i}" for i in range(1, 13)]
    rises = [f"{i},{i / 12},{1 - 1 / i}" for i in range(1, 13)]
    overfitting = judge(write(tmp_path, "log.csv", rows("epoch,train,val", *falls)))
    assert dict(overfitting.matched.taken) == {"train_loss": "train", "val_loss": "val"}
    with pytest.raises(LogError, match="--map train=train_loss"):
        judge(write(tmp_path, "log.csv", rows("epoch,train,val", *rises)))


def test_losses_may_rise_where_a_reward_rises(tmp_path):
    lines = [f"{i},{10 * i},{0.0005 * 2**i}" for i in range(14)]
    path = write(tmp_path, "progress.csv", rows("step,rollout/ep_rew_mean,train/loss", *lines))
    judgement = judge(path)
    assert judgement.diagnosis.label.health is Health.INCONCLUSIVE
    assert any("may rise" in remark for remark in judgement.remarks)
    falling = path.read_text().replace("rollout/ep_rew_mean", "rollout/ep_len_mean")
    assert judge(write(tmp_path, "other.csv", falling)).diagnosis.label.pathology == "divergence"


def test_a_loss_that_sets_in_late_does_not_diverge(tmp_path):
    lines = [f"{i},{0.0 if i < 3 else 0.4 + 0.3 / i:.4f}" for i in range(15)]
    judgement = judge(write(tmp_path, "log.csv", rows("epoch,loss", *lines)))
    assert judgement.diagnosis.label.health is Health.INCONCLUSIVE
    assert any("exactly 0 in the first 3 records" in remark for remark in judgement.remarks)


def test_appended_runs_are_kept_apart_and_the_last_is_judged(tmp_path):
    first = ["1,0.7", "2,0.6", "3,nan"]
    again = [f"{i},{0.7 / i:.4f}" for i in range(1, 5)]
    path = write(tmp_path, "log.csv", rows("epoch,val_loss", *first, *again))
    judgement = judge(path)
    assert len(judgement.history) == 4
    assert judgement.diagnosis.label.health is Health.INCONCLUSIVE
    assert "run 1: pathological (non_finite, since epoch 3)" in judgement.remarks[0]
    assert judge(path, run="1").diagnosis.label.pathology == "non_finite"
    with pytest.raises(LogError, match="holds no run '7'"):
        judge(path, run="7")


def test_a_run_that_goes_on_from_a_checkpoint_replaces_what_it_repeats(tmp_path):
    lines = ["1,0.7", "2,0.6", "3,0.5", "2,0.55", "3,0.45", "4,0.4"]
    judgement = judge(write(tmp_path, "log.csv", rows("epoch,val_loss", *lines)))
    assert judgement.history.column("val_loss").tolist() == [0.7, 0.55, 0.45, 0.4]
    assert any("resumed at 2, after 3: 2 records" in remark for remark in judgement.remarks)


def test_the_step_within_an_epoch_counts_no_runs(tmp_path):
    lines = [f"{i % 4},{1.0 / (i + 1):.3f}" for i in range(16)]
    assert len(judge(write(tmp_path, "log.csv", rows("step,loss", *lines))).history) == 16


@pytest.mark.parametrize(
    ("odd", "even"), [("{0:.3f},nan", "nan,0.6"), ("{0:.3f},0.6", "{0:.3f},nan")]
)
def test_nan_that_only_fills_a_table_is_a_gap(tmp_path, odd, even):
    lines = [f"{i},{(odd if i % 2 else even).format(0.7 / (i + 1))}" for i in range(12)]
    label = judge(write(tmp_path, "log.csv", rows("step,loss,val_loss", *lines))).diagnosis.label
    assert label.health is Health.INCONCLUSIVE


def test_nothing_recognised_asks_with_the_line_to_type(tmp_path):
    path = write(
        tmp_path, "run 1.csv", rows("Wall time,Step,Value", "1,0,0.7", "2,10,nan", "3,20,nan")
    )
    with pytest.raises(LogError) as error:
        judge(path)
    assert "Columns: Wall time, Step, Value" in str(error.value)
    assert f"sickbay diagnose '{path}' --map Value=train_loss" in str(error.value)
    assert judge(path, names={"Value": "train_loss"}).diagnosis.label.pathology == "non_finite"


def test_validation_rarer_than_training_closes_the_evaluations(tmp_path):
    records = []
    for i in range(1, 61):
        records.append({"step": i, "loss": 1.0 / i})
        if i % 10 == 0:
            records.append({"step": i, "eval_loss": 1.1 / i})
    judgement = judge(write(tmp_path, "log.jsonl", jsonl(*records)))
    assert len(judgement.history) == 6
    assert judgement.history.recorded("train_loss").all()


@pytest.mark.parametrize("value", [2, 0.5])
def test_the_onset_in_json_is_the_logs_own(tmp_path, value):
    records = [{"epoch": value * i, "loss": NAN if i > 3 else 0.5} for i in range(6)]
    judgement = judge(write(tmp_path, "log.jsonl", jsonl(*records)))
    assert onset_number(judgement.onset) == as_plain(judgement)["onset_epoch"] == 4 * value
