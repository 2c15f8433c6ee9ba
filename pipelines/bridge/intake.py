"""What becomes of a message from the upstream's socket.

Pure: the state is one `Intake` for each upstream and a `Window` for all of them, the input one
websocket message with the time at which it was received.

    well-formed, new                     Publish      goes to `frames`, byte for byte
    cannot be read                       Quarantine   goes to `quarantine`, byte for byte
    legal, but of nobody we could name   Skip         the cursor moves past it
    had before                           Resent       dropped
    brought before by an upstream        Duplicate    the cursor moves past it
    from the upstream about itself       Notice       for the reader to act on

Not looked at: anything in a frame but its header, sequence number, account and time. Whether a
commit is true is judged later, from the same bytes.

spec: F-10 to F-16, F-20 to F-24, F-44, F-45
"""

import hashlib
from typing import NamedTuple, TypeAlias

from pipelines.atproto.errors import FrameError, Reason
from pipelines.atproto.frames import (
    Envelope,
    ErrorMessage,
    InfoMessage,
    Kind,
    parse_envelope,
    parse_message,
)
from pipelines.atproto.syntax import Did
from pipelines.bridge.gaps import Continuity, Gap
from pipelines.bridge.sightings import Sighting
from pipelines.bridge.window import Brought, Window

# So many messages in a row that cannot be read are not an accident but a stream that is not one,
# or that has lost its framing. A single one must not end the connection: it would be the next
# one after every reconnect, and the bridge would never get past it. spec: F-13
UNDECODABLE_IN_ROW_LIMIT = 10
# And so many bytes of them within a minute, whatever comes between: what nobody can read is kept
# for a week, and must not fill the disk. If we failed to read one message in ten of the whole
# network, that would be a tenth of it.
UNDECODABLE_BYTES_LIMIT = 64 * 1024 * 1024
_MINUTE_US = 60_000_000
# How many undecodable messages after the cursor are recognised when a reconnect brings them
# again; 32 bytes each. Later ones are put into quarantine again.
REMEMBERED_UNDECODABLE_COUNT = 10_000
# Longer than any RFC 3339 time; a `time` goes into small messages that must not grow with it.
MAX_TIME_LENGTH = 64


class Publish(NamedTuple):
    """A frame for the topic `frames`.

    Attributes:
        frame: the websocket message, unchanged.
        did: the account it is about.
        seq: its position in the upstream's stream, higher than all before.
        kind: what its header says it is.
        time: the upstream's clock, as it stands there; None where there is none.
        received_us: when it was received, microseconds since the epoch.
        gap: what is known to be missing before it, or None.
        sighting: whether an upstream had brought it before; it is published once more then.
    """

    frame: bytes
    did: Did
    seq: int
    kind: Kind
    time: str | None
    received_us: int
    gap: Gap | None = None
    sighting: Sighting = Sighting.FIRST


class Quarantine(NamedTuple):
    """A message nobody can read; it has no sequence number that the cursor could move to.

    Attributes:
        message: the websocket message, unchanged.
        reason: why, for machines.
        detail: why, for a person.
        received_us: when it was received, microseconds since the epoch.
    """

    message: bytes
    reason: Reason
    detail: str
    received_us: int


class Skip(NamedTuple):
    """A legal frame of a type we do not know, without an account to file it under.

    Attributes:
        seq: its position in the upstream's stream; None where it has none.
        time: as in `Publish`.
        received_us: as in `Publish`.
        gap: as in `Publish`; None where it has no number.
    """

    seq: int | None
    time: str | None
    received_us: int
    gap: Gap | None = None


class Duplicate(NamedTuple):
    """A frame of an event that was brought before, mostly by another upstream.

    Attributes:
        seq: its position in this upstream's stream.
        time: as in `Publish`.
        received_us: as in `Publish`.
        gap: as in `Publish`.
        sighting: whether this upstream had brought it before.
    """

    seq: int
    time: str | None
    received_us: int
    gap: Gap | None = None
    sighting: Sighting = Sighting.LATER


class Resent(NamedTuple):
    """A message that was taken in before.

    Attributes:
        seq: its position in the upstream's stream; None for one that cannot be read.
    """

    seq: int | None


class Notice(NamedTuple):
    """What the upstream says about itself or the connection."""

    message: InfoMessage | ErrorMessage


# What goes on to Kafka, if only as a cursor.
Entry: TypeAlias = Publish | Quarantine | Skip | Duplicate
Decision: TypeAlias = Entry | Resent | Notice


