"""What the bridge noted about a frame, in the key and the headers of its message. Pure."""

from dataclasses import dataclass

from pipelines.atproto.frames import Kind
from pipelines.atproto.syntax import Did
from pipelines.explode.pointers import SIGNED_KINDS
from pipelines.kafka.messages import InputMessage

_SIGNED_KINDS = frozenset(kind.encode() for kind in SIGNED_KINDS)
# What a server may say of its own accounts only. spec: J-10
_SPOKEN_KINDS = _SIGNED_KINDS | {Kind.ACCOUNT.encode()}
_FROM_PDS = ("upstream", b"pds")


@dataclass(frozen=True, slots=True)
class Source:
    """Where a frame came from.

    Attributes:
        host: the upstream.
        received_us: when the bridge received it, microseconds since the epoch.
        message: the message of `frames` that holds it.
        is_pds: whether the upstream is a server of accounts, and no relay.
    """

    host: str
    received_us: int
    message: InputMessage
    is_pds: bool = False


def source_of(message: InputMessage) -> Source:
    """Returns where a frame came from."""
    headers = dict(message.headers)
    return Source(
        host=headers["host"].decode(),
        received_us=int(headers["received_us"]),
        message=message,
        is_pds=_FROM_PDS in message.headers,
    )


def is_signed(message: InputMessage) -> bool:
    """Tells whether a frame is one that is judged with a key."""
    return dict(message.headers).get("kind") in _SIGNED_KINDS


def needs_document(message: InputMessage) -> bool:
    """Tells whether the account's document is needed: for the key, or for who may speak for it."""
    kinds = _SPOKEN_KINDS if _FROM_PDS in message.headers else _SIGNED_KINDS
    return dict(message.headers).get("kind") in kinds


def did_of(message: InputMessage) -> Did:
    """Returns the account, which keys each frame."""
    return Did((message.key or b"").decode())
