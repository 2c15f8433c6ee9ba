"""From a proven commit to messages: odd records, blocks on demand, and their bounds."""

import base64
import json
from collections.abc import Mapping
from typing import Any

import pytest
from support import oracle, wire
from support.admissions import NOBODY
from support.oracle import cid_of, dag_cbor, link
from support.repo import Repo, ScriptedKeys, commit_fields, make_op, op_fields, record, sign_commit

from pipelines.atproto.cid import encode_cid
from pipelines.atproto.frames import Action
from pipelines.explode.outputs import (
    EVENT_JSON_BUDGET_BYTES,
    RECORDS_BUDGET_BYTES,
    OutputTopics,
    outputs_of,
)
from pipelines.explode.sources import Source
from pipelines.kafka.messages import InputMessage, OutputMessage
from pipelines.kafka.topics import registry, validator
from pipelines.verdict import Proven, judge_frame

TOPICS = OutputTopics("events", "quarantine", "identities", "parked", "records", {}, NOBODY)
WITH_BLOCKS = OutputTopics(
    "events", "quarantine", "identities", "parked", "records", {}, NOBODY, has_blocks=True
)
NOTE = dag_cbor(record("a note"))


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value


# Data-model violations, by the reason that the record gets.
ODD = {
    "cbor.depth": dag_cbor(nested(200)),
    "cbor.data_model": bytes.fromhex("a16161fb3ff8000000000000"),  # a float
    "cbor.invalid": bytes.fromhex("a2616201616102"),  # keys out of order
    "json.ambiguous": dag_cbor({"a": {"$link": "not one"}}),
    "json.too_large": dag_cbor({"a": [0] * 131_073}),
}


def outputs_for(
    blocks: Mapping[str, bytes], topics: OutputTopics = TOPICS
) -> tuple[dict[str, Any], list[OutputMessage]]:
    """Returns the event of a commit that creates records, and their messages."""
    records = {path: cid_of(block) for path, block in blocks.items()}
    tree = oracle.build(records)
    commit = sign_commit(commit_fields(tree.root))
    ops = [make_op(Action.CREATE, path, cid, None) for path, cid in sorted(records.items())]
    wanted = dict.fromkeys([commit, *tree.nodes.values(), *blocks.values()])
    step = Repo().apply({path: {} for path in blocks})
    raw = wire.frame(
        "#commit",
        step.payload(
            commit=link(cid_of(commit)),
            blocks=wire.car(cid_of(commit), list(wanted)),
            ops=[op_fields(op) for op in ops],
        ),
    )
    verdict = judge_frame(raw, ScriptedKeys(), wire.START_US)
    assert isinstance(verdict, Proven), verdict
    source = Source("relay.example", 0, InputMessage("frames", 0, 0, 0, None, raw, []))
    event, *messages = outputs_of(verdict, source, topics)
    value = json.loads(event.value or b"")
    validator("events", 1).validate(value)
    return value, messages


@pytest.mark.parametrize("reason", ODD)
def test_a_record_beyond_the_data_model_is_refused_alone(reason: str) -> None:
    """Its commit and the other record in it stand; its path, CID and bytes are passed on.

    spec: A-09, A-20, A-31, A-24
    """
    odd = ODD[reason]
    event, messages = outputs_for({"a.b.c/1-odd": odd, "a.b.c/2-note": NOTE})
    assert event["kind"] == "commit"
    values = [json.loads(message.value or b"") for message in messages]
    for found in (event["ops"], values):
        first, second = found
        assert (first["rkey"], first["cid"]) == ("1-odd", encode_cid(cid_of(odd)))
        assert (first["record"], first["record_error"]) == (None, reason)
        assert base64.b64decode(first["record_cbor"]) == odd
        assert (second["record"], second["record_error"]) == (record("a note"), None)
    for value in values:
        validator("records", 1).validate(value)


def test_every_reason_that_a_record_may_have_is_tried() -> None:
    schema = json.loads(registry().specs["records"].versions[0].schema.read_text(encoding="utf-8"))
    assert set(schema["$defs"]["record_error"]["enum"]) == ODD.keys()


def test_blocks_are_in_records_only_where_they_are_asked_for() -> None:
    blocks = {"a.b.c/1": NOTE, "a.b.c/2": ODD["json.ambiguous"]}
    _, without = outputs_for(blocks)
    event, messages = outputs_for(blocks, WITH_BLOCKS)
    values = [json.loads(message.value or b"") for message in messages]
    for value, plain, block in zip(values, without, blocks.values(), strict=True):
        validator("records", 1).validate(value)
        assert base64.b64decode(value.pop("record_cbor")) == block
        expected = json.loads(plain.value or b"")
        expected.pop("record_cbor")
        assert value == expected
    assert event["ops"][0]["record_cbor"] is None


@pytest.mark.parametrize("topics", [TOPICS, WITH_BLOCKS], ids=["JSON", "JSON and blocks"])
def test_what_a_commit_becomes_is_bounded_and_fits_into_its_topics(topics: OutputTopics) -> None:
    """The most that a commit of 2 MB can grow to: JSON escapes take six bytes for one.

    spec: M-05, M-06
    """
    large = {f"a.b.c/{n}": dag_cbor({"n": n, "text": "\x01" * 300_000}) for n in range(6)}
    event, messages = outputs_for(large, topics)
    limits = {
        name: int(registry().specs[name].configs["max.message.bytes"])
        for name in ("events", "records")
    }
    assert len(json.dumps(event)) < limits["events"]
    assert all(message.size_bytes < limits["records"] for message in messages)
    assert sum(message.size_bytes for message in messages) < RECORDS_BUDGET_BYTES + 6 * 1_000
    as_json = [op for op in event["ops"] if op["record"] is not None]
    assert len(as_json) == EVENT_JSON_BUDGET_BYTES // (6 * 300_000)
    assert {op["record_error"] for op in event["ops"]} == {None, "json.too_large"}
