"""Statistics of paired trials, arrays in, frozen values out; independent of stores and factors.

`estimates` averages differences with intervals, `shares` compares counts of healthy trials,
`moderated` shares noise among the levels of a table, `power` says what a design can detect.
"""

ALPHA = 0.05  # chance of any false alarm in a table; intervals are at 1 - ALPHA
FEWEST_SEEDS = 3  # with two an interval is 13 standard errors wide to each side
