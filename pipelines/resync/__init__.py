"""Resync: repositories that were asked for are fetched, proven, and published as snapshots.

jobs.py        what is asked for and not done, and its form in the topic `repairs`
schedule.py    which job is next: due times, pauses, limits in all and of each host
spool.py       a proven repository on its way from its host to Kafka, on the disk
downloads.py   look-ups and downloads, in a thread of their own
delivery.py    from what was downloaded to messages, slice by slice
stage.py       all of it as a stage of the loop
service.py     and as a process
"""
