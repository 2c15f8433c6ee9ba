"""One partition of `identities` on disk, as a worker needs it: the newest entry of each account.

    m          what the store is and how far it has come (JSON)
    i<did>     the message value of the newest entry

There is one way in, the topic: also what this worker learned comes back from there. A store so is
never wrong, only behind, and may be deleted at any time.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import orjson
from rocksdict import WriteBatch

from pipelines.atproto.syntax import Did
from pipelines.identity.entries import IdentityEntry, parse_entry
from pipelines.kafka.messages import InputMessage
from pipelines.rocks import StoreError, open_rocks, put

# Raised when the layout changes: a store of another format is built anew.
FORMAT = 1

_META_KEY = b"m"
_IDENTITY = b"i"


@dataclass(slots=True)
class Meta:
    """What a store is, and how far it has come; see `pipelines.kafka.copies`.

    Attributes:
        topic_ids: the topic it was built from, by name.
        next_offsets: by topic, the offset after the last message that it reflects.
        written_ms: when it was last known to reflect it, milliseconds since the epoch.
        format: layout of the store.
    """

    topic_ids: dict[str, str]
    next_offsets: dict[str, int] = field(default_factory=dict)
    written_ms: int = 0
    format: int = FORMAT


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
        self._rocks, stored = open_rocks(folder, _META_KEY)
        self.meta: Meta | None = None if stored is None else _parse_meta(stored)

    def close(self) -> None:
        """Closes the store."""
        self._rocks.close()

    def get(self, did: Did) -> IdentityEntry | None:
        """Returns what the topic says of an account."""
        value = self._rocks.get(_IDENTITY + did.encode())
        return None if value is None else parse_entry(value)

    def take(self, messages: Iterable[InputMessage], meta: Meta) -> list[IdentityEntry]:
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
        batch.put(_META_KEY, orjson.dumps(asdict(meta)))
        self._rocks.write(batch)
        self.meta = meta
        return [entry for entry in newest.values() if entry is not None]


def _parse_meta(stored: bytes) -> Meta:
    try:
        meta = Meta(**orjson.loads(stored))
    except (TypeError, ValueError) as error:
        raise StoreError(f"the store does not say what it is: {error!r}") from None
    if meta.format != FORMAT:
        raise StoreError(f"the store has format {meta.format}, this version {FORMAT}")
    return meta
