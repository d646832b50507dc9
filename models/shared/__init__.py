"""What several systems share: metrics, reference lines, precision, compilation, pretraining."""
