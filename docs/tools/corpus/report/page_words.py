"""What `docs/benchmark.md` says in words."""

from collections.abc import Mapping
from typing import Any

NOTES = """## What these figures do not say

- A run that is *worse* than its controls yet has skill shows nothing in its own history that a
  healthy run of a harder task would not show: its recall stands apart, and is low by nature.
- A leak from labels to inputs that validation shares is seen by no detector: the corpus has none.
- A graph that does not reach a group of parameters looks like one frozen on purpose: in both the
  group has no gradient. It would take a signal that tells whether a group asks for one.
- Forgetting is judged by the reference task alone. An encoder that forgets and serves its new task
  the better is healthy by its outcome, and called ill: most false alarms and false stops of the
  held-out tasks are such runs.
- Labels that change, and scores that rank well under a loss as bad as a constant's, are warnings,
  not alarms: by their outcome such runs are healthy. Who needs the probabilities reads the warning.
- Tasks are tiny (seconds on one core) and have full telemetry; 40 evaluations a run, so that the
  granted ten evaluations are a quarter of the budget: no verdict about skill comes before that,
  but for runs whose parameters provably stand still (five). Hence the median latency.
- The operators were written with the catalogue at hand, though before any result: faults that
  nobody thought of are not in it."""


def earlier(frozen: Mapping[str, Any]) -> str:
    """Say which freezes came before: their held-out figures were known when rules changed."""
    told = [
        f"`{one['labeller_version']}` ({one['frozen_at']}; "
        + ", ".join(f"{task} {n}" for task, n in one.get("held_out_runs", {}).items())
        + f" runs{'; since then ' * ('since' in one)}{one.get('since', '')})"
        for one in frozen.get("earlier", ())
    ]
    if not told:
        return ""
    return (
        f"\n\nIt is not the first freeze: the held-out tasks were judged before under "
        f"{', '.join(told)}. The figures of that page and its list of misses were known when the "
        f"rules were changed since, on the calibration tasks alone; so the held-out column is no "
        f"longer quite blind. Tasks that had hardly been judged have a column of their own."
    )
