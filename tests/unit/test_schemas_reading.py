"""Values and headers, read as `pipelines.schemas` reads them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines import schemas
from pipelines.atproto.errors import ProtocolError, Reason
from pipelines.contracts.topics import contracts
from pipelines.kafka.topics import registry
from pipelines.schemas import MessageError
from pipelines.schemas.reading import parse_headers, parse_value

FOLDER = Path(__file__).parents[2] / "schemas"
TITLES = {contract.spec.name: contract.title for contract in contracts(registry())}
# The newest version's: what a reader of today is for.
EXAMPLES = [
    file
    for spec in registry().specs.values()
    for version in spec.versions[-1:]
    for file in sorted((FOLDER / f"examples/{spec.name}/v{version.number}").iterdir())
]


def parser(topic: str) -> Callable[[bytes], dict[str, Any]]:
    found = getattr(schemas, f"parse_{TITLES[topic].replace(' ', '_')}")
    assert callable(found)
    return found  # type: ignore[no-any-return]  # one of the generated functions


def name_of(path: Path) -> str:
    return str(path.relative_to(FOLDER / "examples"))


def load(topic: str, name: str) -> dict[str, Any]:
    value = json.loads((FOLDER / f"examples/{topic}/v1/{name}.json").read_text(encoding="utf-8"))
    assert isinstance(value, dict)
    return value


@pytest.mark.parametrize("file", EXAMPLES, ids=name_of)
def test_an_example_comes_back_as_it_is(file: Path) -> None:
    content = file.read_bytes()
    assert parser(file.parts[-3])(content) == json.loads(content)


@pytest.mark.parametrize("file", EXAMPLES, ids=name_of)
def test_fields_of_a_later_version_are_let_pass(file: Path) -> None:
    value = {**json.loads(file.read_bytes()), "added_later": [1, {"a": None}]}
    assert parser(file.parts[-3])(json.dumps(value).encode()) == value


@pytest.mark.parametrize("file", EXAMPLES, ids=name_of)
def test_a_missing_field_and_one_of_another_type_are_named(file: Path) -> None:
    topic, value = file.parts[-3], json.loads(file.read_bytes())
    for name in value:
        less = {key: value[key] for key in value if key != name}
        with pytest.raises(MessageError, match=name):
            parser(topic)(json.dumps(less).encode())
        with pytest.raises(MessageError, match=rf"{topic}\.{name}") as raised:
            parser(topic)(json.dumps({**value, name: 1.5}).encode())
        assert isinstance(raised.value, ProtocolError)
        assert raised.value.reason is Reason.JSON_INVALID


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"operation": "move"}, "records.operation is 'move', not one of create, update, delete"),
        ({"seq": True}, "records.seq is True, not integer"),
        ({"seq": "7"}, "records.seq is '7', not integer"),
        ({"seq": None}, "records.seq is None, not integer"),
        ({"record": [1]}, "records.record is [1], not object"),
        ({"host": "x" * 100}, None),
    ],
)
def test_what_is_wrong_is_said(change: dict[str, Any], complaint: str | None) -> None:
    value = json.dumps({**load("records", "create-like"), **change}).encode()
    if complaint is None:
        assert schemas.parse_record(value)["host"] == change["host"]
        return
    with pytest.raises(MessageError) as raised:
        schemas.parse_record(value)
    assert raised.value.detail == complaint


def test_the_place_inside_a_value_is_named() -> None:
    value = load("events", "commit-several-ops")
    value["ops"][1]["prev"] = 3
    with pytest.raises(MessageError, match=r"events\.ops\[1\]\.prev is 3, not string"):
        schemas.parse_event(json.dumps(value).encode())


def test_a_long_wrong_value_is_cut_in_the_message() -> None:
    value = json.dumps({**load("records", "create-like"), "seq": "9" * 10_000}).encode()
    with pytest.raises(MessageError) as raised:
        schemas.parse_record(value)
    assert len(str(raised.value)) < 200


@pytest.mark.parametrize("value", [b"", b"null", b"[]", b"{", b"7", b'"x"', b"\xff"])
def test_what_is_no_object_is_refused(value: bytes) -> None:
    for topic, spec in registry().specs.items():
        if spec.versions:
            with pytest.raises(MessageError):
                parse_value(topic, value)


def test_headers_come_decoded() -> None:
    headers = [("host", b"relay.example"), ("seq", b"42"), ("kind", b"commit"), ("more", b"\xff")]
    assert schemas.parse_frame_headers([*headers, ("received_us", b"7")]) == {
        "host": "relay.example",
        "seq": 42,
        "kind": "commit",
        "received_us": 7,
    }


@pytest.mark.parametrize(
    ("name", "raw", "complaint"),
    [
        ("seq", b"4.2", "'4.2' is no integer in decimal"),
        ("seq", b"", "'' is no integer in decimal"),
        ("seq", "٤٢".encode(), "is no integer in decimal"),
        ("host", b"\xff", "can't decode"),
        ("host", None, "it is missing"),
    ],
)
def test_a_header_that_is_wrong_is_named(name: str, raw: bytes | None, complaint: str) -> None:
    headers = {"host": b"relay.example", "seq": b"42", "kind": b"commit", "received_us": b"7"}
    found = [(key, raw if key == name else value) for key, value in headers.items()]
    with pytest.raises(MessageError, match=f"the header {name} of frames: .*{complaint}"):
        parse_headers("frames", [(key, value) for key, value in found if value is not None])
