"""Settings of Hypothesis for all property tests."""

from hypothesis import settings

# No time limit for an example: on a busy machine it would fail what is right.
settings.register_profile("standpipe", deadline=None)
settings.load_profile("standpipe")
