"""System 2: a scene classifier from a camera image and lidar points."""
