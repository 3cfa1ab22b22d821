"""A suite's files: find them, list them, load them, and write a first one."""
