"""The folder schemas/: every entry is complete, every example is what it says it is."""

import base64
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cbrrr
import jsonschema
import pytest
import yaml

from pipelines.atproto import cbor
from pipelines.atproto.cid import cid_of, encode_cid
from pipelines.atproto.errors import Reason
from pipelines.atproto.syntax import parse_nsid
from pipelines.bridge.gaps import GapReason
from pipelines.compact.state import Sync
from pipelines.kafka.beat import State
from pipelines.kafka.topics import Format, PartitionBy, TopicSpec, registry, validator

FOLDER = Path(__file__).parents[2] / "schemas"

SPECS = list(registry().specs.values())
VERSIONS = [(spec, version) for spec in SPECS for version in spec.versions]
SCHEMA_FILES = sorted(FOLDER.glob("json/*/*.json"))
EXAMPLE_FILES = sorted(FOLDER.glob("examples/*/*/*.json"))
# What tells the variants of a value apart, and the variants that must have an example.
KINDS = {
    "admissions": (None, set()),
    "crawls": ("state", {"running", "done", "cut"}),
    "cursors": (None, set()),
    "epochs": (None, set()),
    "events": ("kind", {"commit", "sync", "identity", "account", "refused", "unresolved"}),
    "identities": ("origin", {"document", "operation"}),
    "gaps": ("reason", set(GapReason)),
    "latest": (None, set()),
    "listings": (None, set()),
    "parked": (None, set()),
    "minutes": (None, set()),
    "overrides": ("status", {"takendown", "active"}),
    "records": ("operation", {"create", "update", "delete"}),
    "repos": ("sync", set(Sync)),
    "resyncs": (None, set()),
    "repairs": (None, set()),
    "chunks": (None, set()),
    "snapshots": ("kind", {"snapshot", "absent"}),
    "status": ("state", set(State)),
    "trends": (None, set()),
}
HOURS_MS = 3_600_000


def name_of(value: object) -> str:
    if isinstance(value, TopicSpec):
        return value.name
    if isinstance(value, Path):
        return str(value.relative_to(FOLDER))
    return str(getattr(value, "number", value))


