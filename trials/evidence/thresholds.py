"""Every threshold of the detectors, in one place, with its unit and its reason.

Margins are policy: they are versioned with the labels. A change of a value raises
`MARGINS_VERSION`; labels made with other margins stay what they were.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

MARGINS_VERSION = "2.0"


@dataclass(frozen=True)
class Margin:
    """A threshold: its value, what it counts, and why it is what it is."""

    value: float
    unit: str
    reason: str


_TABLE = {
    # shared by all
    "alpha_online": Margin(1e-3, "error per trial", "all looks at a running trial together"),
    "alpha_final": Margin(1e-2, "error per trial", "one look at a finished trial"),
    "persistence": Margin(3, "evaluations", "one bad evaluation is noise, three in a row are not"),
    "hysteresis": Margin(1.5, "times the margin", "a state is not left by hovering at its edge"),
    "online_evaluations": Margin(10, "evaluations", "before, a slow start looks like a dead one"),
    "online_share": Margin(0.25, "share of the plan", "long plans have long plateaus at the start"),
    "trend_window": Margin(
        10, "evaluations", "shows a slope of 0.3 sd an evaluation in 2 of 3 runs"
    ),
    "trend_p": Margin(0.05, "p-value", "below, the curve is moving and may still recover"),
    "still_evaluations": Margin(
        5, "evaluations", "a warmup shows itself as growth in five: p < 0.01"
    ),
    "still_movement": Margin(
        1e-3, "share of the weights", "what all the steps to come can change of a group"
    ),
    "reach_speed": Margin(2.0, "times the slope", "the loss may fall twice as fast as it did"),
    "cause_slack": Margin(3, "evaluations", "a cause may be seen this much after its consequence"),
    # impossible values
    "impossible_slack": Margin(0.01, "share of the floor", "far more than rounding"),
    "impossible_gain": Margin(
        100.0, "times the floor", "no log-density of a regression exceeds its floor a hundredfold"
    ),
    "mirrored_floor": Margin(
        0.8, "share of the floor", "a loss of the wrong sign begins near its floor's mirror image"
    ),
    "probability_slack": Margin(1e-3, "probability", "rounding of half precision"),
    "twice_loss": Margin(0.06, "nats", "what a nearly one-hot output leaves open"),
    "twice_accuracy": Margin(
        0.85, "accuracy", "healthy classifiers this good have a far smaller loss"
    ),
    "still_share": Margin(0.02, "share of the floor", "a last third in which nothing moves"),
    "count_slack": Margin(0.05, "share", "a last batch that was dropped makes no contradiction"),
    # skill
    "skill_gain": Margin(0.02, "gain", "hard but healthy tasks end at a gain of 0.03 to 0.05"),
    "floor_gain": Margin(
        0.005, "gain", "a model of gain 0.02 stays under it on 1000 samples in 1 of 1000 runs"
    ),
    "had_skill_gain": Margin(
        0.10, "gain", "far over what noise reaches, so skill was really there"
    ),
    # divergence
    "divergence_ratio": Margin(
        2.0, "times the lowest loss", "TheDeepChecker: twice the running minimum"
    ),
    "divergence_floor_se": Margin(
        3.0, "standard errors", "worse than the constant predictor for sure"
    ),
    "blowup_ratio": Margin(
        10.0, "times the first window", "Megatron: ten times the largest loss so far"
    ),
    "first_window": Margin(3, "evaluations", "the scale on which a run starts"),
    "divergence_mad": Margin(
        10.0, "robust sd", "for losses without a least value ratios mean nothing"
    ),
    "cap_over_floor": Margin(
        2.0, "times the floor", "scale-free form of 'loss over 10 while H0 < 5'"
    ),
    "rising_p": Margin(0.01, "p-value", "one false rise in a hundred flat curves"),
    # gradients and updates
    "explosion_ratio": Margin(
        100.0, "times the first median", "early norms differ by tens, not hundreds"
    ),
    "clipped_share": Margin(
        0.5, "share of steps", "Tuning Playbook: more than half clipped is extreme"
    ),
    "nonfinite_grad_run": Margin(
        5, "steps", "a loss scaler skips one or two steps, not five in a row"
    ),
    "nonfinite_grad_share": Margin(0.01, "share of steps", "a settled loss scaler skips fewer"),
    "vanishing_ratio": Margin(
        1e-6, "update per weight", "healthy layers move 1e-4 to 1e-1 of themselves"
    ),
    "vanishing_to_last": Margin(
        1e-3, "ratio of ratios", "AutoTrainer: first layer under 1/1000 of the last"
    ),
    "frozen_epochs": Margin(2, "epochs", "one may be a warmup that starts at a rate of zero"),
    "spike_sigma": Margin(6.0, "robust sd", "OLMo-core and Levanter: six sigma of recent steps"),
    "spike_window": Margin(128, "steps", "OLMo-core and Levanter: the last 128 steps"),
    "spike_least": Margin(64, "steps", "fewer give no scatter to compare with"),
    "spike_share": Margin(0.01, "share of steps", "one step in a hundred is no accident any more"),
    "uncleared_share": Margin(0.5, "share of steps", "one leftover may be a resumed step"),
    # units and latent variables
    "dead_layer": Margin(0.5, "share of a layer", "SageMaker Debugger: half of a layer is dead"),
    "dead_layer_fatal": Margin(0.9, "share of a layer", "a tenth of a layer lets little through"),
    "dead_net": Margin(0.5, "share of the net", "half of the capacity is gone"),
    "dead_activity": Margin(
        0.003, "share of inputs", "what 0 of 1024 samples leaves open of a unit's activity"
    ),
    "dead_evaluations": Margin(2, "evaluations", "a unit that no sample activates hardly recovers"),
    "saturated_layer": Margin(
        0.5, "share of a layer", "SageMaker Debugger: half of the outputs have no slope"
    ),
    "latent_active": Margin(0.01, "variance", "Burda et al. 2016: under it a latent says nothing"),
    "latent_share": Margin(0.05, "share of latents", "one in twenty carries everything, or none"),
    # supervision
    "zero_loss": Margin(1e-12, "share of the floor", "beyond what float32 can tell from zero"),
    "fitted_loss": Margin(0.01, "share of the floor", "from here, zero may be reached by fitting"),
    "zero_grad_share": Margin(0.95, "share of steps", "the odd step without a target is normal"),
    # output and mixtures
    "output_variance": Margin(
        1e-3, "share of the target's", "TheDeepChecker: output does not vary"
    ),
    "component_distance": Margin(1e-3, "parameter scale", "components this near predict the same"),
    "component_cosine": Margin(0.999, "cosine", "equal gradients keep equal components equal"),
    "effective_components": Margin(
        1.2, "components", "perplexity of one component that has almost all the weight"
    ),
    "largest_weight": Margin(0.95, "weight", "the others are left with a twentieth"),
    "harm_se": Margin(2.0, "standard errors", "not distinguishable from the best single component"),
    "coverage_over_one": Margin(
        0.05, "share of peaks", "one component of K covers 1/K of the peaks"
    ),
    # curves
    "plateau_window": Margin(
        15, "evaluations", "shows a slope of 0.3 sd an evaluation in 99.8 % of runs"
    ),
    "plateau_share": Margin(
        0.01, "share of H0 - best", "further epochs gain less than a hundredth of what was gained"
    ),
    "plateau_p": Margin(0.1, "p-value", "not even a weak trend"),
    "overfitting_se": Margin(2.0, "standard errors", "the rise is more than validation noise"),
    "overfitting_share": Margin(
        0.05, "share of H0 - best", "a twentieth of the gain is lost again"
    ),
    "gap_alpha": Margin(
        0.01, "error, two-sided", "validation and test differ by chance in one of a hundred runs"
    ),
    # classes and rankings
    "minority_recall": Margin(0.10, "recall", "a class that is found once in ten times is lost"),
    "minority_predicted": Margin(
        0.1, "times the base rate", "the minority is predicted ten times too rarely"
    ),
    "ranking_margin": Margin(
        0.10, "AUROC over 0.5", "a worthless ranking is found in 95 % of runs with 100 positives"
    ),
    "ranking_alpha": Margin(0.05, "error per look", "one-sided; the margin guards weak rankings"),
    "ranking_precision": Margin(
        1.5, "times the base rate", "a good top of the list shows in the precision first"
    ),
    "ranking_positives": Margin(
        50, "positives", "fewer cannot show that a running trial's ranking is worthless"
    ),
    "paradox_accuracy": Margin(0.9, "accuracy", "from here accuracy is read as success"),
    "paradox_mcc": Margin(0.1, "MCC", "hardly any relation between prediction and class"),
    "starved_share": Margin(
        0.10, "share of the gradient", "what an unweighted base rate under a tenth gets"
    ),
    # labels
    "label_flips": Margin(0.01, "share of labels", "labels of a fixed sample do not change at all"),
    "labels_drawn": Margin(
        0.8, "share of independent flips", "hardly anything stays of the label before"
    ),
    "label_transitions": Margin(2, "transitions", "one may be a change of the data, once"),
    "memorised_gain": Margin(0.5, "gain", "half of what can be known of the training labels"),
    "jump_share": Margin(0.5, "share of the plan", "parity-like tasks jump after a long plateau"),
    "metric_best": Margin(0.95, "accuracy", "a metric this near to its best hardly moves"),
    "memorised_share": Margin(0.5, "share of the plan", "generalisation may come late"),
    "same_samples": Margin(2.0, "times", "dropout and rounding do not double a loss"),
    "metric_correlation": Margin(
        0.5, "rank correlation", "TheDeepChecker: loss and metric must move together"
    ),
    # weight maps and features
    "map_attenuation": Margin(
        0.2, "mean after / before", "divided by a maximum over 5; a healthy map keeps most of it"
    ),
    "map_top": Margin(0.01, "weight", "divided by its largest value, a map has a maximum of 1"),
    "map_support": Margin(0.01, "share of pixels", "a map that looks at a hundredth of the scene"),
    "map_evaluations": Margin(2, "evaluations", "a mean over the whole map is hardly noisy"),
    "bound_slack": Margin(1e-3, "times the bound", "rounding of float32 sums"),
    "energy_loss": Margin(0.5, "energy kept", "more than half of the features' energy is gone"),
    "energy_severe": Margin(0.1, "energy kept", "nine tenths are gone"),
    # representations and several losses
    "forgotten_points": Margin(0.05, "skill", "five points of accuracy on the reference task"),
    "forgotten_share": Margin(0.25, "share of the skill", "for reference tasks with little skill"),
    "forgotten_window": Margin(0.1, "share of the plan", "sudden: slow change may be adaptation"),
    "drift_cka": Margin(0.5, "CKA", "half of the representation's geometry is another one"),
    "conflict_cosine": Margin(-0.1, "cosine", "random directions scatter around 0, not below"),
    "domination_ratio": Margin(10.0, "ratio of norms", "the smaller gradient hardly turns the sum"),
    "feature_shrunk": Margin(0.1, "share of the start", "what is left is a tenth of the signal"),
    "rank_share": Margin(0.1, "share of the rank at start", "nine of ten directions are gone"),
    "rank_least": Margin(1.5, "directions", "all features move along one line"),
    "part_fallen": Margin(0.25, "share of the start", "a loss that fell so far has learnt"),
    "lost_classes": Margin(0.25, "share of classes", "one rare class may be hopeless"),
    # the machine under a trial
    "machine_evaluations": Margin(12, "evaluations", "enough for three in each quarter"),
    "machine_seconds": Margin(60.0, "s", "a minute, over which other programs' bursts even out"),
    "machine_trend_p": Margin(1e-3, "p-value", "of the trend test; load on a machine is noisy"),
    "throughput_ratio": Margin(1.5, "times as long", "a run that ends a third slower than planned"),
    "memory_growth": Margin(0.2, "share", "the rest of the plan would often not fit"),
    "slow_input": Margin(0.3, "share of time", "without waiting 43 % more steps could be taken"),
    "idle_gpu": Margin(0.3, "share of time", "three such trials could share the GPU"),
    "label_agreement": Margin(0.5, "share", "more of the labels are wrong than right"),
    # whole sweeps
    "sweep_configs": Margin(5, "configurations", "fewer may all be wrong by chance"),
    "oscillation_gap": Margin(0.03, "accuracy", "AutoTrainer: a swing of three points"),
    "oscillation_share": Margin(0.2, "share of evaluations", "AutoTrainer: in a fifth of them"),
}

MARGINS: Mapping[str, Margin] = MappingProxyType(_TABLE)


def margin(name: str) -> float:
    """Look up the value of a margin; an unknown name is a mistake of ours."""
    assert name in MARGINS, f"no margin is called {name!r}"
    return MARGINS[name].value


def whole(name: str) -> int:
    """Look up the value of a margin that counts something."""
    return int(margin(name))
