"""Which events were brought lately, by whichever upstream: the same one is published once.

Pure. Two frames are the same event if they say the same in all but their number in the stream:
`content_id`. For a commit that is more than account, revision and commit CID, because nothing but
the commit object is signed: a frame with the right CID and false operations, from a careless or
hostile upstream, must not keep out the true one from another. The time of a commit or sync is
left out, since upstreams may set their own (spec: J-07), but not whether it is one. Identity and
account events have nothing but their time to tell one from the next of the same kind, so it stays:
where an upstream sets its own, such an event comes once from each.

An account's commits that one upstream leaves out and another one brings come late. What follows
them has been published before, but at a time when it did not continue anything; so it is let
through once more, and readers can close the chain with it.

What a server of accounts brings does not keep out the same from a relay or from another server: it
may speak for its own accounts alone, which only explode can tell, and what is refused from it must
not be missing from those who may. So each server has a list of its own beside that of the relays,
and an event that it has first is there once more.

So what is published is not all new. Who has brought an event, whoever had it published, is noted
beside it (`pipelines.bridge.sightings`).

Limits: `WINDOW_COUNT` events and as many accounts, some 70 MB whatever the frames say: events and
accounts are kept as hashes, revisions only if they are any. What comes again after more than so
many others is published again; readers of `events` ignore what is not above the head.
"""

import hashlib
from collections import OrderedDict, deque
from typing import NamedTuple

from pipelines.atproto import cbor
from pipelines.atproto.errors import ProtocolError
from pipelines.atproto.frames import Envelope, Kind
from pipelines.atproto.syntax import Tid, parse_datetime, parse_tid
from pipelines.bridge.sightings import Sighting, Sightings

# Six minutes of the network's mean rate. At a start as many offsets are read back.
WINDOW_COUNT = 131_072
_ID_BYTES = 16
_SIGNED = frozenset({Kind.COMMIT, Kind.SYNC})


def content_id(envelope: Envelope) -> bytes:
    """Returns what two frames have in common if and only if they are the same event.

    Args:
        envelope: of a frame; its number does not count.
    """
    content = dict(envelope.payload)
    content.pop("seq", None)
    if envelope.kind in _SIGNED:
        content["time"] = _is_time(content.get("time"))
    return _id_of(cbor.encode([envelope.type_name, content]))


class _Account(NamedTuple):
    """What is known of an account.

    Attributes:
        rev: revision that its last commit or sync claims; empty for none.
        late_count: how many came late; what came before the last of them may come again.
    """

    rev: str
    late_count: int


_NEW_ACCOUNT = _Account("", 0)


class Brought(NamedTuple):
    """What becomes of an event that an upstream has brought.

    Attributes:
        is_published: whether it is to be published, for the first time or once more.
        sighting: what it means for the coverage of the upstream.
    """

    is_published: bool
    sighting: Sighting


class Window:
    """The last events of all upstreams together."""

    def __init__(self, count: int = WINDOW_COUNT) -> None:
        """Starts empty.

        Args:
            count: how many events are remembered, and how many accounts.
        """
        self._count = count
        self._known: set[bytes] = set()
        self._order: deque[bytes] = deque()
        self._accounts: OrderedDict[bytes, _Account] = OrderedDict()
        self._sightings = Sightings(count)

    def bring(self, envelope: Envelope, host: str, *, is_pds: bool = False) -> Brought:
        """Takes note of an event; returns what becomes of it.

        Args:
            envelope: of the event; one without account is always new.
            host: the upstream that brought it.
            is_pds: whether that is a server of accounts, and no relay.
        """
        if envelope.did is None:
            return Brought(is_published=True, sighting=Sighting.FIRST)
        content = content_id(envelope)
        sighting = self._sightings.see(content, host)
        return Brought(self._publish(envelope, content, host if is_pds else None), sighting)

    def recall(self, envelope: Envelope, pds: str | None = None) -> None:
        """Takes note of an event that was published before we started.

        Args:
            envelope: of the event.
            pds: host of the server that had brought it; None for a relay.
        """
        if envelope.did is not None:
            content = content_id(envelope)
            self._sightings.recall(content)
            self._publish(envelope, content, pds)

    def _publish(self, envelope: Envelope, content: bytes, pds: str | None) -> bool:
        """Takes note of an event, and returns whether it is to be published.

        Args:
            envelope: of the event; with an account.
            content: its `content_id`.
            pds: host of the server that brought it; None for a relay.
        """
        assert envelope.did is not None
        speaker = b""
        if pds is not None:
            if self._knows(content, _id_of(envelope.did.encode())):
                return False
            speaker = pds.encode() + b" "
            content = _id_of(speaker + content)
        account_id = _id_of(speaker + envelope.did.encode())
        if self._knows(content, account_id):
            return False
        account = self._accounts.get(account_id, _NEW_ACCOUNT)
        event_id = _salted(content, account)
        rev = _rev_of(envelope)
        if rev is not None:
            if rev < account.rev:
                account = _Account(rev, account.late_count + 1)
                event_id = _salted(content, account)
            else:
                account = _Account(rev, account.late_count)
        self._remember(event_id, account_id, account)
        return True

    def _knows(self, content: bytes, account_id: bytes) -> bool:
        return _salted(content, self._accounts.get(account_id, _NEW_ACCOUNT)) in self._known

    def _remember(self, event_id: bytes, account_id: bytes, account: _Account) -> None:
        self._known.add(event_id)
        self._order.append(event_id)
        if len(self._order) > self._count:
            self._known.discard(self._order.popleft())
        self._accounts[account_id] = account
        self._accounts.move_to_end(account_id)
        if len(self._accounts) > self._count:
            self._accounts.popitem(last=False)


def _id_of(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_ID_BYTES).digest()


def _rev_of(envelope: Envelope) -> Tid | None:
    """Returns the revision of a commit or sync; None for others, and for what is none."""
    if envelope.kind not in _SIGNED:
        return None
    try:
        return parse_tid(envelope.payload.get("rev"))
    except ProtocolError:
        return None


def _salted(event_id: bytes, account: _Account) -> bytes:
    return b"%d:%b" % (account.late_count, event_id) if account.late_count else event_id


def _is_time(value: object) -> bool:
    try:
        parse_datetime(value)
    except ProtocolError:
        return False
    return True
