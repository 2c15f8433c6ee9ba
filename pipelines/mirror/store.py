"""What the import of a directory remembers: of each DID what an operation to come depends on.

    m               what the store is, and how far it has come (JSON)
    c<24 characters of the DID>     the chain of its operations (`pipelines.mirror.chains`)

A chain is pruned: of an account at rest it has the last operation and the one before, 110 bytes
for each with two rotation keys, and of an account that just changed as many as it made in the
last 72 hours. Most share the keys of their host, so RocksDB compresses a DID to some 93 bytes (a
million of them, half with one operation, half with two): 4 GB for the network's 43 million.

Chains and the position that they belong to are written in one batch, after their identities are in
Kafka. A crash so leaves a store that is a little behind: what is read again gives the same
messages. The store cannot be made from the topic: without it the import starts from the beginning.

Memory: `MEMTABLE_BYTES` and `BLOCK_CACHE_BYTES` of `pipelines.rocks`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from rocksdict import WriteBatch

from pipelines.atproto.syntax import Did
from pipelines.identity.plc import Chain
from pipelines.mirror.chains import decode_chain, encode_chain
from pipelines.mirror.export import FIRST
from pipelines.rocks import open_rocks, put, put_meta

# Raised when the layout changes.
FORMAT: Final = 1

_CHAIN: Final = b"c"
_DID_PREFIX: Final = "did:plc:"


@dataclass(frozen=True, slots=True)
class Meta:
    """What a store is, and how far it has come.

    Attributes:
        directory: base URL of the directory whose operations it has.
        topic_id: Kafka's id of the topic that has the identities: one made anew has another.
        position: in the export; everything up to it is done.
        operations_count: valid operations so far.
    """

    directory: str
    topic_id: str
    position: str = FIRST
    operations_count: int = 0


class Store:
    """An open store.

    Attributes:
        meta: as it was last written; None for an empty store.
    """

    def __init__(self, folder: Path) -> None:
        """Opens a store, or makes an empty one.

        Args:
            folder: where it is; nobody else may have it open.

        Raises:
            StoreError: there is one that cannot be read.
        """
        self._db, self.meta = open_rocks(folder, FORMAT, lambda members: Meta(**members))

    def close(self) -> None:
        """Closes the store."""
        self._db.close()

    def chain(self, did: Did) -> Chain:
        """Returns what stands of a DID; nothing for one that is not known."""
        raw = self._db.get(_key(did))
        return () if raw is None else decode_chain(raw)

    def write(self, chains: Mapping[Did, Chain], meta: Meta) -> None:
        """Writes chains and the position that they belong to, all or nothing."""
        batch = WriteBatch(raw_mode=True)
        for did, chain in chains.items():
            put(batch, _key(did), encode_chain(chain))
        put_meta(batch, FORMAT, asdict(meta))
        self._db.write(batch)
        self.meta = meta


def _key(did: Did) -> bytes:
    return _CHAIN + did.removeprefix(_DID_PREFIX).encode()
