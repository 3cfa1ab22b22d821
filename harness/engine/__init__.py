"""Train trials: the loop, and how many trials share one step."""
