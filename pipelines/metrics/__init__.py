"""Numbers for Prometheus: what they are called and mean, and where they can be read."""
