"""Seeded generators and real-format loaders, one file a system."""
