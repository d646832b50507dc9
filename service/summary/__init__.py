"""A sweep summarised, as values and in words, before anything is drawn."""
