"""A sweep summarised, as values and as text, before anything is drawn."""
