"""Train the judge on the fault corpus: `python -m docs.tools.judge` (see `__main__.py`)."""
