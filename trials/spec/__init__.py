"""The sweep spec, which defines a sweep. This module is its public interface.

    spec, workload = load_spec(Path("sweep.yaml"), registry.workload)    # every problem at once

or in two steps, `parse_spec` for the shape alone and `check_spec` against a workload. The parts:
`spec_text` reads YAML and JSON, `spec_model` holds the fields, `spec_shape` explains what is wrong
with them, `spec_check` compares with the workload, `problems` holds the errors.
"""

from sickbay.trials.errors import SpecError, SpecProblem
from sickbay.trials.spec.check import check_spec, load_spec
from sickbay.trials.spec.model import DESIGNS, SCHEDULERS, SweepSpec, spec_hash, spec_to_json
from sickbay.trials.spec.shape import parse_spec

__all__ = [
    "DESIGNS",
    "SCHEDULERS",
    "SpecError",
    "SpecProblem",
    "SweepSpec",
    "check_spec",
    "load_spec",
    "parse_spec",
    "spec_hash",
    "spec_to_json",
]
