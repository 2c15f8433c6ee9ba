"""One partition of `identities` on disk, as a worker needs it: the newest entry of each account.

    m          what the store is and how far it has come (JSON)
    i<did>     the message value of the newest entry

There is one way in, the topic: also what this worker learned comes back from there. A store so is
never wrong, only behind, and may be deleted at any time.
"""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from rocksdict import WriteBatch

from pipelines.atproto.syntax import Did
from pipelines.identity.entries import IdentityEntry, parse_entry
from pipelines.kafka.copies import CopyMeta
from pipelines.kafka.messages import InputMessage
from pipelines.rocks import open_rocks, put, put_meta

# Raised when the layout changes: a store of another format is built anew.
FORMAT = 1

_IDENTITY = b"i"


class IdentityStore:
    """An open store.

    Attributes:
        meta: as it was last written; None for a store without any content.
    """

    def __init__(self, folder: Path) -> None:
        """Opens a store, or makes an empty one.

        Args:
            folder: where it is; nobody else may have it open.

        Raises:
            StoreError: there is one that cannot be read.
        """
        self._rocks, self.meta = open_rocks(folder, FORMAT, lambda members: CopyMeta(**members))

    def close(self) -> None:
        """Closes the store."""
        self._rocks.close()

    def get(self, did: Did) -> IdentityEntry | None:
        """Returns what the topic says of an account."""
        value = self._rocks.get(_IDENTITY + did.encode())
        return None if value is None else parse_entry(value)

    def take(self, messages: Iterable[InputMessage], meta: CopyMeta) -> list[IdentityEntry]:
        """Takes messages of the topic in, in their order; of each account the newest entry stays.

        Args:
            messages: of this partition.
            meta: how far the store has come with them.

        Returns:
            The entries that were new.
        """
        batch = WriteBatch(raw_mode=True)
        newest: dict[bytes, IdentityEntry | None] = {}
        for message in messages:
            assert message.key is not None
            key = _IDENTITY + message.key
            if message.value is None:
                newest[key] = None
                put(batch, key, None)
                continue
            entry = parse_entry(message.value)
            if entry.supersedes(newest[key] if key in newest else self.get(entry.did)):
                newest[key] = entry
                put(batch, key, message.value)
        put_meta(batch, FORMAT, asdict(meta))
        self._rocks.write(batch)
        self.meta = meta
        return [entry for entry in newest.values() if entry is not None]
