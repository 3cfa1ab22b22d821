"""From a YAML file to a checked spec, with the line and column of every mistake."""
