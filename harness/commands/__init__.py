"""What each command does, from a spec to what it leaves."""
