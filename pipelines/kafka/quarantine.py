"""The headers that say why a message is in quarantine, written and read.

Key, value and headers of the message stay as they were; these come after them. Pure.
"""

from dataclasses import dataclass
from importlib.metadata import version
from typing import NamedTuple

from pipelines.atproto.errors import Reason
from pipelines.kafka.messages import Headers, InputMessage

_VERSION = version("standpipe").encode()


class Origin(NamedTuple):
    """The message that was refused, in the topic it was read from."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}:{self.partition}:{self.offset}"


@dataclass(frozen=True, slots=True)
class Quarantined:
    """What a quarantined message says of itself.

    Attributes:
        partition: where it is in the topic `quarantine`.
        offset: where it is in that partition.
        received_ms: the Kafka timestamp: when the bridge received it, milliseconds since 1970.
        account: the message key: a DID, or the upstream's host where no DID could be read.
        host: the upstream it came from; None if that is not noted.
        seq: its number there; None where it could not be read.
        kind: what the frame's own header says it is; None likewise.
        reason: why it was refused. Text and not a `Reason`: another version may know more.
        stage: who refused it.
        detail: one sentence for a person.
        origin: where it was read from; None if it came from the socket.
        attempts_count: how often it was judged, from 1.
        version: version of standpipe that refused it.
        size_bytes: size of the message itself.
    """

    partition: int
    offset: int
    received_ms: int
    account: str
    host: str | None
    seq: int | None
    kind: str | None
    reason: str
    stage: str
    detail: str
    origin: Origin | None
    attempts_count: int
    version: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Selection:
    """Which quarantined messages somebody wants to see; all by default.

    Attributes:
        reasons: names of reasons, or of areas of reasons (`mst`); empty for all.
        account: the DID or host.
        since_ms: received then or later, milliseconds since 1970.
        until_ms: received before.
    """

    reasons: frozenset[str] = frozenset()
    account: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None

    def has(self, found: Quarantined) -> bool:
        """Whether a message is one of those."""
        return (
            (
                not self.reasons
                or found.reason in self.reasons
                or found.reason.partition(".")[0] in self.reasons
            )
            and (self.account is None or found.account == self.account)
            and (self.since_ms is None or found.received_ms >= self.since_ms)
            and (self.until_ms is None or found.received_ms < self.until_ms)
        )


def quarantine_headers(
    reason: Reason, stage: str, detail: str, source: InputMessage | None = None
) -> Headers:
    """Returns the headers to add to a quarantined message.

    Args:
        reason: the stable reason.
        stage: which stage refused it.
        detail: one sentence for a person.
        source: the message itself, if it comes from a topic and not from a socket.
    """
    headers = [
        ("q.reason", reason.encode()),
        ("q.stage", stage.encode()),
        ("q.detail", detail.encode("utf-8", "replace")),
    ]
    if source is not None:
        headers += [
            ("q.topic", source.topic.encode()),
            ("q.partition", str(source.partition).encode()),
            ("q.offset", str(source.offset).encode()),
        ]
    return [*headers, ("q.attempts", b"1"), ("q.version", _VERSION)]


def parse_quarantined(message: InputMessage) -> Quarantined:
    """Reads what a message of the topic says of itself.

    Raises:
        ValueError: it lacks a header that each has, or one is malformed: something else than
            standpipe wrote it.
    """
    # Ours come last, so a header of the same name that the message brought does not count.
    headers = {name: value.decode("utf-8", "replace") for name, value in message.headers}
    try:
        origin = None
        if "q.topic" in headers:
            where = int(headers["q.partition"]), int(headers["q.offset"])
            origin = Origin(headers["q.topic"], *where)
        return Quarantined(
            partition=message.partition,
            offset=message.offset,
            received_ms=message.timestamp_ms,
            account=(message.key or b"").decode("utf-8", "replace"),
            host=headers.get("host"),
            seq=int(headers["seq"]) if "seq" in headers else None,
            kind=headers.get("kind"),
            reason=headers["q.reason"],
            stage=headers["q.stage"],
            detail=headers["q.detail"],
            origin=origin,
            attempts_count=int(headers["q.attempts"]),
            version=headers["q.version"],
            size_bytes=len(message.value or b""),
        )
    except KeyError as error:
        raise ValueError(f"the header {error.args[0]} is missing") from None
