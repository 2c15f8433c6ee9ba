"""History once more: a window of what topics hold, to where somebody wants it.

    topics ─► window ─► order ─► selection ─► blocks ─► file, standard output

Nothing here takes part in a group of the pipeline: partitions are assigned by hand, and no
position of a stage is ever read or moved.
"""
