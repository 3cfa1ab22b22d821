"""The commands, from a spec to what each leaves."""
