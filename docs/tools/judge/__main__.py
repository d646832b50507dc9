"""`python -m docs.tools.judge`: train the judge anew and store its tables in the package.

Everything is chosen by leave-one-task-out over the calibration tasks of the corpus: each task's
runs are judged by a model that has seen the other tasks alone. The stored model is then fitted to
all of them. The held-out tasks take no part.
"""

import argparse
import json
import pickle
from pathlib import Path

from docs.tools.corpus.faults import CALIBRATION
from docs.tools.judge.examples import Examples, examples_of
from docs.tools.judge.training import train
from sickbay.trials.diagnosis.judge import STORED


def main() -> None:
    """Train and store."""
    parser = argparse.ArgumentParser(prog="python -m docs.tools.judge")
    parser.add_argument("--keep", type=Path, default=None, help="keeps statistics between calls")
    parser.add_argument("--out", type=Path, default=STORED, help="where the tables are written")
    asked = parser.parse_args()
    tables = {}
    for name, examples in sorted(kept_examples(asked.keep).items()):
        tables[name], report = train(examples)
        print(f"{name}\n{report}\n")
    asked.out.write_text(json.dumps({"version": 2, "tables": tables}, indent=1) + "\n")


def kept_examples(keep: Path | None) -> dict[str, Examples]:
    """Work out the examples, or read back what an earlier call kept."""
    if keep is not None and keep.exists():
        known: dict[str, Examples] = pickle.loads(keep.read_bytes())
        return known
    examples = examples_of(CALIBRATION)
    if keep is not None:
        keep.write_bytes(pickle.dumps(examples))
    return examples


if __name__ == "__main__":
    main()
