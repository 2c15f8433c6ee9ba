"""A small AT network on loopback: relay socket, PLC directory, did:web host and repositories.

    ports.py       what the handlers need of a network
    network.py     a captured one: a capture folder → one value
    emission.py      which of its frames exist now, and where a cursor starts
    generated.py   a generated one
    mix.py           what it follows from
    generator.py     its events, one after the other
    troubles.py      what goes wrong
    telling.py       what is told of accounts, and what is not
    authors.py       what accounts write; content.py makes the records
    identities.py    their PLC operations and documents
    clock.py         its time
    events.py        an event: the frame, and the truth about it
    messages.py      how frames are encoded
    stream.py        frames prepared ahead, emitted, kept for a while
    truth.py         what really happened up to the last emitted frame
    relay.py       com.atproto.sync.subscribeRepos
    directory.py   PLC directory and did:web documents
    export.py      the export of the PLC directory
    hosts.py       the relay and the PDSes as they answer over HTTP, with their faults
    repos.py         com.atproto.sync.getRepo and its relatives
    listings.py      listRepos, listHosts, listReposByCollection
    state.py       what the handlers share
    app.py         all of it as one web application, with status, truth and faults
    service.py     the running server

A capture is served byte for byte, and nothing in it is proven. It listens on loopback only.
"""
