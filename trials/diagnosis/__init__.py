"""From a history to a label: detectors and the judge, and one primary cause."""
