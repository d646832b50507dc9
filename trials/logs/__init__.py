"""Training logs of any program: files and printed lines to records, records to rows of signals."""
