"""Every format becomes the same records; what cannot be read says so, with its path."""

import gzip
import json
import math
import sqlite3
import struct
from contextlib import closing

import pytest
from external_logs import csv_of, read, write

from sickbay.trials.log_files.files import read_raw
from sickbay.trials.log_files.folders import find_logs
from sickbay.trials.log_files.trial_folder import LogWords, read_folder
from sickbay.trials.logs.evaluations import evaluations_of
from sickbay.trials.logs.log import LogError
from sickbay.trials.logs.records import logs_of
from sickbay.trials.logs.signal_names import match_names


def rows(path, **names):
    log = read(path)
    columns = list(dict.fromkeys(name for record in log.records for name in record))
    made = evaluations_of(log.records, match_names(columns, names, set()))
    return made.rows, made.remarks


def test_lightnings_csv_has_training_and_validation_on_lines_of_their_own(tmp_path):
    text = "epoch,step,train_loss_epoch,val_loss\n0,9,,0.5\n0,9,0.6,\n1,19,,0.4\n1,19,0.5,\n"
    evaluations, _ = rows(write(tmp_path, "metrics.csv", text))
    assert [(row.epoch, row.step, dict(row.signals)) for row in evaluations] == [
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
    evaluations, remarks = rows(path)
    assert [row.step for row in evaluations] == [10, 20]
    first, second = (row.signals for row in evaluations)
    assert first["train_loss"] == pytest.approx(0.8)
    assert first["train_loss_se"] == pytest.approx(0.1)
    assert (first["grad_norm_p50"], first["grad_norm_max"]) == (2.0, 2.0)
    assert math.isnan(second["grad_norm_max"])
    assert "counted by validation numbers" in remarks[-1]


def test_a_keras_history_is_columns(tmp_path):
    columns = {"loss": [0.7, 0.5], "accuracy": [50, 75], "val_loss": [0.8, float("inf")]}
    evaluations, remarks = rows(write(tmp_path, "history.json", json.dumps(columns)))
    assert [row.signals["val_loss"] for row in evaluations] == [0.8, math.inf]
    assert [row.signals["train_accuracy"] for row in evaluations] == [0.5, 0.75]
    assert "'accuracy' was read as per cent" in remarks


def test_json_lines_keep_nan_words_and_vectors_and_survive_a_torn_last_line(tmp_path):
    lines = ['{"epoch": 1, "val_loss": "NaN", "val_confusion": [1, 2, 3, 4]}', '{"epoch": 2, "va']
    log = read(write(tmp_path, "log.jsonl", "\n".join(lines)))
    assert math.isnan(log.records[0]["val_loss"])
    assert log.records[0]["val_confusion"] == (1.0, 2.0, 3.0, 4.0)
    assert log.remarks == ("line 2, the last one, is cut off and was left out",)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("log.jsonl", '{"epoch": 1, "val_loss": 1}\n{"epoch": 2, "val_loss": null}\n'),
        ("log.csv", ",epoch,val_loss\n0,1,1.0\n1,2,\n"),
    ],
)
def test_nulls_and_empty_cells_are_gaps_and_are_counted(tmp_path, name, text):
    log = read(write(tmp_path, name, text))
    assert [dict(record) for record in log.records] == [
        {"epoch": 1.0, "val_loss": 1.0},
        {"epoch": 2.0},
    ]
    assert "1 empty cells or nulls ('val_loss': 1)" in log.remarks[0]
    assert "write NaN" in log.remarks[0]


def test_tunes_results_are_nested_and_counted_by_iteration(tmp_path):
    lines = [
        {"training_iteration": i, "config": {"lr": 0.1}, "val_loss": 1.0 / i, "done": False}
        for i in (1, 2, 3)
    ]
    evaluations, _ = rows(write(tmp_path, "result.json", "\n".join(map(json.dumps, lines))))
    assert [(row.epoch, row.signals["val_loss"]) for row in evaluations] == [
        (1, 1.0),
        (2, 0.5),
        (3, 1 / 3),
    ]


def test_a_wandb_chart_names_its_run_in_every_column(tmp_path):
    head = "Step,brisk-1 - val_loss,brisk-1 - val_loss__MIN,calm-2 - val_loss\n"
    path = write(tmp_path, "wandb.csv", head + "0,0.5,0.4,0.7\n1,0.4,0.4,0.6\n")
    raw = read_raw(path)
    assert [raw_log.run for raw_log in raw] == ["brisk-1", "calm-2"]
    (log,) = logs_of(raw[1], str(path))
    assert [record["val_loss"] for record in log.records] == [0.7, 0.6]


