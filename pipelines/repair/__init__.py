"""What the stages that repair say to each other: the messages of `resyncs`, `chunks`, `snapshots`.

    requests.py     a repository is asked for
    chunks.py       some of its records as its server had them
    manifests.py    the answer: which chunks hold the repository, or that there is none

Pure. Whoever finds that something is missing writes a request; resync fetches and proves, and
writes chunks and a manifest; compact applies them.
"""
