"""What each built-in system declares: settings, factors, objective. Nothing here loads torch."""
