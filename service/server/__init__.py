"""Infrastructure of the API: connections, tokens, errors, limits, threads for blocking work."""
