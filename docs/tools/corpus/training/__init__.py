"""How a small task of the corpus is trained: its settings, nets, faults and the one loop."""
