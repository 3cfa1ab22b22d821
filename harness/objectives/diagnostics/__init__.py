"""Diagnostic tasks: each asks one thing of an optimizer, in several difficulties."""
