"""What asks for whole repositories: backfill, the sweep after a gap, and redrive.

All three find out which repositories are wanted and write a request for each into `resyncs`; who
fetches and proves them is another stage.
"""
