"""System 3: lidar points of which few are anomalous."""