def test_an_mlflow_metrics_folder(tmp_path):
    write(tmp_path, "metrics/val_loss", "1700000000 0.5 0\n1700000001 nan 1\n")
    write(tmp_path, "metrics/train/loss", "1700000000 0.6 0\n1700000001 0.5 1\n")
    for folder in (tmp_path, tmp_path / "metrics"):
        (source,) = find_logs(folder)
        log = read(source.path)
        assert log.kind == "an MLflow run"
        assert log.records[0] == {"step": 0.0, "train/loss": 0.6, "val_loss": 0.5}
        assert math.isnan(log.records[1]["val_loss"])


def test_a_database_of_mlflow_has_its_runs_in_the_order_in_which_they_began(tmp_path):
    file = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(file)) as database:
        database.executescript("""
            CREATE TABLE runs (run_uuid, name, start_time);
            CREATE TABLE metrics (run_uuid, key, value, timestamp, step, is_nan);
            INSERT INTO runs VALUES ('a', 'late', 2), ('b', 'early', 1);
            INSERT INTO metrics VALUES ('a', 'val_loss', 0.5, 10, 1, 0),
                ('a', 'system/cpu', 99.0, 10, 1, 0), ('a', 'val_loss', 0.0, 11, 2, 1),
                ('b', 'val_loss', 1.7976931348623157e308, 10, 1, 0);
        """)
    early, late = read_raw(file)
    assert (early.run, early.rows) == ("early", ({"step": 1, "val_loss": math.inf},))
    assert late.rows[0] == {"step": 1, "val_loss": 0.5}
    assert math.isnan(late.rows[1]["val_loss"])
    (source,) = find_logs(tmp_path)
    assert source.path == file
    with closing(sqlite3.connect(tmp_path / "other.db")) as database:
        database.executescript("CREATE TABLE users (name)")
    with pytest.raises(LogError, match="cannot be read as MLflow's database: no such table"):
        read_raw(tmp_path / "other.db")


def test_tensorboard_events_of_a_real_writer(tmp_path):
    from tensorboardX import SummaryWriter

    for split, base in (("train", 0.5), ("validation", 0.6)):
        with SummaryWriter(str(tmp_path / split)) as writer:
            for step in range(3):
                writer.add_scalar("epoch_loss", base - 0.1 * step, step)
            writer.add_text("note", "no number")
    evaluations, _ = rows(tmp_path)
    assert [row.signals["train_loss"] for row in evaluations] == pytest.approx([0.5, 0.4, 0.3])
    assert [row.signals["val_loss"] for row in evaluations] == pytest.approx([0.6, 0.5, 0.4])
    file = next((tmp_path / "train").iterdir())
    assert [r["epoch_loss"] for r in read(file).records] == pytest.approx([0.5, 0.4, 0.3])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "", "is empty"),
        ("a.csv", "hello world, this is\n", "holds no named numbers"),
        ("a.csv", "###\n1\n", "holds no named numbers"),
        ("a.csv", "loss,loss\n1,2\n", "two columns are called 'loss'"),
        ("a.json", '["a", "b"]', "not of objects or numbers"),
        ("a.json", "[]", "not of objects or numbers"),
        ("metrics/loss", "1 x 3\n", "expected `timestamp value step`"),
    ],
)
def test_a_bad_log_says_what_is_wrong(tmp_path, name, text, message):
    path = write(tmp_path, name, text)
    with pytest.raises(LogError, match=message) as error:
        read(path.parent if "/" in name else path)
    assert str(path) in str(error.value)


