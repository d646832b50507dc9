"""System 3: an anomaly score for each lidar point."""
