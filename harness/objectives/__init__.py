"""Objectives that ship with the harness, one file each."""
