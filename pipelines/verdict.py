"""The verdict on one frame: proven, refused, or nothing to prove.

What explode, `standpipe verify` and replay share. The order of tries for the key (spec: E-14):

    1. the current key
    2. the current key, fetched again once after the frame was received
    3. the key that was current at the time in the commit's own, signed revision

The third lets a worker that lags behind a key rotation, or a replay, prove what was right when it
was made. It lets nobody rewrite anything: state moves forward by revision only.

"No key" never means verified: a repository without a usable key is refused, and one whose
identity cannot be reached now raises `IdentityUnavailableError`, to be tried again.

Frames are judged in groups, one step for all of them before the next step begins: the code and the
tables of a step then stay in the processor's cache, which takes a fifth off the time of a frame.
Nothing in a verdict depends on the others of its group.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol, TypeAlias

from pipelines.atproto.commit import (
    AuthenticCommit,
    OpenedCommit,
    VerifiedCommit,
    VerifiedSync,
    authenticate,
    check_rev_not_future,
    open_commit,
    prove_commit,
    prove_sync,
)
from pipelines.atproto.errors import (
    FrameError,
    IdentityError,
    ProtocolError,
    Reason,
    SignatureError,
)
from pipelines.atproto.frames import (
    AccountMessage,
    CommitMessage,
    Envelope,
    IdentityMessage,
    Kind,
    Message,
    SyncMessage,
    parse_envelope,
    parse_message,
)
from pipelines.atproto.keys import VerifyingKey
from pipelines.atproto.syntax import Did, parse_datetime, tid_time_us
from pipelines.errors import IdentityUnavailableError


class KeyLookup(Protocol):
    """Where signing keys come from.

    Each call may raise `IdentityError` (no usable identity) or `IdentityUnavailableError` (not
    known now: try again later).
    """

    def current_key(self, did: Did) -> VerifyingKey:
        """Returns the key in the DID's document, possibly from a cache."""

    def refreshed_key(self, did: Did, since_us: int | None) -> VerifyingKey | None:
        """Returns the key in a document fetched anew, at a time or later; None if it is the same.

        Args:
            did: the account.
            since_us: when the frame was received, microseconds since the epoch; None for now.
        """

    def key_at(self, did: Did, time_us: int) -> VerifyingKey | None:
        """Returns the key that was current at a time; None if there is no history."""


class NotedKeys:
    """Key look-up that notes the last key: the one that fits, or the last one that does not.

    Attributes:
        last: the key; None before any was found.
    """

    def __init__(self, keys: KeyLookup) -> None:
        """Notes what a look-up finds."""
        self._keys = keys
        self.last: VerifyingKey | None = None

    def current_key(self, did: Did) -> VerifyingKey:
        """As of `KeyLookup`."""
        self.last = key = self._keys.current_key(did)
        return key

    def refreshed_key(self, did: Did, since_us: int | None) -> VerifyingKey | None:
        """As of `KeyLookup`."""
        key = self._keys.refreshed_key(did, since_us)
        self.last = key or self.last
        return key

    def key_at(self, did: Did, time_us: int) -> VerifyingKey | None:
        """As of `KeyLookup`."""
        key = self._keys.key_at(did, time_us)
        self.last = key or self.last
        return key


class Proven(NamedTuple):
    """A commit or sync with every claim confirmed."""

    verified: VerifiedCommit | VerifiedSync


@dataclass(frozen=True, slots=True)
class Unsigned:
    """An identity or account event: well-formed, but nothing in it is signed."""

    message: IdentityMessage | AccountMessage


@dataclass(frozen=True, slots=True)
class Refused:
    """Proven bad.

    Attributes:
        error: why.
        envelope: who and when, if the frame could be read that far.
        authentic: the commit inside, if it is signed by the account and not from the future:
            then the repository did change, and is suspect until it is fetched again.
    """

    error: ProtocolError
    envelope: Envelope | None
    authentic: OpenedCommit | None


@dataclass(frozen=True, slots=True)
class Skipped:
    """An info or error frame, or a type that we do not know."""

    envelope: Envelope


Verdict: TypeAlias = Proven | Unsigned | Refused | Skipped


class Arrival(NamedTuple):
    """A frame to judge.

    Attributes:
        frame: one websocket message.
        received_us: when it was received, microseconds since the epoch; what "future" means, so
            that judging it again later gives the same verdict. None where nobody noted it: then
            the frame's own `time` stands for it.
    """

    frame: bytes
    received_us: int | None


def judge_frame(frame: bytes, keys: KeyLookup, received_us: int | None) -> Verdict:
    """Proves a frame, or says why not.

    Args:
        frame: as in `Arrival`.
        keys: where to look up signing keys.
        received_us: as in `Arrival`.

    Raises:
        IdentityUnavailableError: the signing key cannot be looked up now.
    """
    [outcome] = judge_frames([Arrival(frame, received_us)], keys)
    if isinstance(outcome, IdentityUnavailableError):
        raise outcome
    return outcome


def judge_frames(
    arrivals: Iterable[Arrival], keys: KeyLookup
) -> list[Verdict | IdentityUnavailableError]:
    """Proves each frame of a group, or says why not.

    Args:
        arrivals: in order; all of them are in memory at once, decoded.
        keys: where to look up signing keys; asked in the order of the frames.

    Returns:
        For each frame the verdict, or why its signing key cannot be looked up now.
    """
    cases = [_Case(arrival) for arrival in arrivals]
    for step in _STEPS:
        for case in cases:
            if case.outcome is None:
                try:
                    step(case, keys)
                except ProtocolError as error:
                    case.outcome = Refused(error, case.envelope, case.confirmed)
                except IdentityUnavailableError as error:
                    case.outcome = error
    return [_outcome(case) for case in cases]


