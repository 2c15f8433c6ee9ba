"""The judge of a run: what Kafka holds against what it must hold, as multisets.

What must be there follows from the frames alone, or from the simulator's own log of what happened.
What is there may be read with any client.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, TypeVar, assert_never

from support.kafka import read_decided

from pipelines.atproto import atjson
from pipelines.atproto.cid import encode_cid
from pipelines.atproto.commit import VerifiedCommit
from pipelines.atproto.errors import DagCborError
from pipelines.atproto.frames import IdentityMessage, parse_envelope
from pipelines.config import KafkaConfig
from pipelines.identity.offline import OfflineKeys
from pipelines.kafka.messages import InputMessage
from pipelines.kafka.topics import registry
from pipelines.verdict import (
    KeyLookup,
    Proven,
    Refused,
    Skipped,
    Unsigned,
    Verdict,
    judge_frame,
)

Record = tuple[str, str, str, str | None, str]
Read: TypeAlias = Callable[[KafkaConfig, str], Sequence[InputMessage]]
_Item = TypeVar("_Item", bound=Hashable)


class Comparison(NamedTuple):
    """Two multisets.

    Attributes:
        what: of which things.
        expected_count: how many there must be.
        lost: those that are missing.
        surplus: those that are there too often, or should not be there.
    """

    what: str
    expected_count: int
    lost: Counter[Any]
    surplus: Counter[Any]

    @property
    def is_equal(self) -> bool:
        return not self.lost and not self.surplus

    def __str__(self) -> str:
        counts = f"{self.lost.total()} lost, {self.surplus.total()} too many"
        examples = [repr(item)[:200] for item in [*self.lost, *self.surplus][:3]]
        return f"{self.what}: {self.expected_count} expected, {counts} {' '.join(examples)}"


def compare(what: str, expected: Iterable[_Item], found: Iterable[_Item]) -> Comparison:
    """Compares what must be there with what is there, without regard to order."""
    wanted, had = Counter(expected), Counter(found)
    return Comparison(what, wanted.total(), wanted - had, had - wanted)


def compare_frames(
    config: KafkaConfig, frames: Sequence[bytes], read: Read = read_decided
) -> list[Comparison]:
    """Frames byte for byte, in order for each account, and with one event each."""
    stored = read(config, config.topic("frames"))
    values = [message.value or b"" for message in stored]
    return [
        compare("frames", frames, values),
        compare("orders of accounts", _orders(frames), _orders(values)),
        *compare_events(config, ((frame.partition, frame.offset) for frame in stored), read),
    ]


def compare_events(
    config: KafkaConfig, frames: Iterable[tuple[int, int]], read: Read = read_decided
) -> list[Comparison]:
    """One event for each frame, and those of an account in the order of its frames.

    Args:
        config: the cluster.
        frames: partition and offset of each.
        read: reads a topic.
    """
    events = [json.loads(event.value or b"") for event in read(config, config.topic("events"))]
    found = ((event["frame_partition"], event["frame_offset"]) for event in events)
    return [
        compare("events of frames", frames, found),
        compare("accounts whose events are out of order", [], _disordered(events)),
    ]


def _orders(frames: Iterable[bytes]) -> Iterable[tuple[str, tuple[bytes, ...]]]:
    order = defaultdict(list)
    for frame in frames:
        order[str(parse_envelope(frame).did)].append(frame)
    return ((did, tuple(own)) for did, own in order.items())


def _disordered(events: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    """Returns the accounts of which a frame's event comes after that of a later frame."""
    last: dict[str, int] = {}
    for event in events:
        did, offset = event["did"], event["frame_offset"]
        if offset <= last.get(did, -1):
            yield did
        last[did] = offset


