"""Measure seconds per epoch, and what an optimizer does beside."""
