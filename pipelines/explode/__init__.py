"""Explode: stateless workers that prove each frame and publish its event and records."""
