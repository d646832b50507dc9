"""What stands around the API: connections, tokens, errors, limits, threads for work that waits."""
