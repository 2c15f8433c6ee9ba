"""What the bridge noted about a frame, in the key and the headers of its message. Pure."""

from dataclasses import dataclass

from pipelines.atproto.syntax import Did
from pipelines.explode.pointers import SIGNED_KINDS
from pipelines.kafka.messages import InputMessage

_SIGNED_KINDS = frozenset(kind.encode() for kind in SIGNED_KINDS)


@dataclass(frozen=True, slots=True)
class Source:
    """Where a frame came from.

    Attributes:
        host: the upstream.
        received_us: when the bridge received it, microseconds since the epoch.
        message: the message of `frames` that holds it.
    """

    host: str
    received_us: int
    message: InputMessage


def source_of(message: InputMessage) -> Source:
    """Returns where a frame came from."""
    headers = dict(message.headers)
    return Source(
        host=headers["host"].decode(),
        received_us=int(headers["received_us"]),
        message=message,
    )


def is_signed(message: InputMessage) -> bool:
    """Tells whether a frame is one that is judged with a key."""
    return dict(message.headers).get("kind") in _SIGNED_KINDS


def did_of(message: InputMessage) -> Did:
    """Returns the account, which keys each frame."""
    return Did((message.key or b"").decode())
