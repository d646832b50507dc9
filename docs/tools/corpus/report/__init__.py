"""Judging the corpus, and what `docs/benchmark.md` shows of it."""
