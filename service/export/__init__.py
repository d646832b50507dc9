"""A sweep's tables and trials for other programs: files and trackers."""
