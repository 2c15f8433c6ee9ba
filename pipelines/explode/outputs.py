"""From a verdict to messages: the event, one record message per op, or a quarantined frame.

Pure: a frame, its verdict and where it came from go in, Kafka messages come out. The shapes are
the contracts in `schemas/` (event, record, quarantine).
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, assert_never

import orjson

from pipelines.atproto import atjson
from pipelines.atproto.cid import encode_cid
from pipelines.atproto.commit import VerifiedCommit, VerifiedOp, VerifiedSync
from pipelines.atproto.errors import DagCborError, Reason
from pipelines.atproto.frames import AccountMessage, IdentityMessage
from pipelines.explode.pointers import Pointer
from pipelines.explode.sources import Source
from pipelines.kafka.admission import Admissions
from pipelines.kafka.messages import Headers, InputMessage, OutputMessage
from pipelines.kafka.quarantine import quarantine_headers
from pipelines.verdict import Proven, Refused, Skipped, Verdict

# A commit of 2 MB can name one record of 1 MB in 200 ops, and JSON escapes grow text sixfold.
# An event stays below the 8 MiB limit of its topic: JSON up to the budget, after that CBOR in
# base64 (2.7 MB at most), each record once.
EVENT_JSON_BUDGET_BYTES = 4 * 1024 * 1024
# All record messages of one commit. Beyond it they go out without their body.
RECORDS_BUDGET_BYTES = 16 * 1024 * 1024

_Body: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class OutputTopics:
    """Physical topic names, and which collections have one of their own.

    Attributes:
        records_other: takes the collections that are not admitted.
        records_by_collection: for each collection that is or was admitted.
        admissions: tells which of these are, for a frame.
        has_blocks: whether the messages of records have their blocks beside the JSON, too.
    """

    events: str
    quarantine: str
    identities: str
    parked: str
    records_other: str
    records_by_collection: Mapping[str, str]
    admissions: Admissions
    has_blocks: bool = False

    def records_of(self, collection: str, frame: InputMessage) -> str:
        """Returns where the records of a collection in a frame go."""
        if self.admissions.admits(collection, frame.partition, frame.offset):
            return self.records_by_collection[collection]
        return self.records_other


def outputs_of(verdict: Verdict, source: Source, topics: OutputTopics) -> list[OutputMessage]:
    """Returns the messages that one frame causes, the event first."""
    if isinstance(verdict, Refused):
        return _refused_outputs(verdict, source, topics)
    if isinstance(verdict, Skipped):
        return []
    judged = verdict.verified if isinstance(verdict, Proven) else verdict.message
    match judged:
        case VerifiedCommit():
            return _commit_outputs(judged, source, topics)
        case VerifiedSync(message, commit, commit_cid):
            event = _event(source, "sync", message.did, message.seq, message.time) | {
                "rev": commit.rev,
                "commit": encode_cid(commit_cid),
                "data": encode_cid(commit.data_cid),
                "commit_block": _base64(commit.block),
            }
        case IdentityMessage():
            event = _event(source, "identity", judged.did, judged.seq, judged.time)
            event |= {"handle": judged.handle}
        case AccountMessage():
            event = _event(source, "account", judged.did, judged.seq, judged.time)
            event |= {"active": judged.active, "status": judged.status}
        case _:
            assert_never(judged)
    return [_event_message(event, source, topics)]


def _commit_outputs(
    verified: VerifiedCommit, source: Source, topics: OutputTopics
) -> list[OutputMessage]:
    message, commit = verified.message, verified.commit
    common = _event(source, "commit", message.did, message.seq, message.time)
    bodies = _bodies(verified.ops)
    event = common | {
        "rev": message.rev,
        "since": message.since,
        "commit": encode_cid(message.commit_cid),
        "data": encode_cid(commit.data_cid),
        "prev_data": _cid_text(message.prev_data),
        "commit_block": _base64(commit.block),
        "ops": _event_ops(verified.ops, bodies),
    }
    outputs = [_event_message(event, source, topics)]
    budget_bytes = RECORDS_BUDGET_BYTES
    for verified_op in verified.ops:
        op = verified_op.op
        body = bodies.get(op.cid, _NO_BODY)
        if topics.has_blocks and verified_op.record is not None:
            body = body | {"record_cbor": _base64(verified_op.record)}
        uri = f"at://{message.did}/{op.path}"
        record = {
            "uri": uri,
            "did": message.did,
            "collection": op.collection,
            "rkey": op.rkey,
            "operation": op.action,
            "cid": _cid_text(op.cid),
            "prev": _cid_text(op.prev),
            "rev": message.rev,
            "seq": message.seq,
            "host": source.host,
            "time": message.time,
            "received_us": source.received_us,
            "frame_partition": source.message.partition,
            "frame_offset": source.message.offset,
        }
        value = orjson.dumps(record | body)
        budget_bytes -= len(value)
        if budget_bytes < 0:
            value = orjson.dumps(record | _NO_BODY | {"record_error": Reason.JSON_TOO_LARGE})
        headers: Headers = [
            ("did", message.did.encode()),
            ("kind", b"record"),
            ("collection", op.collection.encode()),
            ("operation", op.action.encode()),
            ("rev", message.rev.encode()),
        ]
        topic = topics.records_of(op.collection, source.message)
        outputs.append(_message(topic, uri.encode(), value, headers, source))
    return outputs


_NO_BODY: _Body = {"record": None, "record_error": None, "record_cbor": None}


def _bodies(ops: Sequence[VerifiedOp]) -> dict[bytes | None, _Body]:
    """Returns the body fields of every record of a commit, by CID; each is converted once."""
    bodies: dict[bytes | None, _Body] = {}
    budget_bytes = EVENT_JSON_BUDGET_BYTES
    for op, record in ops:
        if record is None or op.cid in bodies:
            continue
        try:
            json = atjson.to_json(record)
            if len(json) > budget_bytes:
                raise DagCborError(Reason.JSON_TOO_LARGE, "over the budget of its commit")
        except DagCborError as error:
            # Odd, not invalid: its path and CID stand, and its bytes are passed on. The commit
            # is never refused for it.
            odd = {"record_error": error.reason, "record_cbor": _base64(record)}
            bodies[op.cid] = _NO_BODY | odd
        else:
            budget_bytes -= len(json)
            bodies[op.cid] = _NO_BODY | {"record": orjson.Fragment(json)}
    return bodies


def _event_ops(
    ops: Sequence[VerifiedOp], bodies: Mapping[bytes | None, _Body]
) -> list[dict[str, Any]]:
    first_index: dict[bytes, int] = {}
    event_ops = []
    for index, (op, _) in enumerate(ops):
        record_from = None
        body = _NO_BODY
        if op.cid is not None:
            first = first_index.setdefault(op.cid, index)
            if first == index:
                body = bodies[op.cid]
            else:
                record_from = first
        event_ops.append(
            {
                "operation": op.action,
                "collection": op.collection,
                "rkey": op.rkey,
                "cid": _cid_text(op.cid),
                "prev": _cid_text(op.prev),
                **body,
                "record_from": record_from,
            }
        )
    return event_ops


def _refused_outputs(
    verdict: Refused, source: Source, topics: OutputTopics
) -> list[OutputMessage]:
    error, envelope, authentic = verdict.error, verdict.envelope, verdict.authentic
    frame = source.message
    headers = frame.headers + quarantine_headers(error.reason, "explode", error.detail, frame)
    outputs = [_message(topics.quarantine, frame.key, frame.value, headers, source)]
    if envelope is not None and envelope.seq is not None and authentic is not None:
        commit = authentic.commit
        event = _event(source, "refused", commit.did, envelope.seq, envelope.time) | {
            "refused_kind": envelope.kind,
            "rev": commit.rev,
            "commit": encode_cid(authentic.commit_cid),
            "data": encode_cid(commit.data_cid),
            "reason": error.reason,
            "detail": error.detail,
        }
        outputs.insert(0, _event_message(event, source, topics))
    return outputs


def given_up_outputs(
    pointer: Pointer, frame: InputMessage | None, detail: str, topics: OutputTopics
) -> list[OutputMessage]:
    """Returns the messages of a frame that waited for its account's identity in vain.

    Args:
        pointer: names the frame.
        frame: the frame; None if the topic no longer has it: then nothing is left to keep.
        detail: why it was given up.
        topics: where outputs go.
    """
    reason = Reason.IDENTITY_UNAVAILABLE
    event = {
        "kind": "unresolved",
        "did": pointer.did,
        "seq": pointer.seq,
        "host": pointer.host,
        "time": None,
        "received_us": pointer.received_us,
        "frame_partition": pointer.frame_partition,
        "frame_offset": pointer.frame_offset,
        "reason": reason,
        "detail": detail,
    }
    where, timestamp_ms = pointer.frame_partition, pointer.received_us // 1000
    did = pointer.did.encode()
    headers: Headers = [("did", did), ("kind", b"unresolved")]
    value = orjson.dumps(event)
    outputs = [OutputMessage(topics.events, where, did, value, headers, timestamp_ms)]
    if frame is not None:
        headers = frame.headers + quarantine_headers(reason, "explode", detail, frame)
        outputs.append(
            OutputMessage(topics.quarantine, where, frame.key, frame.value, headers, timestamp_ms)
        )
    return outputs


def _event(source: Source, kind: str, did: str, seq: int, time: str | None) -> dict[str, Any]:
    return {
        "kind": kind,
        "did": did,
        "seq": seq,
        "host": source.host,
        "time": time,
        "received_us": source.received_us,
        "frame_partition": source.message.partition,
        "frame_offset": source.message.offset,
    }


def _event_message(event: dict[str, Any], source: Source, topics: OutputTopics) -> OutputMessage:
    did = event["did"].encode()
    headers: Headers = [("did", did), ("kind", event["kind"].encode())]
    if "rev" in event:
        headers.append(("rev", event["rev"].encode()))
    return _message(topics.events, did, orjson.dumps(event), headers, source)


def _message(
    topic: str, key: bytes | None, value: bytes | None, headers: Headers, source: Source
) -> OutputMessage:
    # All topics are co-partitioned: what a frame causes stays in the frame's partition.
    timestamp_ms = source.received_us // 1000
    return OutputMessage(topic, source.message.partition, key, value, headers, timestamp_ms)


def _cid_text(cid: bytes | None) -> str | None:
    return None if cid is None else encode_cid(cid)


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
