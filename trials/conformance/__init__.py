"""The contract as a test, for third-party workloads and detectors as well as our own.

from sickbay.trials.conformance import check_detector, check_workload

print(check_workload(WORKLOAD, {"epochs": 3}))
print(check_detector(detect))
"""

from sickbay.trials.conformance.detector import check_detector
from sickbay.trials.conformance.report import ConformanceError, ConformanceReport
from sickbay.trials.conformance.workload import check_workload

__all__ = ["ConformanceError", "ConformanceReport", "check_detector", "check_workload"]
