"""The machine under a trial: what it costs (time, memory, GPU, waiting), limits on its time."""
