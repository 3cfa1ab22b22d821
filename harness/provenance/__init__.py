"""What a result depends on: code, data, versions and the machine."""
