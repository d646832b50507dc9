"""System 1: point clouds that may face K ways, synthetic or from files."""
