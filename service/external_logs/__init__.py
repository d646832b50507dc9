"""Training logs that Sickbay did not make: read, matched to signals, judged."""
