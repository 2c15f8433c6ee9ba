"""For people who build an index of the network: exactly what is, and then each change of it.

    for batch in Index(kafka, ["app.bsky.feed.post"], stored_positions).batches():
        with transaction_of_the_index():
            for change in batch: ...                # Put, Delete, AccountChanged
            store(batch.positions)

The index itself has the positions, in the transaction of what they are for. So a crash at any
moment neither loses a change nor makes one twice.

What an index has to do with a change so that it ends up as what is:

    Put             take the record over, where `replaces` says so of the revision it has
    Delete          remove the record, where `replaces` says so
    AccountChanged  keep it; a record is shown where its account's `shows` says so of its revision.
                    An account that was never heard of is shown.

`changes` and `positions` have the details; `examples.posts` and `examples.followers` are whole
programs.
"""

from pipelines.consume.assembly import Batch
from pipelines.consume.changes import AccountChanged, Change, Delete, Put, Sync
from pipelines.consume.index import Index
from pipelines.consume.positions import Position
from pipelines.errors import RebuildRequiredError

__all__ = [
    "AccountChanged",
    "Batch",
    "Change",
    "Delete",
    "Index",
    "Position",
    "Put",
    "RebuildRequiredError",
    "Sync",
]
