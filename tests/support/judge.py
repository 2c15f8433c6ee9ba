"""The judge of a run: what Kafka holds against what the frames alone say it must hold."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from support.kafka import read_committed

from pipelines.atproto import atjson
from pipelines.atproto.cid import encode_cid
from pipelines.atproto.commit import VerifiedCommit
from pipelines.atproto.errors import DagCborError
from pipelines.atproto.frames import parse_envelope
from pipelines.config import KafkaConfig
from pipelines.identity.offline import OfflineKeys
from pipelines.kafka.topics import registry
from pipelines.verdict import Proven, judge_frame

Record = tuple[str, str, str, str | None, str]


def expected_records(frames: Sequence[bytes], keys: OfflineKeys) -> Counter[Record]:
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


def records_in_kafka(config: KafkaConfig) -> Counter[Record]:
    records: Counter[Record] = Counter()
    for topic in registry().specs["records"].topics:
        for message in read_committed(config, config.topic(topic)):
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
    stored = read_committed(config, config.topic("frames"))
    assert Counter(m.value for m in stored) == Counter(frames)
    assert _by_account(m.value or b"" for m in stored) == _by_account(frames)
    assert len(read_committed(config, config.topic("events"))) == len(frames)
    keys = OfflineKeys.load(capture / "identities.jsonl")
    assert records_in_kafka(config) == expected_records(frames, keys)


def _by_account(frames: Iterable[bytes]) -> dict[str, list[bytes]]:
    order = defaultdict(list)
    for frame in frames:
        order[str(parse_envelope(frame).did)].append(frame)
    return dict(order)
