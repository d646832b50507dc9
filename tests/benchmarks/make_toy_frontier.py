"""Write `data/toy_frontier.npz`: the verdicts of a dense grid of real trials of the toy.

24 x 24 trials over lr (1e-3 to 10, logarithmic) and momentum (0 to 0.9), at the centres of the
cells, seed 0, 8 epochs; `sick` is true where the verdict is pathological, `unsure` where it is
inconclusive. Takes some minutes: python tests/benchmarks/make_toy_frontier.py
"""

import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS / "support"), str(TESTS / "plugin_demo")]

import numpy as np  # noqa: E402 - found by the lines above
import toy_sweeps  # noqa: E402

SIDE = 24


def main() -> None:
    """Run the trials and write the file."""
    units = (np.arange(SIDE) + 0.5) / SIDE
    labels = np.empty((SIDE, SIDE), dtype="U16")
    with tempfile.TemporaryDirectory() as folder:
        for i, lr in enumerate(1e-3 * 1e4**units):
            for j, momentum in enumerate(0.9 * units):
                settings = {"lr": float(lr), "momentum": float(momentum), "epochs": 8}
                record = toy_sweeps.run(Path(folder) / f"s{i}-{j}", **settings)
                labels[i, j] = str(record.label.health)
    target = TESTS / "benchmarks" / "data" / "toy_frontier.npz"
    target.parent.mkdir(exist_ok=True)
    np.savez_compressed(target, sick=labels == "pathological", unsure=labels == "inconclusive")
    print({name: int((labels == name).sum()) for name in np.unique(labels)})


if __name__ == "__main__":
    main()
