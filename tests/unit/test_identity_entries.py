"""Entries of the topic `identities`: to bytes and back, and which of two is the newer."""

from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from pipelines.atproto.errors import IdentityError, Reason
from pipelines.atproto.keys import parse_multikey
from pipelines.atproto.syntax import Did, Handle
from pipelines.identity.documents import Identity
from pipelines.identity.entries import (
    IdentityEntry,
    Origin,
    encode_entry,
    entry_of_document,
    entry_of_refusal,
    parse_entry,
    stale,
)
from pipelines.kafka.topics import validator

DID = Did("did:plc:ewvi7nxzyoun6zhxrhs64oiz")
KEY = parse_multikey("zQ3shqwJEJyMBsBXCWyCBpUBMqxcon9oHB7mCvx4sSpMdLJwc")
DIRECTORY = "https://plc.directory"
IDENTITY = Identity(DID, KEY, "https://pds.example.com", Handle("alice.example.com"))
ENTRY = entry_of_document(IDENTITY, DIRECTORY, 1_000)
NO_IDENTITY = IdentityError(Reason.IDENTITY_NOT_FOUND, "no such DID", did=DID)

EXAMPLES = sorted((Path(__file__).parents[2] / "schemas/examples/identities/v1").iterdir())

ENTRIES = [
    ENTRY,
    stale(ENTRY),
    entry_of_document(Identity(DID, None, None, None), DIRECTORY, 1_000),
    entry_of_refusal(NO_IDENTITY, DID, DIRECTORY, 1_000),
    replace(ENTRY, origin=Origin.OPERATION, seq=7, as_of_us=500),
]


@pytest.mark.parametrize("entry", ENTRIES)
def test_an_entry_comes_back_and_fits_its_schema(entry: IdentityEntry) -> None:
    value = encode_entry(entry)
    validator("identities", 1).validate(orjson.loads(value))
    assert parse_entry(value) == entry


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_are_entries(example: Path) -> None:
    fields = orjson.loads(example.read_bytes())
    assert orjson.loads(encode_entry(parse_entry(example.read_bytes()))) == fields


@pytest.mark.parametrize(
    "change",
    [{"signing_key": "did:key:z123"}, {"signing_key": 1}, {"origin": "rumour"}, {"stale": ...}],
)
def test_a_message_of_another_shape_is_a_defect(change: dict[str, object]) -> None:
    fields = {**orjson.loads(encode_entry(ENTRY)), **change}
    known = {name: value for name, value in fields.items() if value is not ...}
    with pytest.raises(ValueError, match="version 1"):
        parse_entry(orjson.dumps(known))


def test_a_key_is_given_or_the_reason_why_not() -> None:
    assert ENTRY.require_key() == KEY
    for entry, reason in ((ENTRIES[2], Reason.IDENTITY_NO_KEY), (ENTRIES[3], NO_IDENTITY.reason)):
        with pytest.raises(IdentityError) as refusal:
            entry.require_key()
        assert refusal.value.reason is reason
        assert refusal.value.did == DID


def test_the_newest_counts_whoever_wrote_it() -> None:
    operation = replace(ENTRY, origin=Origin.OPERATION, as_of_us=2_000, fetched_us=1)
    assert operation.supersedes(ENTRY)
    assert not ENTRY.supersedes(operation)
    assert stale(ENTRY).supersedes(ENTRY)  # as old, and written later
    assert ENTRY.supersedes(None)
