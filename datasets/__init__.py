"""Seeded generators and real-format loaders, one subpackage a system."""