def load(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def examples_of(topic: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for file in EXAMPLE_FILES:
        if file.parts[-3] == topic:
            yield file.stem, load(file)


def subschemas(schema: object) -> Iterator[Mapping[str, Any]]:
    if isinstance(schema, dict):
        yield schema
        for value in schema.values():
            yield from subschemas(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from subschemas(value)


# --- entries


@pytest.mark.parametrize("spec", SPECS, ids=name_of)
def test_messages_are_kept_for_ever_only_where_they_are_compacted(spec: TopicSpec) -> None:
    is_compacted = spec.configs["cleanup.policy"] == "compact"
    assert (spec.configs["retention.ms"] == "-1") == is_compacted


def test_topic_names_are_legal_and_do_not_collide_in_metrics() -> None:
    for topic in registry().topics:
        assert re.fullmatch(r"[a-zA-Z0-9.-]{1,200}", topic), topic


def test_derived_topics_are_kept_longer_than_the_frames_they_come_from() -> None:
    # Their timestamps are the frames': a worker that lags must not write what is dropped at once.
    configs = {spec.name: spec.configs for spec in SPECS}
    frames_ms = int(configs["frames"]["retention.ms"]) + int(configs["frames"]["segment.ms"])
    assert int(configs["frames"]["retention.ms"]) == 72 * HOURS_MS
    for topic in ("epochs", "events", "records", "quarantine"):
        assert int(configs[topic]["retention.ms"]) > frames_ms


def test_everything_about_one_account_is_partitioned_alike() -> None:
    for spec in SPECS:
        if spec.key.partition_by is PartitionBy.DID:
            assert spec.partitions is None
    by_did = {spec.name for spec in SPECS if spec.key.partition_by is PartitionBy.DID}
    assert by_did == {
        "frames",
        "events",
        "records",
        "repos",
        "latest",
        "identities",
        "overrides",
        "parked",
        "resyncs",
        "repairs",
        "chunks",
        "snapshots",
    }


def test_admitted_collections_are_valid_names_in_order() -> None:
    admitted = registry().admitted_collections
    assert list(admitted) == sorted(admitted)
    assert [parse_nsid(collection) for collection in admitted] == list(admitted)


# --- schemas


@pytest.mark.parametrize("file", SCHEMA_FILES, ids=name_of)
def test_schema_belongs_to_an_entry_and_is_valid(file: Path) -> None:
    used = {f"json/{spec.name}/v{version.number}.json" for spec, version in VERSIONS}
    assert str(file.relative_to(FOLDER)) in used
    jsonschema.Draft202012Validator.check_schema(load(file))


@pytest.mark.parametrize("file", [*SCHEMA_FILES, FOLDER / "topic.schema.json"], ids=name_of)
def test_every_property_is_described(file: Path) -> None:
    schema = load(file)
    described = 0
    for subschema in subschemas(schema):
        # A closed object defines its fields; other `properties` only restrict them further.
        if subschema.get("additionalProperties") is not False:
            continue
        for name, field in subschema["properties"].items():
            definition = schema.get("$defs", {}).get(field.get("$ref", "").rpartition("/")[2], {})
            assert len(field.get("description") or definition["description"]) > 5, name
            described += 1
    assert described >= 3


@pytest.mark.parametrize("file", SCHEMA_FILES, ids=name_of)
def test_objects_we_write_are_closed_and_complete(file: Path) -> None:
    objects = [
        part
        for part in subschemas(load(file))
        if part.get("type") == "object" and len(part.get("properties", ())) > 1
    ]
    assert objects
    for subschema in objects:
        assert subschema["additionalProperties"] is False
        # What a further version adds is missing in older messages.
        if file.stem == "v1":
            assert subschema["required"] == list(subschema["properties"])


def test_definitions_with_one_name_say_the_same_everywhere() -> None:
    seen: dict[str, Any] = {}
    for file in SCHEMA_FILES:
        for name, definition in load(file)["$defs"].items():
            assert seen.setdefault(name, definition) == definition, name


def test_the_reasons_for_a_missing_record_are_documented() -> None:
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    definition = load(FOLDER / "json/records/v1.json")["$defs"]["record_error"]
    for reason in definition["enum"]:
        assert f"| `{reason}` |" in readme
        assert f"{reason}: " in definition["description"]


# --- examples


@pytest.mark.parametrize(("spec", "version"), VERSIONS, ids=name_of)
def test_every_variant_has_an_example(spec: TopicSpec, version: Any) -> None:
    discriminator, variants = KINDS[spec.name]
    values = [json.loads(file.read_text(encoding="utf-8")) for file in version.examples.iterdir()]
    assert values
    if discriminator is not None:
        assert {value[discriminator] for value in values} == variants


@pytest.mark.parametrize("file", EXAMPLE_FILES, ids=name_of)
def test_example_is_valid(file: Path) -> None:
    topic, version = file.parts[-3], int(file.parts[-2].removeprefix("v"))
    validator(topic, version).validate(load(file))


@pytest.mark.parametrize("file", EXAMPLE_FILES, ids=name_of)
def test_a_field_more_or_less_makes_an_example_invalid(file: Path) -> None:
    check = validator(file.parts[-3], 1)
    value = load(file)
    assert not check.is_valid({**value, "surplus": None})
    for name in value:
        assert not check.is_valid({key: value[key] for key in value if key != name}), name


def test_examples_of_commits_are_what_their_cids_say() -> None:
    shown_records = 0
    for name, event in examples_of("events"):
        if "commit_block" in event:
            block = base64.b64decode(event["commit_block"], validate=True)
            signed = cbor.decode(block)
            assert encode_cid(cid_of(block)) == event["commit"], name
            assert (signed["did"], signed["rev"]) == (event["did"], event["rev"]), name
            assert encode_cid(signed["data"]) == event["data"], name
        for op in event.get("ops", []):
            if op["record_from"] is not None:
                assert op["cid"] == event["ops"][op["record_from"]]["cid"]
            elif op["operation"] != "delete":
                assert record_cid(op) == op["cid"], name
                shown_records += 1
    assert shown_records >= 5


def test_examples_of_records_are_projections_of_the_events() -> None:
    events = {
        (event["frame_partition"], event["frame_offset"]): event
        for _, event in examples_of("events")
    }
    for name, record in examples_of("records"):
        event = events[record["frame_partition"], record["frame_offset"]]
        for field in ("did", "rev", "seq", "host", "time", "received_us"):
            assert record[field] == event[field], name
        path = f"{record['collection']}/{record['rkey']}"
        assert record["uri"] == f"at://{record['did']}/{path}"
        (op,) = (op for op in event["ops"] if f"{op['collection']}/{op['rkey']}" == path)
        shown = op if op["record_from"] is None else event["ops"][op["record_from"]]
        for field in ("operation", "cid", "prev"):
            assert record[field] == op[field], name
        for field in ("record", "record_error", "record_cbor"):
            assert record[field] == shown[field], name


def test_examples_of_refusals_give_known_reasons() -> None:
    reasons = [event["reason"] for _, event in examples_of("events") if "reason" in event]
    assert len(reasons) >= 2
    assert set(reasons) <= set(Reason)


def record_cid(op: Mapping[str, Any]) -> str:
    if op["record"] is None:
        return encode_cid(cid_of(base64.b64decode(op["record_cbor"], validate=True)))
    return encode_cid(cid_of(cbrrr.encode_dag_cbor(op["record"], atjson_mode=True)))


# --- what the schemas refuse


@pytest.mark.parametrize(
    ("example", "change"),
    [
        ("delete-like", {"record": {}}),
        ("delete-like", {"prev": None}),
        ("create-like", {"record": None}),
        ("create-like", {"record_error": "cbor.depth"}),
        ("create-like", {"cid": None}),
        ("create-like", {"cid": "bafkreidbaxlmy5vpiabsl2knlcgoken6lp63w45ug7ofd3fehel5pjb6hu"}),
        ("create-like", {"seq": 0}),
        ("create-like", {"seq": 2**53}),
        ("create-like", {"did": "did:PLC:alice"}),
        ("create-like", {"rkey": "."}),
        ("create-like", {"rkey": "a/b"}),
        ("create-like", {"collection": "app.bsky"}),
        ("create-like", {"host": "https://relay.example.com"}),
        ("create-like", {"time": "2026-09-21 14:13:20"}),
        ("create-record-error", {"record_cbor": None}),
        ("create-record-error", {"record_cbor": "abc"}),
        ("create-record-error", {"record_error": "it.was.odd"}),
        ("update-profile", {"prev": None}),
    ],
)
def test_a_record_that_contradicts_itself_is_invalid(example: str, change: dict[str, Any]) -> None:
    value = load(FOLDER / f"examples/records/v1/{example}.json")
    assert not validator("records", 1).is_valid(value | change)


@pytest.mark.parametrize(
    "change",
    [
        {"record_from": 0, "record": {}},
        {"record_from": None},
        {"record_from": -1},
        {"operation": "delete", "cid": None},
        {"operation": "move"},
    ],
)
def test_an_operation_that_contradicts_itself_is_invalid(change: dict[str, Any]) -> None:
    value = load(FOLDER / "examples/events/v1/commit-several-ops.json")
    assert value["ops"][3]["record_from"] == 2
    value["ops"][3] |= change
    assert not validator("events", 1).is_valid(value)


def test_an_event_has_the_fields_of_its_own_kind_only() -> None:
    check = validator("events", 1)
    by_kind = {event["kind"]: event for _, event in examples_of("events")}
    for kind, event in by_kind.items():
        for other in by_kind.keys() - {kind}:
            assert not check.is_valid(event | {"kind": other}), (kind, other)


# --- quarantine


def test_quarantine_keeps_the_headers_of_frames_and_adds_its_own() -> None:
    specs = registry().specs
    quarantine = [header.name for header in specs["quarantine"].headers]
    frames = [header.name for header in specs["frames"].headers]
    own = ["reason", "stage", "detail", "topic", "partition", "offset", "attempts", "version"]
    assert quarantine == [*frames, *(f"q.{name}" for name in own)]
    assert specs["quarantine"].format is Format.ORIGINAL
    assert int(specs["quarantine"].configs["max.message.bytes"]) > 16 * 1024 * 1024


def test_the_yaml_files_say_everything_once() -> None:
    # A repeated key would silently win over the first.
    for file in sorted((FOLDER / "topics").iterdir()):
        node = yaml.compose(file.read_text(encoding="utf-8"))
        pending = [node]
        while pending:
            current = pending.pop()
            if isinstance(current, yaml.MappingNode):
                keys = [key.value for key, _ in current.value]
                assert len(keys) == len(set(keys)), file.name
                pending += [value for _, value in current.value]
