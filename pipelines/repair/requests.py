"""A request for a repository, and its form in the topic `resyncs`. Pure."""

from dataclasses import asdict, dataclass
from enum import StrEnum

import orjson

from pipelines.atproto.syntax import Did, Tid
from pipelines.kafka.messages import OutputMessage


class Cause(StrEnum):
    """Why a repository is asked for."""

    DESYNCHRONIZED = "desynchronized"  # something is missing
    BACKFILL = "backfill"  # it was never followed
    AUDIT = "audit"  # what we hold is not what the account signed
    REDRIVE = "redrive"  # somebody asked for it
    SWEEP = "sweep"  # a gap in an upstream's stream may hide something
    REACTIVATION = "reactivation"  # the account is active again
    DELETION = "deletion"  # whether the account is really gone


@dataclass(frozen=True, slots=True)
class Request:
    """A request for a repository as its server has it now.

    Attributes:
        did: the repository.
        cause: why it is asked for.
        reason: what broke, as in `repos`, or None where nothing did.
        min_rev: revision that the repository has to have reached, or None if any will do.
        host: origin of the server to ask first (`https://host[:port]`); None for the one in the
            DID document.
        requested_us: when it became necessary, microseconds since the epoch.
    """

    did: Did
    cause: Cause
    reason: str | None
    min_rev: Tid | None
    host: str | None
    requested_us: int


def request_message(request: Request, partition: int, topic: str) -> OutputMessage:
    """Returns the message of a request: JSON, version 1.

    Args:
        request: what to ask for.
        partition: of the repository.
        topic: physical name of `resyncs`.
    """
    did = request.did.encode()
    return OutputMessage(
        topic,
        partition,
        did,
        orjson.dumps(asdict(request)),
        [("did", did), ("cause", request.cause.encode())],
        request.requested_us // 1_000,
    )


def parse_request(value: bytes) -> Request:
    """Takes a message value apart.

    Args:
        value: JSON, version 1.

    Raises:
        ValueError: it is of another shape, which a newer version may have written.
    """
    try:
        fields = orjson.loads(value)
        return Request(**fields | {"cause": Cause(fields["cause"])})
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a request of version 1: {error!r}") from error
