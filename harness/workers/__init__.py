"""Processes that run a suite's code, on this machine and on a cluster."""

import logging

logging.getLogger("harness").addHandler(logging.NullHandler())
