"""Statistics of paired trials: estimates of differences, shares, families of tests, power.

`estimates` averages differences with intervals, `shares` compares counts of healthy trials,
`moderated` lets the levels of a table share what they show of the noise, `power` says what a design
can detect. Arrays in, frozen values out; nothing here knows a store, a label or a factor.
"""

ALPHA = 0.05  # chance of any false alarm in a table; intervals are at 1 - ALPHA
FEWEST_SEEDS = 3  # with two an interval is 13 standard errors wide to each side
