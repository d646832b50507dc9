"""Fine-tuning: an encoder that knows four classes learns to tell five others.

N samples
"""

from torch import Tensor

from docs.tools.corpus.tasks.classes import class_task
from docs.tools.corpus.tasks.shared import (
    INPUTS,
    hidden_reference,
    pretrain,
    reference_signals,
    world,
)
from docs.tools.corpus.training.nets import Net, perceptron
from docs.tools.corpus.training.settings import Settings
from docs.tools.corpus.training.task import Data, Signals, splits, total

CLASSES = 5


def largest_cause(settings: Settings, seed: int) -> Data:
    """Which of the five causes after the first is the largest."""
    x, hidden = world(total(settings), seed, settings.noise)
    return splits(settings.signal * x, hidden[:, 1:].argmax(1), settings)


def tuning_watch(net: Net, data: Data, settings: Settings, memory: dict[str, Tensor]) -> Signals:
    """What is left of the reference skill."""
    return reference_signals(net, memory)


FINE_TUNED = class_task(
    "fine_tuned",
    settings=Settings(n_train=600, n_val=300, n_test=2000, batch=100, noise=0.1, lr=3e-3),
    data=largest_cause,
    build=lambda settings: perceptron(INPUTS, CLASSES, settings),
    classes=CLASSES,
    watch=tuning_watch,
    prepare=pretrain,
    kept=hidden_reference,
    epochs=20,
)
