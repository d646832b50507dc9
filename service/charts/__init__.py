"""What curves and pictures show, and how they are drawn."""
