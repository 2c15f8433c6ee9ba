"""One thing looked at closely: what it says, and each check with its result.

    report.py   facts, checks and results, of which every report is made
    frames.py   a websocket message
    cars.py     a CAR file: a whole repository, or what a commit brought
    values.py   a record, a TID, a CID, a key
    tree.py     a Merkle search tree as a picture in text

Bytes and values in, a report out: the command line reads and prints (`pipelines.cli.inspect`).
Nothing is checked here in a way of its own. The checks are those of `pipelines.atproto`, told
apart by the reasons that they give.
"""
