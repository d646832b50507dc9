"""Torch modules, one subpackage a system."""
