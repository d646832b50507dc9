"""What a `Probe` costs of training: `python tests/benchmarks/bench_probe.py [EPOCHS]`.

Two loops train the same net of a million parameters in turn, epoch by epoch: one with the default
probe, one with everything on (layers, labels, classes, two losses). Every call into the probe is
timed, and its share is of the rest of the same epoch: so a busy machine slows both. (Only the hook
at the logits runs inside `backward` and counts as training.) Exit code 1 if a share is too large.
"""

import copy
import gc
import statistics
import sys
import time
from collections.abc import Callable

import torch
from figures import Figure, tell
from torch import Tensor, nn

from sickbay.trials.probes import Probe

STEPS, BATCH, EPOCHS = 100, 64, 12  # steps an evaluation; the first epoch warms up
DEFAULT, ALL = 0.02, 0.05


class Net(nn.Module):
    """Three layers of a million parameters, two heads on shared features."""

    def __init__(self) -> None:
        """Build it."""
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(256, 1024), nn.ReLU(), nn.Linear(1024, 640), nn.ReLU(), nn.Linear(640, 128)
        )
        self.act = nn.Tanh()
        self.head, self.side = nn.Linear(128, 10), nn.Linear(128, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits, a regression, and the features that both stand on."""
        features = self.act(self.body(x))
        return self.head(features), self.side(features), features


def loop(model: Net, probe: Probe, full: bool) -> Callable[[Tensor, Tensor], tuple[float, float]]:
    """Make a function that trains one epoch and gives back its seconds, and those of the probe."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    ids = list(range(STEPS * BATCH))
    clock = time.process_time

    def epoch(x: Tensor, y: Tensor) -> tuple[float, float]:
        begun, spent = clock(), 0.0
        for step in range(STEPS):
            part = slice(step * BATCH, (step + 1) * BATCH)
            optimizer.zero_grad()
            logits, value, features = model(x[part])
            main = nn.functional.cross_entropy(logits, y[part])
            side = value.square().mean()
            if full:
                start = clock()
                losses = {"main": main, "side": side}
                probe.before(
                    logits=logits, targets=y[part], ids=ids[part], losses=losses, shared=features
                )
                spent += clock() - start
            loss = main + side
            loss.backward()
            start = clock()
            probe.step(loss)
            spent += clock() - start
            optimizer.step()
        start = clock()
        probe.evaluation()
        spent += clock() - start
        return clock() - begun - spent, spent

    return epoch


def main() -> int:
    """Measure, print, judge."""
    epochs = int(sys.argv[1]) if len(sys.argv) > 1 else EPOCHS
    torch.set_num_threads(1)
    torch.manual_seed(0)
    x, y = torch.randn(STEPS * BATCH, 256), torch.randint(0, 10, (STEPS * BATCH,))
    start = Net()
    size = sum(parameter.numel() for parameter in start.parameters())
    loops = []
    for full in (False, True):
        model = copy.deepcopy(start)
        loops.append(loop(model, Probe(model, batch=x[:256] if full else None), full))
    shares: list[list[float]] = [[], []]
    plain = []
    for number in range(epochs):
        gc.collect()
        for index, train in enumerate(loops):
            seconds, spent = train(x, y)
            if number >= 1:
                plain.append(seconds)
                shares[index].append(spent / seconds)
    default, everything = map(statistics.median, shares)
    print(
        f"{size} parameters, batches of {BATCH}, {STEPS} steps an evaluation, {epochs - 1} epochs"
    )
    print(f"a step without the probe: {1e3 * statistics.median(plain) / STEPS:.2f} ms")
    return tell(
        [
            Figure("the default probe adds to training", 100 * default, "%", 100 * DEFAULT),
            Figure("a probe of everything adds", 100 * everything, "%", 100 * ALL),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
