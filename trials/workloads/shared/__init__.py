"""What the five systems do alike with their data: where they lie, and what is kept of them."""
