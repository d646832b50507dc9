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
  healthy run of a harder task would not show: its recall stands apart, and is low by nature.
  `standing` sees it beside its siblings (`report/siblings.py`): each operator of a task is a sweep
  whose baseline arm has five seeds.
- A leak that validation shares is seen by no detector: `swapped_splits-2` validates on the training
  data themselves. Its false `healthy` labels are counted as they are.
- A graph that does not reach a group of parameters looks like one frozen on purpose: in both the
  group has no gradient. It would take a signal that tells whether a group asks for one.
- Forgetting is judged by the reference task alone. An encoder that forgets and serves its new task
  the better is healthy by its outcome, and may be called pathological.
- A loss that no proper loss can reach (`forgotten_logarithm`) may still train a good model: by its
  outcome such a run is healthy, and calling it pathological counts as a false alarm.
- Labels that change, and scores that rank well under a loss as bad as a constant's, are warnings,
  not alarms: by their outcome such runs are healthy. Who needs the probabilities reads the warning.
- Tasks are tiny: seconds on one core, 8 to 200 evaluations, 20 to 10,000 validation samples.
- Packages and rules that read every step have a row an evaluation here, as a user's log has.
- The operators were written with the catalogue at hand, though before any result: faults that
  were not thought of are not in it."""


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
        f"\n\nIt is not the first freeze. Earlier labellers were judged on held-out tasks of their "
        f"own, whose figures were known when the rules were changed since: {', '.join(before)}. "
        f"Held-out tasks that the last of them alone had judged have a table of their own."
    )
