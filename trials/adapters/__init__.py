"""Callbacks for training loops that belong to others: Lightning, Hugging Face, Keras."""
