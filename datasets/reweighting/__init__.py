"""System 4: drives seen by a lidar and by cameras all around."""
