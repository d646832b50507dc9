"""System 2: street scenes seen by a camera and a lidar."""
