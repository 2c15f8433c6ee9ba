"""What subscribers of the JSON stream may ask for, and what they are told otherwise."""

import json
from typing import Any

import pytest

from pipelines.serving.jetstream_options import (
    MAX_COLLECTIONS,
    MAX_DIDS,
    OptionsError,
    Wanted,
    parse_query,
    parse_update,
)

DID = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
POST, FOLLOW = "app.bsky.feed.post", "app.bsky.graph.follow"


def update(payload: Any) -> str:
    return json.dumps({"type": "options_update", "payload": payload})


def test_without_parameters_everything_from_now_on_is_wanted() -> None:
    found = parse_query({"unknown": ["x"]})
    assert found.cursor_us is None
    assert not found.waits_for_hello
    assert found.wanted == Wanted()
    assert found.wanted.takes_account(DID)
    assert found.wanted.takes_collection("com.example.note")


def test_each_parameter_is_read() -> None:
    query = {
        "wantedCollections": [POST, "app.bsky.graph.*", POST],
        "wantedDids": [DID],
        "cursor": ["1725519626134432", "1"],
        "maxMessageSizeBytes": ["1000000"],
        "requireHello": ["true"],
        "compress": ["false"],
    }
    found = parse_query(query)
    assert found.cursor_us == 1725519626134432
    assert found.waits_for_hello
    assert found.wanted == Wanted(
        frozenset({DID}), frozenset({POST}), ("app.bsky.graph.",), 1_000_000
    )


@pytest.mark.parametrize("text", ["", "0", "-5"])
def test_no_size_zero_and_negative_ones_are_no_limit(text: str) -> None:
    assert parse_query({"maxMessageSizeBytes": [text]}).wanted.max_bytes == 0


@pytest.mark.parametrize("text", ["TRUE", "1", "yes", ""])
def test_only_the_word_true_waits_for_a_hello(text: str) -> None:
    assert not parse_query({"requireHello": [text]}).waits_for_hello


def test_an_empty_cursor_is_none() -> None:
    assert parse_query({"cursor": [""]}).cursor_us is None


@pytest.mark.parametrize(
    ("patterns", "collection", "is_taken"),
    [
        ([POST], POST, True),
        ([POST], f"{POST}gate", False),
        (["app.bsky.graph.*"], FOLLOW, True),
        (["app.bsky.graph.*"], "app.bsky.graphs.follow", False),
        (["app.bsky.*"], FOLLOW, True),
        (["app.bsky.graph.*", POST], POST, True),
        (["app.bsky.graph.*", POST], "app.bsky.feed.like", False),
    ],
)
def test_collections_are_named_or_all_below_a_name(
    patterns: list[str], collection: str, *, is_taken: bool
) -> None:
    wanted = parse_query({"wantedCollections": patterns}).wanted
    assert wanted.takes_collection(collection) is is_taken


def test_accounts_are_those_that_are_named() -> None:
    wanted = parse_query({"wantedDids": [DID]}).wanted
    assert wanted.takes_account(DID)
    assert not wanted.takes_account("did:web:other.example")


@pytest.mark.parametrize(
    "query",
    [
        {"wantedCollections": ["app.bsky.fo*"]},
        {"wantedCollections": ["*"]},
        {"wantedCollections": [".*"]},
        {"wantedCollections": ["app..*"]},
        {"wantedCollections": ["app bsky.*"]},
        {"wantedCollections": ["app." + "a." * 300 + "*"]},
        {"wantedCollections": ["post"]},
        {"wantedDids": ["alice.example"]},
        {"cursor": ["yesterday"]},
        {"cursor": ["-1"]},
        {"cursor": ["1" * 19]},
        {"maxMessageSizeBytes": ["1MB"]},
        {"compress": ["true"]},
    ],
)
def test_what_cannot_be_understood_is_an_error(query: dict[str, list[str]]) -> None:
    with pytest.raises(OptionsError) as caught:
        parse_query(query)
    assert 0 < len(str(caught.value)) < 400


def test_the_limits_are_jetstreams_and_count_different_ones() -> None:
    collections = [f"com.example.c{number}" for number in range(MAX_COLLECTIONS - 1)]
    collections += ["com.example.*"]
    dids = [f"did:web:a{number}.example" for number in range(MAX_DIDS)]
    query = {"wantedCollections": 2 * collections, "wantedDids": 2 * dids}
    found = parse_query(query).wanted
    assert len(found.collections) + len(found.prefixes) == MAX_COLLECTIONS == 100
    assert len(found.dids) == MAX_DIDS == 10_000
    with pytest.raises(OptionsError, match="101 wantedCollections: at most 100"):
        parse_query({"wantedCollections": [*collections, POST]})
    with pytest.raises(OptionsError, match="10001 wantedDids: at most 10000"):
        parse_query({"wantedDids": [*dids, DID]})


def test_an_update_takes_the_place_of_everything_before() -> None:
    payload = {"wantedCollections": [POST], "wantedDids": [DID], "maxMessageSizeBytes": 9}
    assert parse_update(update(payload)) == Wanted(frozenset({DID}), frozenset({POST}), (), 9)
    assert parse_update(update({"wantedDids": None, "maxMessageSizeBytes": -1})) == Wanted()


def test_a_message_of_another_type_means_nothing() -> None:
    assert parse_update('{"type": "ping"}') is None


@pytest.mark.parametrize(
    "message",
    [
        "",
        "hello",
        b"\xff",
        "[" * 5_000,
        "[]",
        "{}",
        '{"type": 3}',
        '{"type": "options_update"}',
        update([]),
        update({"wantedCollections": POST}),
        update({"wantedCollections": [1]}),
        update({"wantedDids": ["x"]}),
        update({"maxMessageSizeBytes": "1"}),
        update({"maxMessageSizeBytes": 1.5}),
        update({"maxMessageSizeBytes": True}),
    ],
)
def test_an_update_that_cannot_be_understood_is_an_error(message: str | bytes) -> None:
    with pytest.raises(OptionsError):
        parse_update(message)
