"""Conclude from stored results: statistics on arrays and frames, no pictures, no sentences."""
