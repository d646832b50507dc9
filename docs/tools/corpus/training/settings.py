"""Everything that a run of the corpus can be told, with the value at which nothing is wrong.

A task sets the first half. A fault operator, or a hard but healthy variant, replaces single fields;
`faults.py` and `hard.py` hold the tables. No detector ever sees a setting.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

NEVER = 2.0  # a share of the plan that no run reaches


@dataclass(frozen=True)
class Settings:
    """One run of one task. Shares are of the samples, moments (`*_from`, `*_at`) of the plan."""

    # the task
    n_train: int = 512
    n_val: int = 512
    n_test: int = 2048
    batch: int = 96
    width: int = 32
    depth: int = 3
    activation: str = "relu"
    positive_rate: float = 0.5
    signal: float = 1.0  # how strongly inputs tell of targets
    noise: float = 0.3
    modes: int = 2  # peaks of the mixture task
    # training
    optimizer: str = "adam"  # or sgd, schedule_free
    lr: float = 3e-3
    momentum: float = 0.9
    weight_decay: float = 0.0
    clip: float = 1e9
    schedule: str = "constant"
    dropout: float = 0.0
    smoothing: float = 0.0
    frozen_on_purpose: int = 0  # groups, from the input, that are not meant to train
    loss_scaler_skips: int = 0  # first steps whose gradients overflow and are skipped
    # faults of optimisation and numerics
    lr_factor: float = 1.0
    lr_jump: float = 1.0
    jump_at: float = 0.5
    unheld_groups: int = 0  # groups, from the output, that the optimizer does not hold
    frozen_by_mistake: int = 0  # groups, from the input, that should train; the head always does
    no_zero_grad_from: float = NEVER
    ascend_from: float = NEVER
    infinite_loss_from: float = NEVER
    nan_inputs_from: float = NEVER
    half_overflow: float = 0.0  # gradients are multiplied by this in half precision
    # faults of initialisation and architecture
    init_scale: float = 1.0
    zeroed: str = ""  # which layers start at zero: last, hidden, all
    hidden_bias: float = 0.0
    input_scale: float = 1.0
    inputs_lost: float = 0.0
    cut_groups: int = 0  # groups, from the input, that the graph does not reach
    # faults of the loss
    masked: float = 0.0
    loss_scale: float = 1.0
    activated: int = 0  # softmaxes or sigmoids before a loss that applies one itself
    loss_form: str = ""  # negated, probability, unsquared: values that no proper loss can have
    summed: bool = False  # the training loss is a sum over the batch
    # faults of the data
    misaligned: float = 0.0
    shuffled: float = 0.0
    redrawn: float = 0.0
    one_label: float = 0.0  # share of training targets that are the commonest
    off_by_one: str = ""  # class, step: training targets are those of the next one
    swapped_splits: str = ""  # both: trained on val, validated on train; val: validated on train
    mismatched: float = 0.0
    kept_samples: float = 1.0
    class_weight: float = 1.0  # factor on the weight of the positives
    positives_dropped: float = 0.0
    # faults of the evaluation
    augmented_val: float = 0.0  # noise on validation inputs, in their standard deviations
    evaluated_in_training_mode: bool = False
    # single tasks
    mixture_loss: str = "pred_w+wl"
    component_jitter: float = -1.0  # below 0: components start apart
    first_logit: float = 0.0
    beta: float = 1.0
    encoder_lr: float = 0.1  # times the rate of the heads
    opposed: float = 0.0  # weight of a second task that contradicts the first
    map_divisor: float = 1.0
    map_gain: float = 1.0
    map_sigma: float = 2.0
    map_base: float = 0.7
    dead_labels: int = 0  # labels of a multi-label task whose training targets are permuted
    parity_bits: int = 2
    classes: int = 10


def replaced(settings: Settings, changes: Mapping[str, Any]) -> Settings:
    """Return settings with some fields replaced; a field that is not there is a mistake of ours."""
    return replace(settings, **changes)


def other_optimizer(settings: Settings, seed: int, sgd_lr: float = 0.05) -> Settings:
    """Of three seeds in a row the second trains by SGD, the third schedule-free."""
    if seed % 3 == 0:
        return settings
    chosen = ("sgd", sgd_lr) if seed % 3 == 1 else ("schedule_free", 0.5)
    return replace(settings, optimizer=chosen[0], lr=chosen[1])
