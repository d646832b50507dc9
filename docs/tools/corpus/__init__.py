"""The fault corpus: small tasks, injected faults, truth by outcome, and what the detectors say.

`python -m docs.tools.corpus generate|collect|freeze|evaluate` (see `__main__.py`).
"""
