"""What detectors read off a history: thresholds, statistics, skill, classes, layers, features."""
