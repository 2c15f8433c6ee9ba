"""What the JSON stream makes of events, and that production made the same of real frames."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from support.jetstream import event_message, recorded_events, without_time

from pipelines.kafka.messages import InputMessage
from pipelines.serving.jetstream_events import encode_event
from pipelines.serving.jetstream_options import Wanted

_EXAMPLES = Path(__file__).parents[2] / "schemas" / "examples" / "events" / "v1"


def example(name: str) -> InputMessage:
    return event_message(json.loads((_EXAMPLES / f"{name}.json").read_bytes()))


def sent(message: InputMessage, wanted: Wanted | None = None) -> list[Any]:
    return [json.loads(text) for text in encode_event(message, wanted or Wanted())]


def test_a_create_has_its_record() -> None:
    message = example("commit-create-like")
    event = json.loads(message.value or b"")
    [op] = event["ops"]
    assert sent(message) == [
        {
            "did": event["did"],
            "time_us": 1790000000412337,
            "kind": "commit",
            "commit": {
                "rev": event["rev"],
                "operation": "create",
                "collection": "app.bsky.feed.like",
                "rkey": op["rkey"],
                "record": op["record"],
                "cid": op["cid"],
            },
        }
    ]


def test_operations_come_in_their_order_and_a_delete_has_no_record() -> None:
    message = example("commit-several-ops")
    event = json.loads(message.value or b"")
    found = sent(message)
    assert [(one["commit"]["operation"], one["commit"]["rkey"]) for one in found] == [
        (op["operation"], op["rkey"]) for op in event["ops"]
    ]
    assert Counter(one["commit"]["operation"] for one in found) >= Counter(["update", "delete"])
    for one in found:
        names = {"operation", "rev", "collection", "rkey"}
        if one["commit"]["operation"] != "delete":
            names |= {"record", "cid"}
        assert one["commit"].keys() == names


def test_a_record_that_is_in_the_event_once_is_with_each_operation_that_names_it() -> None:
    event = json.loads((_EXAMPLES / "commit-create-like.json").read_bytes())
    [op] = event["ops"]
    event["ops"].append(op | {"rkey": "second", "record": None, "record_from": 0})
    first, second = sent(event_message(event))
    assert second["commit"]["record"] == first["commit"]["record"] == op["record"]


def test_a_record_without_json_is_absent() -> None:
    found = sent(example("commit-record-error"))
    assert found
    assert any("record" not in one["commit"] and one["commit"]["cid"] for one in found)


@pytest.mark.parametrize(
    ("name", "kind", "fields"),
    [
        ("account-active", "account", {"active", "did", "seq", "time"}),
        ("account-deleted", "account", {"active", "did", "seq", "status", "time"}),
        ("identity", "identity", {"did", "handle", "seq", "time"}),
        ("identity-without-handle", "identity", {"did", "seq", "time"}),
    ],
)
def test_accounts_and_identities_come_whatever_collections_are_wanted(
    name: str, kind: str, fields: set[str]
) -> None:
    message = example(name)
    event = json.loads(message.value or b"")
    [found] = sent(message, Wanted(collections=frozenset({"com.example.note"})))
    assert found.keys() == {"did", "time_us", "kind", kind}
    assert found["kind"] == kind
    assert found["time_us"] == event["received_us"]
    assert found[kind] == {field: event[field] for field in fields}
    assert sent(message, Wanted(dids=frozenset({"did:web:other.example"}))) == []


@pytest.mark.parametrize("name", ["sync", "refused-commit", "refused-sync", "unresolved"])
def test_of_the_rest_nothing_is_sent(name: str) -> None:
    assert sent(example(name)) == []


def test_collections_accounts_and_sizes_select() -> None:
    message = example("commit-several-ops")
    everything = encode_event(message, Wanted())
    collection = json.loads(everything[0])["commit"]["collection"]
    only = [text for text in everything if json.loads(text)["commit"]["collection"] == collection]
    assert encode_event(message, Wanted(collections=frozenset({collection}))) == only
    assert encode_event(message, Wanted(dids=frozenset({"did:web:other.example"}))) == []
    size = max(map(len, everything))
    assert encode_event(message, Wanted(max_bytes=size)) == everything
    assert encode_event(message, Wanted(max_bytes=size - 1)) == [
        text for text in everything if len(text) < size
    ]


@pytest.mark.shared
def test_real_frames_become_what_the_production_jetstream_emitted(shared_data: Path) -> None:
    folder = shared_data / "network-frames"
    found = [
        one
        for event in recorded_events(folder, 1_790_000_000_000_000)
        for one in sent(event_message(json.loads(event.value or b"")))
    ]
    lines = (folder / "expected_jetstream_v1.jsonl").read_bytes().splitlines()
    assert len(found) == 77
    assert [without_time(one) for one in found] == [
        without_time(json.loads(line)) for line in lines
    ]
