"""The messages of `resyncs`, `chunks` and `snapshots`: to and fro, and what the contracts say."""

import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from support.oracle import cid_of, dag_cbor

from pipelines.atproto import mst
from pipelines.atproto.atjson import MAX_JSON_BYTES
from pipelines.atproto.cid import parse_cid
from pipelines.atproto.syntax import Did, Tid
from pipelines.compact.state import encode_repo, parse_repo
from pipelines.kafka.messages import OutputMessage
from pipelines.kafka.topics import registry, validator
from pipelines.repair.chunks import (
    CHUNK_BYTES,
    chunk_message,
    encode_chunk,
    encode_record,
    parse_chunk,
)
from pipelines.repair.manifests import manifest_message, parse_manifest
from pipelines.repair.requests import parse_request, request_message

_FOLDER = Path(__file__).parents[2] / "schemas" / "examples"
_DID = Did("did:plc:ewvi7nxzyoun6zhxrhs64oiz")
_REV = Tid("3mvzvhgmyc22b")


def examples(topic: str) -> list[Any]:
    return [
        pytest.param(json.loads(file.read_bytes()), id=file.stem)
        for file in sorted((_FOLDER / topic / "v1").iterdir())
    ]


def header_names(topic: str) -> list[str]:
    return [header.name for header in registry().specs[topic].headers]


def check(message: OutputMessage, topic: str, fields: dict[str, Any], time_us: int) -> None:
    assert message.topic == f"p.{topic}"
    assert message.partition == 3
    assert message.key == fields["did"].encode()
    assert orjson.loads(message.value or b"") == fields
    assert message.timestamp_ms == time_us // 1_000
    assert [name for name, _ in message.headers] == header_names(topic)
    for name, value in message.headers:
        assert value.decode() == fields[name]


@pytest.mark.parametrize("fields", examples("resyncs"))
def test_a_request_comes_back(fields: dict[str, Any]) -> None:
    request = parse_request(orjson.dumps(fields))
    message = request_message(request, 3, "p.resyncs")
    check(message, "resyncs", fields, request.requested_us)


@pytest.mark.parametrize("fields", examples("snapshots"))
def test_an_answer_comes_back(fields: dict[str, Any]) -> None:
    manifest = parse_manifest(orjson.dumps(fields))
    message = manifest_message(manifest, 3, "p.snapshots")
    check(message, "snapshots", fields, manifest.fetched_us)


@pytest.mark.parametrize("fields", examples("chunks"))
def test_a_chunk_comes_back(fields: dict[str, Any]) -> None:
    chunk = parse_chunk(orjson.dumps(fields))
    records = [orjson.dumps(record._asdict()) for record in chunk.records]
    value = encode_chunk(chunk.did, chunk.rev, chunk.index, records)
    message = chunk_message(chunk.did, chunk.rev, value, 1_790_000_011_912_337, 3, "p.chunks")
    check(message, "chunks", fields, 1_790_000_011_912_337)
    assert [record.path for record in chunk.records] == [
        f"{record['collection']}/{record['rkey']}" for record in fields["records"]
    ]


@pytest.mark.parametrize(
    ("topic", "parse"),
    [("resyncs", parse_request), ("snapshots", parse_manifest), ("chunks", parse_chunk)],
)
def test_another_shape_is_refused(topic: str, parse: Callable[[bytes], object]) -> None:
    (fields, *_), *_ = (param.values for param in examples(topic))
    assert isinstance(fields, dict)
    for name in fields:
        less = {key: value for key, value in fields.items() if key != name}
        with pytest.raises(ValueError, match=r"not an? .* of version 1"):
            parse(orjson.dumps(less))
    for name in {"cause", "kind"} & fields.keys():
        with pytest.raises(ValueError, match="some"):
            parse(orjson.dumps({**fields, name: "some"}))


def test_records_go_into_chunks_as_json_or_else_as_cbor() -> None:
    plain = dag_cbor({"$type": "com.example.note", "text": "a"})
    odd = dag_cbor({"$type": "com.example.note", "$link": "not a link"})
    records = [
        encode_record("com.example.note", f"3mvzvgbqvc22{rkey}", cid_of(block), block)
        for rkey, block in (("b", plain), ("c", odd))
    ]
    value = encode_chunk(_DID, _REV, 7, records)
    validator("chunks", 1).validate(orjson.loads(value))
    chunk = parse_chunk(value)
    assert (chunk.did, chunk.rev, chunk.index) == (_DID, _REV, 7)
    first, second = chunk.records
    assert first.record == {"$type": "com.example.note", "text": "a"}
    assert (first.record_error, first.record_cbor) == (None, None)
    assert (second.record, second.record_error) == (None, "json.ambiguous")
    assert base64.b64decode(second.record_cbor or "") == odd
    assert [parse_cid(record.cid) for record in chunk.records] == [cid_of(plain), cid_of(odd)]


def test_the_largest_chunk_fits_into_its_topic() -> None:
    # Text of control characters: six bytes of JSON for each; and a record that goes out as CBOR.
    for block in (
        dag_cbor({"$type": "com.example.note", "text": "\x01" * (MAX_JSON_BYTES // 6 - 1_000)}),
        dag_cbor({"$type": "com.example.note", "$link": "x" * 1024 * 1024}),
    ):
        record = encode_record("com.example.note", "a" * 512, cid_of(block), block)
        small = encode_record("com.example.note", "b", cid_of(b"\xa0"), b"\xa0")
        before = [small] * (CHUNK_BYTES // len(small))
        value = encode_chunk(_DID, _REV, 0, [*before, record])
        assert len(record) > 1_000_000
        assert len(value) < int(registry().specs["chunks"].configs["max.message.bytes"]) // 2


# --- the examples belong together


def test_the_example_of_a_snapshot_has_its_chunks() -> None:
    (manifest,) = (
        fields
        for fields in (param.values[0] for param in examples("snapshots"))
        if isinstance(fields, dict) and fields.get("records_count")
    )
    chunks = sorted(
        (parse_chunk(file.read_bytes()) for file in (_FOLDER / "chunks" / "v1").iterdir()),
        key=lambda chunk: chunk.index,
    )
    records = [record for chunk in chunks for record in chunk.records]
    root = mst.root_of((record.path, parse_cid(record.cid)) for record in records)
    assert root == parse_cid(manifest["data"])
    assert (len(records), len(chunks)) == (manifest["records_count"], manifest["chunks_count"])
    values = [
        encode_chunk(
            chunk.did,
            chunk.rev,
            chunk.index,
            [orjson.dumps(record._asdict()) for record in chunk.records],
        )
        for chunk in chunks
    ]
    assert hashlib.sha256(b"".join(values)).hexdigest() == manifest["chunks_sha256"]


@pytest.mark.parametrize("fields", examples("repos"))
def test_the_examples_of_repositories_come_back(fields: dict[str, Any]) -> None:
    state = parse_repo(orjson.dumps(fields))
    assert orjson.loads(encode_repo(state)) == fields
