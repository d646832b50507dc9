"""System 4: a box detector whose queries weight the features that they look at."""
