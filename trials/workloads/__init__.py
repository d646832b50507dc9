"""The built-in systems, one file each: a model, a dataset, a loss and factors, bound together."""
