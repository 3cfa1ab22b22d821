"""The ranges of seeds."""

SEED_LIMIT = 2**30 - 1
"""Seeds are below this, so that each stream of random numbers has a seed of its own."""

TORCH_STREAM, NUMPY_STREAM = 2**31, 3 * 2**30
"""The first seeds of the global generators. Below them are those of a trial's own."""

FIRST_TUNING_SEED = 2**29
"""The first of tuning's seeds, unless they are listed: beyond any count of reporting seeds."""

FIRST_FINALIST_SEED = 3 * 2**28
"""The first of the seeds with which tuning tries its finalists again, unless they are listed."""
