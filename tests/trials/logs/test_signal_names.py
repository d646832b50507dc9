"""A log's names are matched to signals by words; what is taken for what is said."""

import pytest

from sickbay.trials.logs.signal_names import (
    is_epoch,
    is_gradient,
    is_loss,
    is_measure,
    is_reward,
    is_step,
    match_names,
    words,
)


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
        ("auc", "val_auroc"),
        ("val_average_precision", "val_auprc"),
        ("mcc", "val_mcc"),
        ("eval_matthews_correlation", "val_mcc"),
        ("grad_norm", "grad_norm"),
        ("train/grad_norm", "grad_norm"),
        ("val_confusion", "val_confusion"),
        ("train_losses", "train_loss"),
        ("loss [val]", "val_loss"),
        ("Training Loss", "train_loss"),
        ("valloss", "val_loss"),
        ("loss_curve", "train_loss"),
        ("info/learner/default_policy/total_loss", "train_loss"),
        ("train-logloss", "train_loss"),
        ("test_acc1", "val_accuracy"),
        ("Acc@1", "train_accuracy"),
        ("top-1", "train_accuracy"),
        ("val_accs", "val_accuracy"),
        ("metrics/mAP50-95(B)", "val_map"),
        ("metrics/recall(B)", "val_recall"),
        ("train_gnorm", "grad_norm"),
        ("valid_ppl", "val_perplexity"),
        ("val_error_rate", "val_error_rate"),
        ("step_time", "step_seconds"),
        ("train/batch_time", "step_seconds"),
        ("ms/batch", "step_seconds"),
        ("s/it", "step_seconds"),
        ("samples/s", "throughput"),
        ("train_tokens_per_second", "throughput"),
        ("it/s", "throughput"),
        ("rss_mb", "host_memory"),
        ("GPU_mem", "gpu_memory"),
        ("system.gpu.0.gpu", "gpu_utilisation"),
        ("GPU util", "gpu_utilisation"),
        ("data_wait", "data_wait_share"),
    ],
)
def test_common_spellings(name, signal):
    assert dict(match_names([name], {}, {"val_confusion"}).taken) == {signal: name}


@pytest.mark.parametrize(
    "name",
    [
        *("lr", "learning_rate", "f1", "val_f1", "loss_scale", "time", "gpu", "n", "samples"),
        *("best_val_loss", "acc5", "val_loss_weight", "loss_fn"),
    ],
)
def test_other_names_are_left_out(name):
    assert not match_names([name], {}, set()).taken


def test_the_plainest_of_several_spellings_counts():
    matched = match_names(
        ["train_loss_step", "train_loss_epoch", "test_loss", "val_loss"], {}, set()
    )
    assert dict(matched.taken) == {"train_loss": "train_loss_epoch", "val_loss": "val_loss"}
    assert set(matched.passed_over) == {"train_loss_step", "test_loss"}


def test_the_users_word_wins_and_must_name_a_column():
    matched = match_names(["val_loss", "elbo"], {"elbo": "val_loss"}, set())
    assert matched.taken["val_loss"] == "elbo"
    assert match_names(["val_loss"], {"val_loss": "-"}, set()).taken == {}
    with pytest.raises(ValueError, match=r"the log has no column 'elbow'; it has val_loss"):
        match_names(["val_loss"], {"elbow": "val_loss"}, set())


def test_words_split_at_every_sign():
    assert words("Loss/valEpoch") == "loss val epoch"
    assert words("train__loss.mean") == "train loss mean"


def taken(*names, counts=None):
    return dict(match_names(names, {}, set(), counts).taken)


def test_a_test_split_stands_in_for_validation_only_where_there_is_none_and_says_so():
    matched = match_names(["train_loss", "test_loss"], {}, {"test_loss"})
    assert matched.taken["val_loss"] == "test_loss"
    assert any("'test_loss' is used as val_loss" in remark for remark in matched.remarks)
    both = match_names(["val_loss", "test_loss"], {}, {"test_loss"})
    assert dict(both.taken) == {"val_loss": "val_loss", "test_loss": "test_loss"}


def test_an_unnamed_accuracy_is_validations_where_both_losses_name_their_split():
    assert taken("train_loss", "valid_loss", "accuracy")["val_accuracy"] == "accuracy"
    assert taken("loss", "acc", "val_loss", "val_acc")["train_accuracy"] == "acc"
    assert taken("loss", "auc", "val_auc") == {
        "train_loss": "loss",
        "train_auroc": "auc",
        "val_auroc": "val_auc",
    }


def test_a_summary_line_never_outvotes_the_curve():
    """The Trainer writes `loss` at every step, and `train_loss` once at the end."""
    assert taken("loss", "train_loss", counts={"loss": 40, "train_loss": 1}) == {
        "train_loss": "loss"
    }


def test_terms_without_a_total_are_summed_and_adversaries_are_not():
    matched = match_names(["train/box_loss", "train/cls_loss", "val/box_loss"], {}, set())
    assert dict(matched.parts) == {
        "train_loss": ("train/box_loss", "train/cls_loss"),
        "val_loss": ("val/box_loss",),
    }
    assert match_names(["loss", "loss_cls"], {}, set()).parts == {}
    assert match_names(["Loss_D", "Loss_G"], {}, set()).adversarial
    assert not match_names(["loss_d", "loss_e"], {}, set()).adversarial


def test_boostings_first_evaluation_set_is_training():
    matched = match_names(["validation_0/logloss", "validation_1/logloss"], {}, set())
    assert dict(matched.taken) == {
        "train_loss": "validation_0/logloss",
        "val_loss": "validation_1/logloss",
    }


def test_a_mapping_to_no_signal_is_refused_with_the_nearest_one():
    with pytest.raises(ValueError, match=r"no signal 'val_los' \(did you mean 'val_loss'\?\)"):
        match_names(["x"], {"x": "val_los"}, set())
    with pytest.raises(ValueError, match=r"no column 'elbo' \(did you mean 'elbow'\?\)"):
        match_names(["elbow"], {"elbo": "val_loss"}, set())
    assert match_names(["t", "x"], {"t": "epoch", "x": "val_loss"}, set()).epoch == "t"


def test_what_names_are_called_by():
    assert all(map(is_loss, ["Loss_D", "decode.loss_ce", "policy_loss", "loss"]))
    assert not any(map(is_loss, ["loss_scale", "glossy", "val_accuracy"]))
    assert all(map(is_gradient, ["grad_norm", "gnorm", "grad_norm/layer1", "gradients"]))
    assert all(map(is_reward, ["rollout/ep_rew_mean", "episode_reward_mean", "episodic_return"]))
    assert is_epoch("train/epoch")
    assert is_step("time/total_timesteps")
    assert not is_step("ms/batch")
    assert not is_measure("time")
