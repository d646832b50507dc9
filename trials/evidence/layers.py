"""Evidence about the layers of a net, shared by detectors."""

import numpy as np

from sickbay.trials.evidence.classes import metric_skill, skill_on_its_way
from sickbay.trials.evidence.skill import skill_gone_since
from sickbay.trials.evidence.statistics import BoolArray, FloatArray, persistent
from sickbay.trials.history import History


def lasting_no_skill(history: History) -> bool:
    """Whether the validation loss proves that there is no skill, and none is developing.

    Scores that rank well are skill, whatever the loss says.
    """
    if metric_skill(history) or skill_gone_since(history) is None:
        return False
    loss = history.column("train_loss" if history.has("train_loss") else "val_loss")
    return skill_on_its_way(history, loss) is None


def layer_words(layer: int, layers: int) -> str:
    """Name one of several watched layers in the order from input to output: "layer 2 of 5"."""
    return "the net" if layers == 1 else f"layer {layer + 1} of {layers}"


def held_since(
    values: FloatArray, enter: BoolArray, leave: BoolArray, recorded: BoolArray, k: int
) -> int | None:
    """Index since which a state holds, by the evaluations that recorded the signal; or None.

    Layers are expensive to measure, and may be measured less often than there are evaluations. NaN
    that was recorded closes a run, as in `persistent`.
    """
    places = np.flatnonzero(recorded)
    index = persistent(enter[places], leave[places], np.isnan(values[places]), k)
    return None if index is None else int(places[index])
