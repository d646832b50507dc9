"""System 5: images of classes whose sizes fall exponentially."""
