"""Searches on Optuna: its samplers, and one that looks for the boundary of healthy training."""
