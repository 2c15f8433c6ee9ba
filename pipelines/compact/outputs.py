"""From a new state to messages: the repository in `repos`, its records in `latest.*`.

Pure. The shapes are the contracts in `schemas/` (repos, latest).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import orjson

from pipelines.atproto.errors import Reason
from pipelines.atproto.frames import Action
from pipelines.atproto.syntax import Did, Tid, parse_path
from pipelines.compact.events import Body, EventOp, Source
from pipelines.compact.state import RepoState, encode_repo
from pipelines.kafka.messages import Headers, OutputMessage

# All records of one commit. A hostile one can name a record of 1 MB in 200 operations, and JSON
# escapes grow text sixfold: beyond the budget records go out without their body.
RECORDS_BUDGET_BYTES = 16 * 1024 * 1024

# Operation of a null in a topic where a collection's records were before.
MOVE: Final = b"move"

_TOO_LARGE = Body(None, Reason.JSON_TOO_LARGE, None)


@dataclass(frozen=True, slots=True)
class OutputTopics:
    """Physical topic names, and which collections have one of their own.

    Attributes:
        repos: of the repositories.
        latest_other: takes the collections that are not admitted.
        latest_by_collection: of those that are.
        former: for collections that were admitted, or were not, at another time: the topics that
            may hold their records from then.
    """

    repos: str
    resyncs: str
    latest_other: str
    latest_by_collection: Mapping[str, str]
    former: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def latest(self) -> tuple[str, ...]:
        """The names of all topics of records, former ones included."""
        former = {topic for topics in self.former.values() for topic in topics}
        return tuple(sorted({self.latest_other, *self.latest_by_collection.values(), *former}))

    def latest_of(self, collection: str) -> str:
        """Returns the topic of a collection's records."""
        return self.latest_by_collection.get(collection, self.latest_other)


class RecordHeaders(NamedTuple):
    """What the headers of a message in `latest.*` say that the state needs.

    Attributes:
        rev: revision of the commit that the message comes from.
        cid: CID of the record as text; None for a null.
    """

    rev: Tid
    cid: str | None


def repo_message(state: RepoState, partition: int, topics: OutputTopics) -> OutputMessage:
    """Returns the message of `repos` for a state."""
    headers: Headers = [
        ("did", state.did.encode()),
        ("sync", state.sync.encode()),
        ("active", _flag(state.active)),
    ]
    return OutputMessage(
        topics.repos,
        partition,
        state.did.encode(),
        encode_repo(state),
        headers,
        state.source.received_us // 1000,
    )


def record_messages(
    did: Did,
    rev: Tid,
    ops: Iterable[EventOp],
    source: Source,
    partition: int,
    topics: OutputTopics,
) -> list[OutputMessage]:
    """Returns the messages of `latest.*` for the operations of a commit, in their order.

    Args:
        did: the repository.
        rev: revision of the commit or snapshot.
        ops: operations on its records.
        source: the event, or the snapshot, which makes the change one that is not live.
        partition: of the repository.
        topics: where outputs go.
    """
    messages = []
    budget_bytes = RECORDS_BUDGET_BYTES
    for op in ops:
        value = None
        if op.body is not None:
            value = _record_value(did, rev, op, op.body, source)
            budget_bytes -= len(value)
            if budget_bytes < 0:
                value = _record_value(did, rev, op, _TOO_LARGE, source)
        messages.append(_record_message(did, rev, op, value, source, partition, topics))
        messages += _moved_messages(did, rev, op, source, partition, topics)
    return messages


def tombstone_messages(
    did: Did, path: str, prev: str, state: RepoState, partition: int, topics: OutputTopics
) -> list[OutputMessage]:
    """Returns the tombstones of a record that goes with its deleted account.

    Args:
        did: the repository.
        path: of the record.
        prev: the record's CID, as text.
        state: of the repository; its `deleted_rev` is the tombstone's revision.
        partition: of the repository.
        topics: where outputs go.
    """
    assert state.deleted_rev is not None
    op = EventOp(Action.DELETE, *parse_path(path), None, prev, None)
    rev, source = state.deleted_rev, state.source
    return [
        _record_message(did, rev, op, None, source, partition, topics),
        *_moved_messages(did, rev, op, source, partition, topics),
    ]


def record_headers(headers: Headers) -> RecordHeaders:
    """Reads the headers of a message of `latest.*`."""
    found = dict(headers)
    cid = found.get("cid")
    return RecordHeaders(Tid(found["rev"].decode()), None if cid is None else cid.decode())


def record_address(key: bytes) -> tuple[Did, str]:
    """Returns DID and path of the record that a key of `latest.*` names."""
    did, _, path = key.decode().removeprefix("at://").partition("/")
    return Did(did), path


def collection_of(path: str) -> str:
    """Returns the collection of a record's path."""
    return path.partition("/")[0]


def _record_value(did: Did, rev: Tid, op: EventOp, body: Body, source: Source) -> bytes:
    return orjson.dumps(
        {
            "uri": f"at://{did}/{op.path}",
            "did": did,
            "collection": op.collection,
            "rkey": op.rkey,
            "cid": op.cid,
            "rev": rev,
            **source._asdict(),
            **body._asdict(),
        }
    )


def _moved_messages(
    did: Did, rev: Tid, op: EventOp, source: Source, partition: int, topics: OutputTopics
) -> Iterator[OutputMessage]:
    """Yields what takes a record out of the topics where its collection's records were before.

    One that is new cannot be there: if it ever was, its deletion took it out.
    """
    if op.prev is None:
        return
    for topic in topics.former.get(op.collection, ()):
        message = _record_message(did, rev, op, None, source, partition, topics)
        headers = message.headers
        if op.cid is not None:
            headers = [
                (name, MOVE if name == "operation" else text)
                for name, text in headers
                if name != "cid"
            ]
        yield message._replace(topic=topic, headers=headers)


def _record_message(
    did: Did,
    rev: Tid,
    op: EventOp,
    value: bytes | None,
    source: Source,
    partition: int,
    topics: OutputTopics,
) -> OutputMessage:
    headers: Headers = [
        ("did", did.encode()),
        ("collection", op.collection.encode()),
        ("operation", op.action.encode()),
        ("rev", rev.encode()),
        ("live", _flag(source.snapshot_offset is None)),
    ]
    if op.cid is not None:
        headers.append(("cid", op.cid.encode()))
    if op.prev is not None:
        headers.append(("prev", op.prev.encode()))
    return OutputMessage(
        topics.latest_of(op.collection),
        partition,
        f"at://{did}/{op.path}".encode(),
        value,
        headers,
        source.received_us // 1000,
    )


def _flag(value: bool) -> bytes:
    return b"true" if value else b"false"
