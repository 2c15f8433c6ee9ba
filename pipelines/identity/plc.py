"""PLC logs: which operations of a did:plc stand, and which signing key was current when.

A log proves itself. Its first operation's hash is the DID; every other operation names the one
that it follows, by hash, and is signed by a key which that one allows. So a directory can withhold
operations, misdate them and choose between forks, but it cannot make any up.

Operations form a chain. One that does not follow the last makes void what stands after its
predecessor (nullification), if a more powerful key signs it in time:

    first ◄─ a ◄─ b ◄─ c        b and c stand …
             ▲
             └──────── d        … until d, which names a as its predecessor

Implements "Key Rotation & Account Recovery" and "Audit Logs" of
https://web.plc.directory/spec/v0.1/did-plc. Pure. spec: L-04…L-08, L-13, L-15.

Checked in `follow`: that the first operation makes the DID, the predecessor, the signature, the
priority of keys, the window of time, that nothing follows a tombstone. Not checked: that times
rise, except where one operation makes others void (as in the directory: two of its machines may
disagree by milliseconds); what the directory says about nullification, which is worked out anew.

Where it goes wrong elsewhere:
    - A key named twice has its first place. A key that cannot be used keeps its place.
    - 72 hours are counted from the first operation made void to the one that makes it so, and
      exactly 72 hours are in time.
    - A tombstone has no rotation keys, and can still be made void.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, NamedTuple, TypeAlias

from pipelines.atproto.cid import encode_cid
from pipelines.atproto.errors import IdentifierError, PlcError, Reason
from pipelines.atproto.keys import VerifyingKey
from pipelines.atproto.syntax import Did, parse_datetime
from pipelines.identity.operation import Form, Operation, RotationKeys, parse_operation

# How long a more powerful key may make an operation void.
RECOVERY_WINDOW_US: Final = 72 * 3_600 * 1_000_000


class Link(NamedTuple):
    """An operation that stands, as far as those that come later depend on it.

    Attributes:
        cid: its raw CID.
        created_us: when the directory received it, microseconds since the epoch.
        rotation_keys: who may sign what follows it.
        signer_index: place of its signer among the rotation keys of the operation before it.
        is_tombstone: whether it gives the DID up.
    """

    cid: bytes
    created_us: int
    rotation_keys: RotationKeys
    signer_index: int
    is_tombstone: bool


# The operations that stand, each following the one before. Empty for a DID not made yet.
Chain: TypeAlias = tuple[Link, ...]


class LogEntry(NamedTuple):
    """An operation as the directory lists it. Only the operation itself is signed.

    Attributes:
        operation: what is signed.
        created_at: when the directory received it, as it wrote that.
        created_us: the same in microseconds since the epoch.
        is_nullified: whether the directory says that a later one made it void; None where it does
            not say.
    """

    operation: Operation
    created_at: str
    created_us: int
    is_nullified: bool | None


class KeyChange(NamedTuple):
    """What one operation says about the signing key.

    Attributes:
        created_us: when the directory received it, microseconds since the epoch.
        signing_key: the key from then on; None if the account is then gone or its key unusable.
    """

    created_us: int
    signing_key: VerifyingKey | None


# The operations of one DID that stand, in the order of their chain. Never empty: the first one
# made the DID.
KeyHistory: TypeAlias = tuple[KeyChange, ...]


@dataclass(frozen=True, slots=True)
class Valid:
    """An operation of a log that was valid when it came.

    Attributes:
        logged: the entry.
        signer: the rotation key that signed it.
        nullified_by: position in the log of the operation that made it void; None if it stands.
    """

    logged: LogEntry
    signer: VerifyingKey
    nullified_by: int | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """An entry of a log that is not valid.

    Attributes:
        logged: the entry, if it could be read.
        error: why it is refused.
    """

    logged: LogEntry | None
    error: PlcError


def follow(
    did: Did, chain: Chain, operation: Operation, created_us: int
) -> tuple[Chain, VerifyingKey]:
    """Checks that an operation may follow, and adds it.

    Args:
        did: the account.
        chain: what stands. Operations older than the recovery window before the last one may be
            left out at the front: nothing can follow them any more.
        operation: the next one.
        created_us: when the directory received it, microseconds since the epoch.

    Returns:
        What stands afterwards, and the key that signed. What stood before and is not in the new
        chain is void.

    Raises:
        PlcError: the operation is not valid there.
    """
    if not chain:
        index = _check_first(did, operation)
        keys, kept = operation.rotation_keys, chain
    else:
        place = _place_of(operation, chain)
        keys, kept = chain[place].rotation_keys, chain[: place + 1]
        if len(kept) == len(chain):
            index = operation.signer_index(keys)
        else:
            index = _check_nullification(operation, created_us, chain, place)
    signer = keys[index]
    assert signer is not None  # it has verified a signature
    link = Link(
        operation.cid,
        created_us,
        operation.rotation_keys,
        index,
        operation.form is Form.TOMBSTONE,
    )
    return (*kept, link), signer


def prune(chain: Chain) -> Chain:
    """Leaves out what no valid operation can follow any more.

    To follow an operation other than the last is to make void what comes after it; that must be
    younger than the recovery window when the new operation comes, which is after the last one.
    """
    closed_us = chain[-1].created_us - RECOVERY_WINDOW_US
    start = next(
        (place for place, later in enumerate(chain[1:]) if later.created_us > closed_us),
        len(chain) - 1,
    )
    return chain[start:]


def verify_audit_log(did: Did, log: object) -> KeyHistory:
    """Verifies an audit log as a whole.

    Args:
        did: the DID whose log was asked for.
        log: the decoded JSON: a list of `{did, operation, cid, nullified, createdAt}`.

    Returns:
        What the operations that stand say about the signing key.

    Raises:
        PlcError: it is not an audit log, or one of its operations is not valid.
    """
    judged = judge_log(did, log)
    changes = []
    for entry in judged:
        match entry:
            case Refused(error=error):
                raise error
            case Valid(logged=logged, nullified_by=None):
                changes.append(KeyChange(logged.created_us, logged.operation.signing_key))
    return tuple(changes)


def judge_log(did: Did, log: object) -> tuple[Valid | Refused, ...]:
    """Judges every entry of an audit log. For later ones, those refused do not exist.

    Args:
        did: the DID whose log was asked for.
        log: as for `verify_audit_log`.

    Raises:
        PlcError: it is not a list, or an empty one (`IDENTITY_LOG`).
    """
    if not isinstance(log, list) or not log:
        raise PlcError(Reason.IDENTITY_LOG, "it is not a list of operations", did=did)
    chain: Chain = ()
    judged: list[Valid | Refused] = []
    position_of: dict[bytes, int] = {}
    for position, value in enumerate(log):
        logged: LogEntry | None = None
        try:
            logged = parse_entry(did, value)
            after, signer = follow(did, chain, logged.operation, logged.created_us)
        except PlcError as error:
            judged.append(Refused(logged, _refined(error, did, position, logged, position_of)))
            continue
        judged.append(Valid(logged, signer))
        for link in chain[len(after) - 1 :]:
            void = judged[position_of[link.cid]]
            assert isinstance(void, Valid)  # it stood
            judged[position_of[link.cid]] = replace(void, nullified_by=position)
        position_of[logged.operation.cid] = position
        chain = after
    return tuple(judged)


def parse_entry(did: Did, value: object) -> LogEntry:
    """Reads an operation as the directory lists it, in an audit log or in its export.

    Args:
        did: the account that the entry must be of.
        value: the decoded JSON: `{did, operation, cid, createdAt}` and perhaps `nullified`; other
            members are ignored.

    Raises:
        PlcError: a member is missing or wrong (`PLC_ENTRY`), the operation is malformed (see
            `parse_operation`) or its hash is not the `cid` (`PLC_CID_MISMATCH`).
    """
    if not isinstance(value, Mapping) or value.get("did") != did:
        raise PlcError(Reason.PLC_ENTRY, "it is not an entry of this DID")
    is_nullified = value.get("nullified")
    if is_nullified is not None and not isinstance(is_nullified, bool):
        raise PlcError(Reason.PLC_ENTRY, "nullified is neither true nor false")
    created_at = str(value.get("createdAt"))
    try:
        created_us = parse_datetime(created_at)
    except IdentifierError as error:
        raise PlcError(Reason.PLC_ENTRY, f"createdAt is {error.detail}") from None
    operation = parse_operation(value.get("operation"))
    if value.get("cid") != encode_cid(operation.cid):
        raise PlcError(
            Reason.PLC_CID_MISMATCH, "the directory's CID is not the hash of the operation"
        )
    return LogEntry(operation, created_at, created_us, is_nullified)


def key_at(history: KeyHistory, time_us: int) -> VerifyingKey | None:
    """Finds the signing key that was current at a time.

    Args:
        history: the account's.
        time_us: microseconds since the epoch.

    Returns:
        The key, or None if there was no usable one at that time. Before the first operation it is
        that operation's key: the DID is the operation's hash, so both exist before the directory
        receives them, and servers sign an account's first commit in between.
    """
    current = history[0].signing_key
    for change in history[1:]:
        if change.created_us <= time_us:
            current = change.signing_key
    return current


def _check_first(did: Did, operation: Operation) -> int:
    if operation.prev_cid is not None or operation.form is Form.TOMBSTONE:
        raise PlcError(
            Reason.PLC_FIRST, "the first operation of a log must follow no other, and make the DID"
        )
    if operation.did() != did:
        raise PlcError(
            Reason.PLC_DID_MISMATCH, f"the first operation makes {operation.did()}, not this DID"
        )
    return operation.signer_index(operation.rotation_keys)


def _place_of(operation: Operation, chain: Chain) -> int:
    """Returns the place in the chain that an operation wants to follow."""
    if operation.prev_cid is None:
        raise PlcError(Reason.PLC_PREV_UNKNOWN, "it follows no other, but the DID is made already")
    for place in reversed(range(len(chain))):
        if chain[place].cid == operation.prev_cid:
            break
    else:
        raise PlcError(Reason.PLC_PREV_UNKNOWN, "the operation that it follows is not there")
    if chain[place].is_tombstone:
        raise PlcError(Reason.PLC_TOMBSTONED, "it follows a tombstone")
    return place


def _check_nullification(operation: Operation, created_us: int, chain: Chain, place: int) -> int:
    """Checks that an operation may make void what stands after a place; returns its signer."""
    keys, disputed = chain[place].rotation_keys, chain[place + 1]
    try:
        index = operation.signer_index(keys[: disputed.signer_index])
    except PlcError as error:
        if error.reason is Reason.SIGNATURE_INVALID:
            operation.signer_index(keys)  # raises unless a key did sign it that is not enough
            error = PlcError(
                Reason.PLC_KEY_PRIORITY,
                "its key is not more powerful than that of the operation it would make void",
            )
        raise error from None
    if created_us <= chain[-1].created_us:
        raise PlcError(
            Reason.PLC_TIME_ORDER, "it is not younger than the operations it would make void"
        )
    if created_us - disputed.created_us > RECOVERY_WINDOW_US:
        raise PlcError(
            Reason.PLC_TOO_LATE, "the operation it would make void is older than 72 hours"
        )
    return index


def _refined(
    error: PlcError,
    did: Did,
    position: int,
    logged: LogEntry | None,
    position_of: Mapping[bytes, int],
) -> PlcError:
    """Returns a refusal with what the whole log tells about it."""
    reason, detail = error.reason, error.detail
    if reason is Reason.PLC_PREV_UNKNOWN and logged is not None:
        prev_cid = logged.operation.prev_cid
        if prev_cid is not None and prev_cid in position_of:
            reason, detail = Reason.PLC_PREV_NULLIFIED, "the operation that it follows is void"
    return PlcError(reason, f"operation {position}: {detail}", did=did)
