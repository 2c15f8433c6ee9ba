"""Made-up events of `events`, as compact gets them. CIDs are short names: nobody parses them."""

from typing import Any, assert_never

import orjson

from pipelines.atproto.frames import Action
from pipelines.atproto.syntax import Did, Nsid, RecordKey, Tid
from pipelines.compact.events import (
    AccountEvent,
    Body,
    CommitEvent,
    Event,
    EventOp,
    IdentityEvent,
    RefusedEvent,
    Signed,
    Source,
    SyncEvent,
    UnresolvedEvent,
)

DID = Did("did:plc:ewvi7nxzyoun6zhxrhs64oiz")
HOST = "relay.example"


def rev(number: int) -> Tid:
    """Returns the revision of a number; they sort like the numbers."""
    digits = f"{number:011d}".translate(str.maketrans("0123456789", "234567abcd"))
    return Tid(f"3l{digits}")


def source(seq: int = 1, host: str = HOST, second: int = 0) -> Source:
    return Source(host, seq, f"2026-11-01T00:00:{second:02}Z", 1_000_000 + seq, 0, seq)


def signed(number: int, data: str | None = None) -> Signed:
    return Signed(rev(number), f"commit-{number}", data or f"root-{number}")


def create(path: str, cid: str) -> EventOp:
    collection, _, rkey = path.partition("/")
    body = Body({"$type": collection, "cid": cid}, None, None)
    return EventOp(Action.CREATE, Nsid(collection), RecordKey(rkey), cid, None, body)


def delete(path: str, prev: str) -> EventOp:
    collection, _, rkey = path.partition("/")
    return EventOp(Action.DELETE, Nsid(collection), RecordKey(rkey), None, prev, None)


def commit(number: int, since: int | None, *ops: EventOp, **changes: Any) -> CommitEvent:
    """Returns the commit `number` that continues the commit `since`, by revision and by root."""
    fields: dict[str, Any] = {
        "did": DID,
        "source": source(number),
        "signed": signed(number),
        "since": None if since is None else rev(since),
        "prev_data": None if since is None else f"root-{since}",
        "commit_block": f"block-{number}",
        "ops": ops,
    }
    return CommitEvent(**fields | changes)


def sync(number: int, data: str | None = None) -> SyncEvent:
    return SyncEvent(DID, source(number), signed(number, data), f"block-{number}")


def refused(number: int, reason: str = "commit.path_twice") -> RefusedEvent:
    return RefusedEvent(DID, source(number), signed(number), reason)


def unresolved(seq: int, reason: str = "identity.unavailable") -> UnresolvedEvent:
    return UnresolvedEvent(DID, source(seq), reason)


def account(
    seq: int,
    *,
    active: bool = True,
    status: str | None = None,
    did: Did = DID,
    host: str = HOST,
    second: int = 0,
) -> AccountEvent:
    return AccountEvent(did, source(seq, host, second), active, status)


def identity(seq: int) -> IdentityEvent:
    return IdentityEvent(DID, source(seq))


def encode_event(event: Event) -> bytes:
    """Returns an event as explode writes it."""
    fields: dict[str, Any] = {"did": event.did, **event.source._asdict()}
    match event:
        case CommitEvent():
            fields |= {"kind": "commit", **event.signed._asdict(), "since": event.since}
            fields |= {"prev_data": event.prev_data, "commit_block": event.commit_block}
            fields["ops"] = [_op_fields(op) for op in event.ops]
        case SyncEvent():
            fields |= {"kind": "sync", **event.signed._asdict()}
            fields["commit_block"] = event.commit_block
        case RefusedEvent():
            fields |= {"kind": "refused", **event.signed._asdict(), "reason": event.reason}
        case UnresolvedEvent():
            fields |= {"kind": "unresolved", "reason": event.reason}
        case AccountEvent():
            fields |= {"kind": "account", "active": event.active, "status": event.status}
        case IdentityEvent():
            fields["kind"] = "identity"
        case _:
            assert_never(event)
    return orjson.dumps(fields)


def _op_fields(op: EventOp) -> dict[str, Any]:
    fields = {
        "operation": op.action,
        "collection": op.collection,
        "rkey": op.rkey,
        "cid": op.cid,
        "prev": op.prev,
        "record_from": None,
    }
    body = op.body or Body(None, None, None)
    return fields | body._asdict()