def expected_records(frames: Sequence[bytes], keys: KeyLookup) -> Counter[Record]:
    """What the records must be, computed without Kafka, from the frames alone."""
    records: Counter[Record] = Counter()
    for frame in frames:
        verdict = judge_frame(frame, keys, None)
        if isinstance(verdict, Proven) and isinstance(verdict.verified, VerifiedCommit):
            commit = verdict.verified.commit
            for op, block in verdict.verified.ops:
                body = "null"
                if block is not None:
                    try:
                        body = _canonical(json.loads(atjson.to_json(block)))
                    except DagCborError as error:
                        body = error.reason
                uri = f"at://{commit.did}/{op.path}"
                cid = None if op.cid is None else encode_cid(op.cid)
                records[uri, commit.rev, op.action, cid, body] += 1
    return records


def records_in_kafka(config: KafkaConfig, read: Read = read_decided) -> Counter[Record]:
    records: Counter[Record] = Counter()
    for topic in registry().specs["records"].topics:
        for message in read(config, config.topic(topic)):
            record = json.loads(message.value or b"")
            body = record["record_error"] or _canonical(record["record"])
            names = ("uri", "rev", "operation", "cid")
            uri, rev, operation, cid = (record[name] for name in names)
            records[uri, rev, operation, cid, body] += 1
    return records


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True)


def assert_nothing_lost_or_twice(
    config: KafkaConfig, capture: Path, frames: Sequence[bytes]
) -> None:
    """Frames byte for byte and in order, an event each, and the records that they prove."""
    keys = OfflineKeys.load(capture / "identities.jsonl")
    records = compare(
        "records", expected_records(frames, keys).elements(), records_in_kafka(config).elements()
    )
    wrong = [
        str(found) for found in (*compare_frames(config, frames), records) if not found.is_equal
    ]
    assert not wrong, "\n".join(wrong)


def assert_judged_once_and_in_order(config: KafkaConfig, keys: KeyLookup) -> None:
    """Every frame has its event or its refusal, each account's in the order of its frames."""
    stored = {(m.partition, m.offset): m for m in read_decided(config, config.topic("frames"))}
    verdicts = {
        where: judge_frame(message.value or b"", keys, received_us_of(message))
        for where, message in stored.items()
    }
    order: dict[str, list[int]] = defaultdict(list)
    kinds: dict[tuple[int, int], str] = {}
    for message in read_decided(config, config.topic("events")):
        event = json.loads(message.value or b"")
        where = (event["frame_partition"], event["frame_offset"])
        assert where not in kinds, f"two events of the frame at {where}"
        kinds[where] = event["kind"]
        order[event["did"]].append(event["frame_offset"])
    expected = {
        where: kind
        for where, verdict in verdicts.items()
        if (kind := _event_kind(verdict)) is not None
    }
    wrong = compare("kinds of events", expected.items(), kinds.items())
    assert wrong.is_equal, str(wrong)
    for did, offsets in order.items():
        assert offsets == sorted(offsets), did
    reasons = Counter(
        (int(headers["q.partition"]), int(headers["q.offset"]), headers["q.reason"].decode())
        for headers in map(_headers, read_decided(config, config.topic("quarantine")))
    )
    assert reasons == Counter(
        (*where, str(verdict.error.reason))
        for where, verdict in verdicts.items()
        if isinstance(verdict, Refused)
    )
    frames = [message.value or b"" for message in stored.values()]
    assert records_in_kafka(config) == expected_records(frames, keys)


def still_parked(config: KafkaConfig) -> set[bytes]:
    """Returns the keys of the frames that wait."""
    last = {m.key: m.value for m in read_decided(config, config.topic("parked"))}
    return {key for key, value in last.items() if key is not None and value is not None}


def received_us_of(message: InputMessage) -> int:
    return int(_headers(message)["received_us"])


def _event_kind(verdict: Verdict) -> str | None:
    match verdict:
        case Proven(verified):
            return "commit" if isinstance(verified, VerifiedCommit) else "sync"
        case Unsigned(message):
            return "identity" if isinstance(message, IdentityMessage) else "account"
        case Refused():
            return None if verdict.authentic is None else "refused"
        case Skipped():
            return None
        case _:
            assert_never(verdict)


def _headers(message: InputMessage) -> dict[str, bytes]:
    return dict(message.headers)
