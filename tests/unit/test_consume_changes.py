"""Messages of `repos` and `latest.*` as an index gets them."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.consume import AccountChanged, Delete, Put, Sync
from pipelines.consume.changes import account_change, record_change
from pipelines.kafka.messages import Headers, InputMessage

_SCHEMAS = Path(__file__).parents[2] / "schemas"
RECORDS = sorted((_SCHEMAS / "examples" / "latest" / "v1").glob("*.json"))
REPOS = sorted((_SCHEMAS / "examples" / "repos" / "v1").glob("*.json"))
URI = "at://did:plc:aaaaaaaaaaaaaaaaaaaaaaaa/app.bsky.feed.post/3l2222222222a"


def message(key: str, value: bytes | None, **headers: str) -> InputMessage:
    pairs: Headers = [(name, text.encode()) for name, text in headers.items()]
    return InputMessage("topic", 0, 0, 0, key.encode(), value, pairs)


def null(operation: str) -> InputMessage:
    did, collection, _ = URI.removeprefix("at://").split("/")
    return message(
        URI,
        None,
        did=did,
        collection=collection,
        operation=operation,
        rev="3l2222222222b",
        live="true",
        prev="bafyold",
    )


@pytest.mark.parametrize("file", RECORDS, ids=lambda file: file.stem)
def test_a_record_has_what_its_message_has(file: Path) -> None:
    value: dict[str, Any] = json.loads(file.read_text())
    found = record_change(
        message(
            value["uri"],
            file.read_bytes(),
            did=value["did"],
            collection=value["collection"],
            operation="create",
            rev=value["rev"],
            live="false",
            cid=value["cid"],
        )
    )
    assert isinstance(found, Put)
    names = ("uri", "did", "collection", "rkey", "rev", "cid", "record", "record_error")
    assert {name: getattr(found, name) for name in names} == {name: value[name] for name in names}
    block = value["record_cbor"]
    assert found.record_cbor == (None if block is None else base64.b64decode(block))
    assert (found.prev, found.is_live) == (None, False)
    assert found.received_us == value["received_us"]


def test_there_are_examples_with_and_without_json() -> None:
    errors = {json.loads(file.read_text())["record_error"] is None for file in RECORDS}
    assert errors == {True, False}


def test_a_null_is_a_delete() -> None:
    found = record_change(null("delete"))
    did, collection, rkey = URI.removeprefix("at://").split("/")
    assert found == Delete(URI, did, collection, rkey, "3l2222222222b", "bafyold", is_live=True)


def test_a_record_that_is_in_another_topic_is_not_gone() -> None:
    assert record_change(null("move")) is None


@pytest.mark.parametrize(
    ("held_rev", "put", "delete"), [(None, True, False), ("a", True, True), ("c", False, False)]
)
def test_the_newer_revision_counts(held_rev: str | None, put: bool, delete: bool) -> None:
    written = Put("u", "d", "c", "r", "b", "cid", None, {}, None, None, 0, is_live=True)
    deleted = Delete("u", "d", "c", "r", "b", None, is_live=True)
    assert written.replaces(held_rev) is put
    assert deleted.replaces(held_rev) is delete


def test_of_one_revision_the_later_message_counts() -> None:
    written = Put("u", "d", "c", "r", "b", "cid", None, {}, None, None, 0, is_live=True)
    deleted = Delete("u", "d", "c", "r", "b", None, is_live=True)
    assert written.replaces("b")
    assert deleted.replaces("b")


@pytest.mark.parametrize("file", REPOS, ids=lambda file: file.stem)
def test_an_account_has_what_its_message_has(file: Path) -> None:
    value = json.loads(file.read_text())
    found = account_change(message(value["did"], file.read_bytes()))
    names = ("did", "active", "status", "sync", "deleted_rev")
    assert list(found) == [value[name] for name in names]


def test_the_states_are_those_of_the_contract() -> None:
    schema = json.loads((_SCHEMAS / "json" / "repos" / "v1.json").read_text())
    assert set(schema["properties"]["sync"]["enum"]) == set(Sync)


@pytest.mark.parametrize(
    ("is_active", "deleted_rev", "is_shown"),
    [
        (True, None, True),
        (False, None, False),
        (True, "a", True),
        (True, "b", False),
        (True, "c", False),
    ],
)
def test_an_account_shows_what_it_wrote_since_it_was_deleted(
    is_active: bool, deleted_rev: str | None, is_shown: bool
) -> None:
    account = AccountChanged("did", is_active, None, Sync.SYNCHRONIZED, deleted_rev)
    assert account.shows("b") is is_shown
