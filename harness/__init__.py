"""A declarative harness that compares optimizers."""

__version__ = "0.1.0"
