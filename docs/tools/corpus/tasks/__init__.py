"""The tasks of the corpus, by family."""
