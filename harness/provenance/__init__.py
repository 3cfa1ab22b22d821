"""The origin of a result: code, data, versions and the machine."""
