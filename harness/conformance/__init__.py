"""Tests of a suite's optimizers, objectives and datasets."""
