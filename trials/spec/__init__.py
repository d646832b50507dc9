"""The sweep spec, which defines a sweep: `load_spec(path, registry.workload)` reports all problems.

It is `parse_spec`, which needs no workload, followed by `check_spec` against the workload.
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
