"""Planned trials on Ray Tune: a few long-lived Tune trials, the lanes, run one after another.

`run.run_jobs` is what callers use. `dispenser` is the queue of jobs, an actor that every lane asks
for its next one; `lane` is the worker, `board` the driver's side of the queue, which outlives it.
"""
