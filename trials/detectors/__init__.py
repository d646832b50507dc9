"""One detector a file: a pure function from a history to a finding."""
