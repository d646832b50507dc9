"""From a history to a label: detectors are asked, one primary cause is named."""