def test_bytes_that_are_no_text(tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes(b"\x80\x02\xff\xfe\x00")
    with pytest.raises(LogError, match="neither text nor"):
        read(path)
    with pytest.raises(LogError, match="there is no file"):
        read(tmp_path / "nothing.csv")


NAN = float("nan")
PRINTED = {
    "timm_calls_the_epoch_train": (
        "Train: 3 [  50/100 ( 50%)]  Loss: 6.5 (6.7)\nTest: [  20/25]  Loss: 6.1 (6.2)\n",
        [{"epoch": 3.0, "train/Loss": 6.5}, {"epoch": 3.0, "test/Loss": 6.1}],
    ),
    "catboost_names_the_split_alone": (
        "0:\tlearn: 0.68\ttest: 0.69\tbest: 0.69 (0)\ttotal: 12ms\n",
        [{"iteration": 0.0, "learn": 0.68, "test": 0.69}],
    ),
    "darknet_names_nothing": (
        " 7: 9.5, -nan avg, 0.001000 rate, 3.1 seconds, 448 images\n",
        [{"iteration": 7.0, "loss": 9.5, "avg_loss": pytest.approx(NAN, nan_ok=True)}],
    ),
    "an_accuracy_follows_its_loss": (
        "train Loss: 0.9 Acc: 0.6\nval Loss: 1.1 Acc: 0.5\n",
        [{"train Loss": 0.9, "train/Acc": 0.6}, {"val Loss": 1.1, "val/Acc": 0.5}],
    ),
    "a_gradient_follows_no_split": (
        "val_loss 0.9 loss 1.1 acc 0.5 grad_norm 2\n",
        [{"val_loss": 0.9, "loss": 1.1, "acc": 0.5, "grad_norm": 2.0}],
    ),
    "a_heading_names_the_split": (
        "Test Error: \n Accuracy: 10.0%, Avg loss: 2.3 \nloss: 2.2\n",
        [{"test/Accuracy": 10.0, "test/Avg loss": 2.3}, {"loss": 2.2}],
    ),
    "coloured_tables": (
        "  epoch    train_loss    dur\n      1        \x1b[36m0.5\x1b[0m  0.1\n",
        [{"epoch": 1.0, "train_loss": 0.5, "dur": 0.1}],
    ),
    "memory_with_its_unit": (
        "epoch    GPU_mem   box_loss\n  1/8       2.1G       1.5\n",
        [{"epoch": 1.0, "GPU_mem": 2.1e9, "box_loss": 1.5}],
    ),
    "a_data_frames_index_has_no_name": (
        "   epoch  train_loss\n0      1         0.5\n1      2         0.4\n",
        [{"epoch": 1.0, "train_loss": 0.5}, {"epoch": 2.0, "train_loss": 0.4}],
    ),
    "a_header_in_a_comment": (
        '#{"env": "CartPole"}\n# epoch train_loss\n1 0.5\n',
        [{"epoch": 1.0, "train_loss": 0.5}],
    ),
    "splits_in_brackets": (
        "[Train][Epoch 1/8] loss: 0.5\n[valid] loss_ctc=0.7, loss=0.6\n",
        [{"epoch": 1.0, "train/loss": 0.5}, {"epoch": 1.0, "val/loss_ctc": 0.7, "val/loss": 0.6}],
    ),
    "a_sentence_that_looks_like_a_header": (
        "Epoch took val_loss up\nthen Epoch 0.5 passed\nepoch 1 val_loss 0.5\n",
        [{"epoch": 1.0, "val_loss": 0.5}],
    ),
    "a_table_in_a_drawn_frame": (
        "┏━━━━━━━┳━━━━━━━━━━┓\n┃ epoch ┃ val loss ┃\n┡━━━━━━━╇━━━━━━━━━━┩\n│ 1     │ 0.5      │\n",
        [{"epoch": 1.0, "val loss": 0.5}],
    ),
    "lists_with_a_header": ('[["epoch", "loss"], [1, 0.5]]', [{"epoch": 1.0, "loss": 0.5}]),
    "an_object_of_epochs": (
        '{"epoch_1": {"loss": 0.5}, "epoch_2": {"loss": 0.4}}',
        [{"epoch": 1.0, "loss": 0.5}, {"epoch": 2.0, "loss": 0.4}],
    ),
    "a_list_of_objects_for_each_split": (
        '{"train": [{"loss": 0.5}], "val": [{"loss": 0.6}]}',
        [{"train/loss": 0.5, "val/loss": 0.6}],
    ),
    "excels_line_before_a_table": ("sep=;\nepoch;loss\n1;0.5\n", [{"epoch": 1.0, "loss": 0.5}]),
    "decimal_commas": (
        "epoch 1: loss = 0,5123, val_loss = 1,6\n",
        [{"epoch": 1.0, "loss": 0.5123, "val_loss": 1.6}],
    ),
    "what_docker_wraps_in_json": (
        '{"log": "epoch 1 loss 0.5\\n", "stream": "stdout"}\n',
        [{"epoch": 1.0, "loss": 0.5}],
    ),
    "numbers_without_a_header": (
        "1,0.5\n2,0.4\n",
        [{"column_1": 1.0, "column_2": 0.5}, {"column_1": 2.0, "column_2": 0.4}],
    ),
    "arrows": ("train loss -> 0.5, lr -> 0.1\n", [{"train loss": 0.5}]),
    "a_heading_between_rules_is_no_header": (
        "==== Training pipeline ====\n#  LOSS NER  SCORE\n-  --------  -----\n0  5.0  1.0\n",
        [{"LOSS NER": 5.0, "SCORE": 1.0}],
    ),
    "names_of_metrics_beside_the_name_of_the_run": (
        "Run,Name,Metric,Value,Step\na1,keen-cat,val_loss,0.5,0\na1,keen-cat,val_acc,0.9,0\n",
        [{"Step": 0.0, "val_loss": 0.5, "val_acc": 0.9}],
    ),
    "comets_names_of_metrics": (
        '[{"metricName": "val_loss", "metricValue": "0.5", "step": 0}]',
        [{"step": 0.0, "val_loss": 0.5}],
    ),
    "rows_of_two_types": (
        '{"type": "train", "loss": 0.5}\n{"type": "eval", "loss": 0.6}\n',
        [{"train/loss": 0.5}, {"val/loss": 0.6}],
    ),
    "columns_beside_their_number": (
        '{"epochs": 2, "train": {"loss": [0.5, 0.4]}}',
        [{"train/loss": 0.5}, {"train/loss": 0.4}],
    ),
}


@pytest.mark.parametrize("trait", PRINTED)
def test_what_tools_print_is_read_with_its_split(tmp_path, trait):
    text, records = PRINTED[trait]
    path = tmp_path / "train.log.gz"
    path.write_bytes(gzip.compress(text.encode()))  # a packed log is read like any other
    assert [dict(record) for record in read(path).records] == records


def test_a_table_of_results_has_a_run_in_each_row(tmp_path):
    path = write(tmp_path, "runs.csv", "Run ID,val_loss\nkeen,0.4\ndull,nan\n")
    (raw,) = read_raw(path)
    assert [log.run for log in logs_of(raw, str(path))] == ["keen", "dull"]


@pytest.mark.parametrize(
    ("log", "other"),
    [("run/vis_data/scalars.json", "run/run.log"), ("training_log.csv", "args.json")],
)
def test_a_folder_holds_its_log_beside_settings_and_prints(tmp_path, log, other):
    path = write(tmp_path, log, "")
    write(tmp_path, other, "")
    assert [source.path for source in find_logs(tmp_path)] == [path]


def test_a_file_for_each_epoch_is_one_run_in_the_order_of_the_epochs(tmp_path):
    for epoch in range(11):
        write(tmp_path, f"metrics_epoch_{epoch}.json", json.dumps({"validation_loss": 1.0 * epoch}))
    (source,) = find_logs(tmp_path)
    assert [record["validation_loss"] for record in read(source.path).records] == [*range(11)]


def test_thousands_of_steps_without_validation_become_few_evaluations(tmp_path):
    text = csv_of({"step": range(5000), "loss": [1.0] * 2500 + [0.5] * 2500})
    evaluations, remarks = rows(write(tmp_path, "steps.csv", text))
    assert len(evaluations) == 500
    assert evaluations[0].signals == {
        "train_loss": 1.0,
        "train_loss_se": 0.0,
        "nonfinite_loss_steps": 0.0,
    }
    assert evaluations[-1].step == 4999
    assert "one each 10 records" in remarks[-1]


def message(*fields):
    """A protocol buffer of byte fields: each a number and its content."""
    made = b""
    for field, content in fields:
        key = (field << 3) | 2
        made += varint(key) + varint(len(content)) + content
    return made


def varint(value):
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def wandb_file(folder, rows):
    """An offline run as W&B writes it: its head, then a LevelDB log of records."""
    data = b":W&B" + struct.pack("<HB", 0xBEE1, 0)
    for row in rows:
        items = [
            (1, message(*((2, part.encode()) for part in name.split("/")), (16, value.encode())))
            for name, value in row.items()
        ]
        record = message((2, message(*items)))
        data += struct.pack("<IHB", 0, len(record), 1) + record
    path = folder / "run-1.wandb"
    path.write_bytes(data)
    return path


def test_an_offline_run_of_wandb_is_read_without_its_package(tmp_path):
    rows = [{"epoch": str(i), "val/loss": "NaN" if i > 1 else f"0.{9 - i}"} for i in range(3)]
    path = wandb_file(tmp_path, rows)
    (source,) = find_logs(tmp_path)
    log = read(source.path)
    assert (log.kind, source.path) == ("a W&B offline run", path)
    assert [record["val/loss"] for record in log.records[:2]] == [0.9, 0.8]
    assert math.isnan(log.records[2]["val/loss"])
    path.write_bytes(path.read_bytes()[:-5])  # killed while it wrote
    assert len(read(path).records) == 2


def test_of_a_trials_folder_the_wandb_run_is_read_and_not_its_summary(tmp_path):
    """`WANDB_DIR` may be the trial's folder; the summary holds more names, but one value each."""
    files = tmp_path / "wandb" / "offline-run-1" / "files"
    files.mkdir(parents=True)
    losses = [{"epoch": str(i), "train/loss": f"0.{9 - i}", "val/loss": "0.9"} for i in range(3)]
    wandb_file(files.parent, losses)
    summary = {"epoch": 2, "train/loss": 0.7, "val/loss": 0.9, "val/accuracy": 0.8}
    (files / "wandb-summary.json").write_text(json.dumps(summary))
    rows = read_folder(tmp_path, LogWords())
    assert [row.signals["train_loss"] for row in rows] == [0.9, 0.8, 0.7]