class Intake:
    """What was taken in from one upstream so far, and the judge of what comes next.

    Attributes:
        cursor: the highest sequence number taken in, after which to continue; 0 for the oldest
            event the upstream has; None for new events only.
    """

    def __init__(
        self,
        cursor: int | None,
        continuity: Continuity | None = None,
        window: Window | None = None,
        host: str = "",
        *,
        is_pds: bool = False,
    ) -> None:
        """Starts after a cursor, which is what the upstream will be asked for.

        Args:
            cursor: as the attribute.
            continuity: watches for gaps from there on; by default from the first event on.
            window: what all upstreams brought lately; None where there is only this one.
            host: what the window knows the upstream by.
            is_pds: whether it is a server of accounts, and no relay.
        """
        self.cursor = cursor
        self._continuity = continuity or Continuity(None)
        self._window = window
        self._host = host
        self._is_pds = is_pds
        self._undecodable_in_row = 0
        # Of the connection, in the minute that began at that time.
        self._undecodable_bytes = 0
        self._minute_us = 0
        # Digests of what could not be read since the cursor last moved, in order, and how many
        # of them this connection has brought (again).
        self._undecodable: list[bytes] = []
        self._undecodable_seen_count = 0

    @property
    def garbage(self) -> str | None:
        """What the connection brings too much of, so that it should be given up; None if not."""
        if self._undecodable_in_row >= UNDECODABLE_IN_ROW_LIMIT:
            return f"{self._undecodable_in_row} messages in a row could not be read"
        if self._undecodable_bytes >= UNDECODABLE_BYTES_LIMIT:
            return f"{self._undecodable_bytes} bytes within a minute could not be read"
        return None

    def begin_connection(self) -> None:
        """Prepares for a connection that starts at the cursor."""
        self._continuity.begin_connection()
        self._undecodable_in_row = 0
        self._undecodable_bytes = 0
        self._undecodable_seen_count = 0

    def judge(  # noqa: PLR0911 - one return for each kind of decision
        self, message: bytes, *, is_text: bool, received_us: int
    ) -> Decision:
        """Decides about the next message of the connection.

        Args:
            message: one websocket message.
            is_text: whether it came as text, which event streams do not have.
            received_us: when it was received, microseconds since the epoch.
        """
        try:
            if is_text:
                raise FrameError(Reason.FRAME_NOT_CBOR, "a text message instead of a binary one")
            envelope = parse_envelope(message)
        except FrameError as error:
            return self._judge_undecodable(message, error, received_us)
        self._undecodable_in_row = 0
        if envelope.kind is Kind.INFO or envelope.kind is Kind.ERROR:
            notice = parse_message(envelope)
            assert isinstance(notice, InfoMessage | ErrorMessage)
            if isinstance(notice, InfoMessage) and notice.name == "OutdatedCursor":
                self._continuity.announce()
            return Notice(notice)
        seq, time = envelope.seq, envelope.time
        if time is not None and len(time) > MAX_TIME_LENGTH:
            time = None
        if seq is None:
            return Skip(None, time, received_us)
        if self.cursor is not None and seq <= self.cursor:
            # Some upstreams send the cursor's own frame again, some do not. spec: F-21, F-23
            return Resent(seq)
        self.cursor = seq
        gap = self._continuity.advance(seq, time)
        self._undecodable.clear()
        self._undecodable_seen_count = 0
        if envelope.did is None:
            return Skip(seq, time, received_us, gap)
        is_published, sighting = self._bring(envelope)
        if not is_published:
            return Duplicate(seq, time, received_us, gap, sighting)
        return Publish(message, envelope.did, seq, envelope.kind, time, received_us, gap, sighting)

    def _bring(self, envelope: Envelope) -> Brought:
        if self._window is None:
            return Brought(is_published=True, sighting=Sighting.FIRST)
        return self._window.bring(envelope, self._host, is_pds=self._is_pds)

    def _judge_undecodable(
        self, message: bytes, error: FrameError, received_us: int
    ) -> Quarantine | Resent:
        """Tells garbage from garbage that a reconnect brings again at the same place.

        What is brought again does not count as a row either: after ten new ones the next
        connection gets ten further, so that a long run of them is passed in the end.
        """
        digest = hashlib.sha256(message).digest()
        index = self._undecodable_seen_count
        self._undecodable_seen_count += 1
        if self._undecodable[index : index + 1] == [digest]:
            return Resent(None)
        self._undecodable_in_row += 1
        if received_us - self._minute_us >= _MINUTE_US:
            self._minute_us, self._undecodable_bytes = received_us, 0
        self._undecodable_bytes += len(message)
        if index < REMEMBERED_UNDECODABLE_COUNT:
            self._undecodable[index:] = [digest]
        return Quarantine(message, error.reason, error.detail, received_us)
