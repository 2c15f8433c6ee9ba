"""Which messages of a window are wanted: by key, headers and timestamp, not by the value. Pure."""

from collections.abc import Collection
from dataclasses import dataclass

from pipelines.kafka.messages import InputMessage


@dataclass(frozen=True, slots=True)
class Selection:
    """What a message has to be; None for "whatever it is".

    Attributes:
        since_ms: not older, by its Kafka timestamp in milliseconds since 1970.
        until_ms: older.
        dids: of one of these accounts.
        collections: of one of these collections.
        host: brought by this upstream.
        first_seq: with this sequence number of the upstream, or a higher one.
        last_seq: with this one, or a lower one.
    """

    since_ms: int | None = None
    until_ms: int | None = None
    dids: Collection[bytes] | None = None
    collections: Collection[bytes] | None = None
    host: bytes | None = None
    first_seq: int | None = None
    last_seq: int | None = None

    def takes(self, message: InputMessage) -> bool:
        """Returns whether a message is wanted."""
        if self.since_ms is not None and message.timestamp_ms < self.since_ms:
            return False
        if self.until_ms is not None and message.timestamp_ms >= self.until_ms:
            return False
        if self.dids is not None and did_of(message) not in self.dids:
            return False
        if self.collections is not None and (
            header_of(message, "collection") not in self.collections
        ):
            return False
        if self.host is not None and header_of(message, "host") != self.host:
            return False
        return self._is_numbered_so(message)

    def _is_numbered_so(self, message: InputMessage) -> bool:
        if self.first_seq is None and self.last_seq is None:
            return True
        seq = seq_of(message)
        if seq is None:
            return False
        return (self.first_seq is None or seq >= self.first_seq) and (
            self.last_seq is None or seq <= self.last_seq
        )


def did_of(message: InputMessage) -> bytes | None:
    """Returns the account that a message is about, by its key; None if that names none.

    Keys with an account are the DID, or begin with `<did>/` or `at://<did>/`.
    """
    if message.key is None:
        return None
    did, _, _ = message.key.removeprefix(b"at://").partition(b"/")
    return did if did.startswith(b"did:") else None


def seq_of(message: InputMessage) -> int | None:
    """Returns the upstream's sequence number of a frame; None if its header has none."""
    seq = header_of(message, "seq")
    return None if seq is None else int(seq)


def header_of(message: InputMessage, name: str) -> bytes | None:
    """Returns the first header of a name, or None."""
    for found, value in message.headers:
        if found == name:
            return value
    return None
