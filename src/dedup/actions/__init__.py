"""Actions on a result: the difference of two runs, and the plan of a merge."""
