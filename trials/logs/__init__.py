"""Training logs that Sickbay did not write, as evaluations of a history.

    log           the values: raw rows, records of numbers, the error of a bad log
    cells         one cell as a number
    signal_names  a log's names -> the signals that detectors read
    records       raw rows -> records: splits, gaps, vectors, runs appended to one another
    evaluations   records -> the evaluations of a history, and where in the log each lies
    derived       what follows from others: a loss from its terms or a perplexity
    reading       records -> evaluations, all of the above in one go
    facts         what a person states about the task

The files themselves are read in `trials/log_files`.
"""
