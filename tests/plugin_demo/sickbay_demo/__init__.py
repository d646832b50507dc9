"""A plugin of Sickbay in two files: a workload (`task`) and a detector (`alarm`)."""
