"""Torch modules, one file a system."""
