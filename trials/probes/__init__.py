"""Torch measurements for any training loop. They only read: weights stay bit-identical.

probe = Probe(model)                     # everything, in three lines of a loop
steps = StepProbe(groups)                # the optimisation alone, its two calls placed by hand
"""

from sickbay.trials.probes.probe import Probe
from sickbay.trials.probes.steps import SAMPLE_EVERY, StepProbe

__all__ = ["SAMPLE_EVERY", "Probe", "StepProbe"]
