"""What `docs/benchmark.md` says in words."""

from collections.abc import Mapping
from typing import Any

LEVELS = """Every run is judged at three levels of telemetry (`telemetry.py`): `probe`, every signal
that our workloads record, and every fact; `ordinary`, what an ordinary script logs (losses,
accuracy, AUROC, the global gradient norm) with what a user can state (kind of task, class counts,
the floor, the number of validation samples, the planned epochs); `bare`, losses and accuracy, and
no fact but the kind of task and the planned epochs. A figure without its level means little."""

NOTES = """## What these figures do not say

- A run that is *worse* than its controls yet has skill shows nothing in its own history that a
  healthy run of a harder task would not show: its recall is a row of its own, low by nature.
  `standing` compares it with its siblings (`report/siblings.py`): each operator of a task is a
  sweep whose baseline arm has five seeds.
- No detector can see a leak that the validation split shares: `swapped_splits-2` validates on the
  training data. Its false `healthy` labels are counted.
- A graph that does not reach a group of parameters looks like one frozen on purpose: in both the
  group has no gradient. Telling them apart would take a signal of `requires_grad`.
- Forgetting is judged by the reference task alone. An encoder that forgets but serves its new
  task better is healthy by its outcome, and may still be called pathological.
- A loss that no proper loss can reach (`forgotten_logarithm`) may still train a good model: by its
  outcome such a run is healthy, and calling it pathological counts as a false alarm.
- Labels that change, and scores that rank well under a loss as bad as a constant's, are warnings,
  not alarms: by their outcome such runs are healthy. Heed them if you need the probabilities.
- Tasks are tiny: seconds on one core, 8 to 200 evaluations, 20 to 10,000 validation samples.
- Packages and rules that read every step get one row per evaluation here, as in a user's log.
- The operators were written with the catalogue of detectors at hand, though before any result:
  faults that we did not think of are missing."""


def earlier(frozen: Mapping[str, Any]) -> str:
    """Say which freezes came before: their held-out figures were known when rules changed."""
    before = [
        f"`{freeze['labeller_version']}` ({freeze['frozen_at']}; "
        + ", ".join(f"{task} {n}" for task, n in freeze.get("held_out_runs", {}).items())
        + " runs)"
        for freeze in frozen.get("earlier", ())
    ]
    if not before:
        return ""
    return (
        "\n\nThis is not the first freeze. Earlier labellers were judged on held-out tasks of "
        f"their own, and their figures were known when rules changed later: {', '.join(before)}. "
        "Those tasks are calibration tasks now."
    )
