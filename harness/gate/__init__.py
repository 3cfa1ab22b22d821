"""Judge results against a baseline."""
