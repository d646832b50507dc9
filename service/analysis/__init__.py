"""What the factors do: outcomes, effects, interactions, importance, fixes, comparisons."""
