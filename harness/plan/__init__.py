"""From a spec to trials with stable ids."""
