"""The fault corpus: small tasks, injected faults, truth by outcome, and what the detectors say.

`python -m tests.benchmarks.detectors generate|collect|freeze|evaluate` (see `__main__.py`).
"""
