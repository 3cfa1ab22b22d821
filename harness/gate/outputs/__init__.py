"""The findings of a check, as text for people and for CI.

Names come from the user and may hold anything; what can't be printed is escaped as in a Python
string, so that no text spills into a line, a cell or a tag that isn't its own.
"""
