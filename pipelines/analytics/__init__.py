"""Analytics: a Faust application over the record topics, and what others need to build theirs.

For a Faust application of your own: `records.Record`, the value type of the record topics, and
`transport.read_committed`. For reading the results: `reading.read_minutes`, which needs no Faust.
"""
