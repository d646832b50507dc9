"""Reads a stored sweep as rows and makes them comparable.

`load` reads trials and factors; `comparable` joins factors that always change together, turns
losses of different definitions into skill, and counts the copies of an unwired seed once;
`reference` chooses the arm that all others are compared with; `pairs` pairs trials by seed.
"""
