"""System 1: a mixture of von Mises over the orientation of a point cloud."""
