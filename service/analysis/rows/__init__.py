"""A stored sweep as rows that can be compared: read, then made comparable.

`load` reads trials and factors; `comparable` joins factors that always change together, turns
losses of different definitions into skill, and counts the copies of an unwired seed once;
`reference` chooses the arm that all others are compared with; `pairs` pairs trials by seed.
"""
