"""The operator's own word on an account, and its form in the topic `overrides`. Pure.

What it does to a repository: `accounts.py`. Source: atproto.com/specs/sync "Record-Level
Synchronization", which keeps a status from upstream and a local one apart. spec: H-04
"""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Final

import orjson

from pipelines.atproto.syntax import Did
from pipelines.compact.events import Source
from pipelines.kafka.messages import OutputMessage

# In the place of a host where nobody but the operator said something: no host is called that,
# since the name of one has a dot or is an address.
OPERATOR: Final = "operator"
MAX_REASON_LENGTH: Final = 1_000  # characters; every message of the repository in `repos` has it


class OverrideStatus(StrEnum):
    """What the operator may say of an account, in upstream's words."""

    ACTIVE = "active"  # it may be shown, whatever upstream says
    DEACTIVATED = "deactivated"
    DELETED = "deleted"  # its records go at once: nobody else has to confirm it
    SUSPENDED = "suspended"
    TAKENDOWN = "takendown"


@dataclass(frozen=True, slots=True)
class Override:
    """What the operator says of an account.

    Attributes:
        status: what counts instead of upstream's word.
        reason: why, for people; 1 to `MAX_REASON_LENGTH` characters.
        decided_us: when it was said, microseconds since the epoch.
    """

    status: OverrideStatus
    reason: str
    decided_us: int


def override_source(received_us: int) -> Source:
    """Returns where a state comes from that the operator changed.

    Args:
        received_us: when, microseconds since the epoch.
    """
    return Source(OPERATOR, None, None, received_us, None, None, None)


def override_message(
    did: Did, override: Override | None, partition: int, topic: str, now_ms: int
) -> OutputMessage:
    """Returns the message of an override: JSON, version 1; a null lifts the one there is.

    Args:
        did: the account.
        override: what to say of it; None for nothing any more.
        partition: of the account.
        topic: physical name of `overrides`.
        now_ms: milliseconds since the epoch.
    """
    key = did.encode()
    value = None if override is None else orjson.dumps({"did": did} | asdict(override))
    return OutputMessage(topic, partition, key, value, [("did", key)], now_ms)


def parse_override(value: bytes) -> Override:
    """Takes a message value apart.

    Args:
        value: JSON, version 1, as `override_message` writes it.

    Raises:
        ValueError: it is of another shape, which a newer version may have written.
    """
    try:
        found = orjson.loads(value)
        status = OverrideStatus(found["status"])
        return Override(status, found["reason"], found["decided_us"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"not an override of version 1: {error!r}") from error
