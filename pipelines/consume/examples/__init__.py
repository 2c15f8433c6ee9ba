"""Whole programs that build an index with `pipelines.consume`, to read and to begin with."""
