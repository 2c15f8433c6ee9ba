"""Standpipe: from the AT network's firehose to proven records in Kafka topics.

`pipelines.atproto` is a library by itself; the other packages are the stages of the
pipeline and what they share. ARCHITECTURE.md is the tour.
"""
