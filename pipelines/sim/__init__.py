"""A small AT network on loopback: relay socket, PLC directory, did:web host and repositories.

    network.py    a capture folder → one value
    emission.py   which frames exist now, and where a cursor starts
    relay.py      com.atproto.sync.subscribeRepos
    directory.py  PLC directory and did:web documents
    repos.py      com.atproto.sync.getRepo and its relatives
    state.py      what the handlers share
    app.py        all of it as one web application, with status and faults
    service.py    the running server

It serves what was captured, byte for byte, and proves nothing. It listens on loopback only.
"""
