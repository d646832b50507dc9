"""Evidence from a history: thresholds, statistics, skill, classes, layers, features."""
