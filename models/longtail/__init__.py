"""System 5: an encoder, a classifier head and a diffusion model on long-tailed classes."""
