"""How trials run: one in this process, many on Ray, under one driver's lease; and relabelling."""