class _Case:
    """A frame on its way to a verdict, with what the steps behind it found.

    Attributes:
        arrival: the frame.
        envelope: once it was read.
        opened: the commit inside, once it was parsed.
        authentic: that, once its signature was verified.
        confirmed: that, once it is known not to be from the future: whatever is wrong with the
            rest, the commit itself is real.
        message: once its claims were read.
        outcome: ends the case.
    """

    __slots__ = (
        "arrival",
        "authentic",
        "confirmed",
        "envelope",
        "message",
        "opened",
        "outcome",
    )

    arrival: Arrival
    envelope: Envelope | None
    opened: OpenedCommit
    authentic: AuthenticCommit
    confirmed: OpenedCommit | None
    message: Message
    outcome: Verdict | IdentityUnavailableError | None

    def __init__(self, arrival: Arrival) -> None:
        self.arrival = arrival
        self.envelope = self.confirmed = self.outcome = None


def _outcome(case: _Case) -> Verdict | IdentityUnavailableError:
    assert case.outcome is not None  # the last step gives one
    return case.outcome


def _read(case: _Case, _: KeyLookup) -> None:
    envelope = case.envelope = parse_envelope(case.arrival.frame)
    kind = envelope.kind
    if kind is _COMMIT or kind is _SYNC:
        return
    message = parse_message(envelope)
    if isinstance(message, IdentityMessage | AccountMessage):
        case.outcome = Unsigned(message)
    else:
        case.outcome = Skipped(envelope)


def _open(case: _Case, _: KeyLookup) -> None:
    envelope = _envelope(case)
    assert envelope.did is not None
    case.opened = open_envelope(envelope.did, envelope)


def _check_signature(case: _Case, keys: KeyLookup) -> None:
    received_us = case.arrival.received_us
    case.authentic = authenticate_with_any(case.opened, keys, received_us)
    check_arrival(case.opened, _envelope(case), received_us)
    case.confirmed = case.opened


def _read_claims(case: _Case, _: KeyLookup) -> None:
    case.message = parse_message(_envelope(case))


def _prove(case: _Case, _: KeyLookup) -> None:
    message = case.message
    if isinstance(message, CommitMessage):
        case.outcome = Proven(prove_commit(message, case.authentic))
    else:
        assert isinstance(message, SyncMessage)
        case.outcome = Proven(prove_sync(message, case.authentic))


def _envelope(case: _Case) -> Envelope:
    assert case.envelope is not None
    return case.envelope


# In this order: the unsigned claims come last, when it is known whether the commit is real.
_STEPS: Final[tuple[Callable[[_Case, KeyLookup], None], ...]] = (
    _read,
    _open,
    _check_signature,
    _read_claims,
    _prove,
)
# Looking up a member of an enumeration takes ten times as long as looking up a global.
_COMMIT, _SYNC = Kind.COMMIT, Kind.SYNC


def open_envelope(did: Did, envelope: Envelope) -> OpenedCommit:
    """Opens the commit in a `#commit` or `#sync` whose own fields are still unread.

    Raises:
        ProtocolError: it has no blocks, or as `open_commit`.
    """
    blocks = envelope.payload.get("blocks")
    if not isinstance(blocks, bytes):
        raise FrameError(Reason.FRAME_FIELD, "blocks are missing")
    return open_commit(did, blocks)


def check_arrival(opened: OpenedCommit, envelope: Envelope, received_us: int | None) -> None:
    """Refuses a commit from the future; `received_us` as in `Arrival`.

    Raises:
        ProtocolError: as `check_rev_not_future`, or the frame's own time stands for its arrival
            and is none.
    """
    check_rev_not_future(
        opened.commit.rev, parse_datetime(envelope.time) if received_us is None else received_us
    )


def authenticate_with_any(
    opened: OpenedCommit, keys: KeyLookup, received_us: int | None
) -> AuthenticCommit:
    """Verifies a commit's signature with the first key that fits, in the order of tries above.

    Args:
        opened: the commit.
        keys: where to look up signing keys.
        received_us: as in `judge_frame`.

    Raises:
        ProtocolError: no key of the account fits, or it has none.
        IdentityUnavailableError: the signing key cannot be looked up now.
    """
    refusal: ProtocolError | None = None
    tried: list[VerifyingKey] = []  # three at most
    # Most commits are signed by the current key; each further one costs a request.
    for look_up in (_current_key, _refreshed_key, _key_at_revision):
        try:
            key = look_up(keys, opened, received_us)
            if key is None or key in tried:
                continue
            tried.append(key)
            return authenticate(opened, key)
        except SignatureError as error:
            if error.reason is not Reason.SIGNATURE_INVALID:
                raise  # malformed: no key can help
            refusal = error
        except IdentityError as error:
            # The account may be gone by now and have had a key when it signed.
            refusal = refusal or error
    assert refusal is not None
    raise refusal


def _current_key(keys: KeyLookup, opened: OpenedCommit, _: int | None) -> VerifyingKey | None:
    return keys.current_key(opened.commit.did)


def _refreshed_key(
    keys: KeyLookup, opened: OpenedCommit, received_us: int | None
) -> VerifyingKey | None:
    return keys.refreshed_key(opened.commit.did, received_us)


def _key_at_revision(keys: KeyLookup, opened: OpenedCommit, _: int | None) -> VerifyingKey | None:
    return keys.key_at(opened.commit.did, tid_time_us(opened.commit.rev))
