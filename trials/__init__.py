"""The domain: what a trial is, how it runs, how it is judged."""
