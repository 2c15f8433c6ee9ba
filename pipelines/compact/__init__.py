"""The stage with state: events and snapshots → what each repository holds now.

    events.py     a message of `events` → one of five typed events
    state.py      what is known of a repository, as `repos` holds it
    reducer.py    state and event → new state, and the records that changed (pure)
    accounts.py   the status of an account, and what it does to its repository (pure)
    repair.py     state and the answer of a server → new state, and what waited (pure)
    merging.py    records of a snapshot against those that are held (pure)
    applying.py   snapshots in slices, between two batches
    outputs.py    state and records → messages of `repos` and `latest.*` (pure)
    store.py      one partition's state on disk
    held.py       the same with what is not committed yet on top
    restore.py    from the topics into the store
    audit.py      the records of a repository against its signed root
    sampling.py   audits of a running store, beside the work
    standing.py   a head against what the account's server says (pure); servers.py asks
    provenance.py a record against the frame or snapshot it comes from (pure); tracing.py reads it
    export.py     a repository as a CAR, made again from the topics
    writer.py     a change on its way out, and the request of what it breaks
    service.py    the stage, wired to Kafka

It judges what explode cannot: whether a proven commit follows the one before. Its inputs are
`events` and `snapshots`, with the chunks that they name; `repos` and `latest.*` are at once its
output and its memory.
"""
