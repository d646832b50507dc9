"""Training logs that Sickbay did not write: judged, one or many.

    judge         a log and what the user knows about it -> a judgement, also as plain data
    options       what the user knows: flags, the sidecar NAME.facts.yaml, a log's first line
    facts         the task's facts: stated, read off the log, or assumed and said so
    log_findings  what only the records show: a loss that repeats itself number for number
    many          many files and folders, in a pool of processes
    screen        judgements for a person

The readers are `trials/log_files` and `trials/logs`.
"""
