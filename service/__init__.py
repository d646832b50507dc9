"""Everything a person or a client touches."""
