"""The machine under a trial: what its evaluations cost (time, memory, GPU), and limits on time."""
