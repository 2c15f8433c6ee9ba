"""The messages of `events` as typed values (schema: `schemas/json/events`).

They were proven and written by explode in this form, so only their shape is taken apart here; a
message of another shape is a defect, and ends the process.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import orjson

from pipelines.atproto.frames import Action
from pipelines.atproto.syntax import Did, Nsid, RecordKey, Tid


class Source(NamedTuple):
    """Where a state or a record comes from: an event, or the answer of a server that was asked.

    Attributes:
        host: the upstream, or the host that was asked.
        seq: the upstream's sequence number; None for an answer.
        time: the upstream's clock, RFC 3339; None where a refused frame had none, and for an
            answer.
        received_us: when the bridge received the frame or the server was asked, microseconds
            since the epoch.
        frame_partition: partition of `frames` that holds the frame; None for an answer.
        frame_offset: its offset there; None for an answer.
        snapshot_offset: offset of the answer in `snapshots`, same partition; None for an event.
    """

    host: str
    seq: int | None
    time: str | None
    received_us: int
    frame_partition: int | None
    frame_offset: int | None
    snapshot_offset: int | None = None


class Signed(NamedTuple):
    """The commit that an account signed.

    Attributes:
        rev: revision.
        commit: CID of the commit block, as text.
        data: CID of the tree's root, as text.
    """

    rev: Tid
    commit: str
    data: str


class Body(NamedTuple):
    """A record as messages carry it; see `schemas/README.md`, "Records without JSON".

    Attributes:
        record: the record, or None where there is no faithful JSON form.
        record_error: why there is none, or None.
        record_cbor: the block in base64 where there is none, or None.
    """

    record: dict[str, Any] | None
    record_error: str | None
    record_cbor: str | None


class EventOp(NamedTuple):
    """One proven operation of a commit.

    Attributes:
        action: what happened.
        collection: NSID.
        rkey: record key.
        cid: the record's CID afterwards, as text; None for a delete.
        prev: the record's CID before, as text; None for a create.
        body: the record afterwards; None for a delete.
    """

    action: Action
    collection: Nsid
    rkey: RecordKey
    cid: str | None
    prev: str | None
    body: Body | None

    @property
    def path(self) -> str:
        """The record's path in its repository."""
        return f"{self.collection}/{self.rkey}"


@dataclass(frozen=True, slots=True)
class CommitEvent:
    """A proven commit.

    Attributes:
        did: the repository.
        source: where it comes from.
        signed: the signed commit.
        since: claimed revision of the commit before, or None.
        prev_data: root of the tree before, or None for the empty tree of a first commit.
        commit_block: the signed commit block in base64.
        ops: the complete difference between the two trees.
    """

    did: Did
    source: Source
    signed: Signed
    since: Tid | None
    prev_data: str | None
    commit_block: str
    ops: tuple[EventOp, ...]


@dataclass(frozen=True, slots=True)
class SyncEvent:
    """A proven statement of a repository's current commit, without its operations.

    Attributes:
        did: the repository.
        source: where it comes from.
        signed: the signed commit.
        commit_block: the signed commit block in base64.
    """

    did: Did
    source: Source
    signed: Signed
    commit_block: str


@dataclass(frozen=True, slots=True)
class RefusedEvent:
    """An authentic commit whose message was refused.

    Attributes:
        did: the repository.
        source: where it comes from.
        signed: the signed commit.
        reason: why it was refused.
    """

    did: Did
    source: Source
    signed: Signed
    reason: str


@dataclass(frozen=True, slots=True)
class UnresolvedEvent:
    """A commit or sync that nobody could prove or refuse: its account's key was not to be had.

    Attributes:
        did: the repository.
        source: where it comes from.
        reason: why it was given up.
    """

    did: Did
    source: Source
    reason: str


@dataclass(frozen=True, slots=True)
class AccountEvent:
    """The hosting status of an account, as the upstream states it.

    Attributes:
        did: the account.
        source: where it comes from.
        active: whether the repository may be shown.
        status: why not, an open set, or None.
    """

    did: Did
    source: Source
    active: bool
    status: str | None


@dataclass(frozen=True, slots=True)
class IdentityEvent:
    """A hint that a DID document changed.

    Attributes:
        did: the account.
        source: where it comes from.
    """

    did: Did
    source: Source


SignedEvent: TypeAlias = CommitEvent | SyncEvent | RefusedEvent
Event: TypeAlias = SignedEvent | UnresolvedEvent | AccountEvent | IdentityEvent


def parse_event(value: bytes) -> Event:
    """Takes a message of `events` apart.

    Args:
        value: JSON, version 1.

    Raises:
        ValueError: it is of another shape, which a newer explode may have written.
    """
    try:
        fields = orjson.loads(value)
        return _PARSERS[fields["kind"]](Did(fields["did"]), parse_source(fields), fields)
    except (KeyError, TypeError) as error:
        raise ValueError(f"not an event of version 1: {error!r}") from error


def parse_source(fields: dict[str, Any]) -> Source:
    """Returns the fields that every message has about where it comes from."""
    return Source(
        fields["host"],
        fields["seq"],
        fields["time"],
        fields["received_us"],
        fields["frame_partition"],
        fields["frame_offset"],
        fields.get("snapshot_offset"),  # events have none
    )


def _signed(fields: dict[str, Any]) -> Signed:
    return Signed(Tid(fields["rev"]), fields["commit"], fields["data"])


def _commit(did: Did, source: Source, fields: dict[str, Any]) -> Event:
    ops = fields["ops"]
    return CommitEvent(
        did,
        source,
        _signed(fields),
        fields["since"],
        fields["prev_data"],
        fields["commit_block"],
        tuple([_op(op, ops) for op in ops]),
    )


def _op(op: dict[str, Any], ops: list[dict[str, Any]]) -> EventOp:
    action = _ACTIONS[op["operation"]]
    body = None
    if action is not Action.DELETE:
        # A record that several operations name stands in the first of them.
        index = op["record_from"]
        holder = op if index is None else ops[index]
        body = Body(holder["record"], holder["record_error"], holder["record_cbor"])
    return EventOp(
        action, Nsid(op["collection"]), RecordKey(op["rkey"]), op["cid"], op["prev"], body
    )


def _sync(did: Did, source: Source, fields: dict[str, Any]) -> Event:
    return SyncEvent(did, source, _signed(fields), fields["commit_block"])


def _refused(did: Did, source: Source, fields: dict[str, Any]) -> Event:
    return RefusedEvent(did, source, _signed(fields), fields["reason"])


def _unresolved(did: Did, source: Source, fields: dict[str, Any]) -> Event:
    return UnresolvedEvent(did, source, fields["reason"])


def _account(did: Did, source: Source, fields: dict[str, Any]) -> Event:
    return AccountEvent(did, source, fields["active"], fields["status"])


def _identity(did: Did, source: Source, _fields: dict[str, Any]) -> Event:
    return IdentityEvent(did, source)


_ACTIONS = {action.value: action for action in Action}
_PARSERS = {
    "commit": _commit,
    "sync": _sync,
    "refused": _refused,
    "unresolved": _unresolved,
    "account": _account,
    "identity": _identity,
}
