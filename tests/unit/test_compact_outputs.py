"""Compact's messages: what the contracts in schemas/ say, for every event example and op."""

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from support.events import DID, account, commit, create, delete, refused, rev, source

from pipelines.atproto.frames import Action
from pipelines.atproto.syntax import RecordKey
from pipelines.compact.accounts import without_repository
from pipelines.compact.events import (
    Body,
    CommitEvent,
    EventOp,
    RefusedEvent,
    SyncEvent,
    parse_event,
)
from pipelines.compact.outputs import (
    RECORDS_BUDGET_BYTES,
    OutputTopics,
    record_address,
    record_headers,
    record_messages,
    repo_message,
    tombstone_messages,
)
from pipelines.compact.reducer import reduce_event
from pipelines.compact.state import RepoState, parse_repo
from pipelines.kafka.topics import registry, validator

_EXAMPLES = sorted(
    (Path(__file__).parents[2] / "schemas" / "examples" / "events" / "v1").glob("*.json")
)
# Of a repository that is not known.
_WITHOUT_TRACE = ("identity", "unresolved")
TOPICS = OutputTopics(
    "p.repos", "p.resyncs", "p.latest.other", {"app.bsky.feed.like": "p.latest.like"}
)
PARTITION = 3


def example(name: str) -> dict[str, Any]:
    (file,) = (file for file in _EXAMPLES if file.stem == name)
    value: dict[str, Any] = json.loads(file.read_bytes())
    return value


def parsed(name: str) -> CommitEvent:
    event = parse_event(orjson.dumps(example(name)))
    assert isinstance(event, CommitEvent)
    return event


def messages_of(event: CommitEvent) -> list[Any]:
    return record_messages(event.did, event.signed.rev, event.ops, event.source, PARTITION, TOPICS)


@pytest.mark.parametrize("file", _EXAMPLES, ids=lambda file: file.stem)
def test_every_event_of_the_contract_is_understood(file: Path) -> None:
    fields = json.loads(file.read_bytes())
    event = parse_event(file.read_bytes())
    assert event.did == fields["did"]
    assert event.source._asdict() == {name: fields.get(name) for name in event.source._fields}
    if isinstance(event, CommitEvent | SyncEvent | RefusedEvent):
        assert event.signed._asdict() == {name: fields[name] for name in event.signed._fields}


@pytest.mark.parametrize(
    "value", [b"[]", b"{}", b'{"kind":"gap"}', b"not json", b'{"kind":"commit","did":"did:a:b"}']
)
def test_another_shape_is_refused(value: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of orjson or of ours
        parse_event(value)


@pytest.mark.parametrize(
    "file",
    [file for file in _EXAMPLES if not file.stem.startswith(_WITHOUT_TRACE)],
    ids=lambda f: f.stem,
)
def test_the_state_after_every_event_of_the_contract_fits_the_contract_of_repos(
    file: Path,
) -> None:
    state = reduce_event(None, parse_event(file.read_bytes()), 0).state
    assert state is not None
    message = repo_message(state, PARTITION, TOPICS)
    validator("repos", 1).validate(json.loads(message.value or b""))
    assert parse_repo(message.value or b"") == state
    assert (message.topic, message.partition, message.key) == (
        "p.repos",
        PARTITION,
        state.did.encode(),
    )
    expected = {"did": state.did, "sync": state.sync, "active": str(state.active).lower()}
    assert {name: value.decode() for name, value in message.headers} == expected
    assert [name for name, _ in message.headers] == [
        header.name for header in registry().specs["repos"].headers
    ]
    assert message.timestamp_ms == state.source.received_us // 1000


@pytest.mark.parametrize(
    "name",
    ["commit-create-like", "commit-create-post", "commit-record-error", "commit-several-ops"],
)
def test_records_fit_the_contract_of_latest(name: str) -> None:
    fields, event = example(name), parsed(name)
    messages = messages_of(event)
    assert len(messages) == len(fields["ops"]) > 0
    for op, message in zip(fields["ops"], messages, strict=True):
        uri = f"at://{event.did}/{op['collection']}/{op['rkey']}"
        assert message.key == uri.encode()
        assert record_address(message.key) == (event.did, f"{op['collection']}/{op['rkey']}")
        headers = dict(message.headers)
        documented = {header.name: header for header in registry().specs["latest"].headers}
        assert headers.keys() <= documented.keys()
        required = {header.name for header in documented.values() if not header.is_optional}
        assert required <= headers.keys()
        assert headers["operation"] == op["operation"].encode()
        assert headers.get("prev") == (None if op["prev"] is None else op["prev"].encode())
        assert record_headers(message.headers) == (event.signed.rev, op["cid"])
        if op["operation"] == "delete":
            assert message.value is None
            continue
        value = json.loads(message.value or b"")
        validator("latest", 1).validate(value)
        shown = op if op["record_from"] is None else fields["ops"][op["record_from"]]
        for field in ("record", "record_error", "record_cbor"):
            assert value[field] == shown[field]


def test_a_collection_without_its_own_topic_goes_to_other() -> None:
    event = commit(1, None, create("app.bsky.feed.like/1", "x"), create("a.b.c/1", "y"))
    assert [message.topic for message in messages_of(event)] == ["p.latest.like", "p.latest.other"]


def test_a_large_record_that_is_named_often_stays_within_the_budget() -> None:
    body = Body({"text": "x" * 1_000_000}, None, None)
    create_op = create("a.b.c/1", "x")
    ops = [create_op._replace(rkey=RecordKey(str(n)), body=body) for n in range(200)]
    messages = messages_of(commit(1, None, *ops))
    values = [json.loads(message.value) for message in messages]
    assert sum(message.size_bytes for message in messages) < RECORDS_BUDGET_BYTES + 200 * 1_000
    whole = [value for value in values if value["record"] is not None]
    assert len(whole) == RECORDS_BUDGET_BYTES // 1_000_500
    assert {value["record_error"] for value in values[len(whole) :]} == {"json.too_large"}
    # Path and CID are there for all of them: audits still close.
    assert {value["cid"] for value in values} == {"x"}
    assert len({value["uri"] for value in values}) == 200


def test_the_tombstone_of_a_deleted_account_has_the_last_revision() -> None:
    state: RepoState | None = None
    for event in (
        commit(1, None, create("a.b.c/1", "x")),
        refused(4),
        account(5, active=False, status="deleted"),
    ):
        state = reduce_event(state, event, 0).state
    assert state is not None
    gone = without_repository(state)
    [message] = tombstone_messages(DID, "a.b.c/1", "x", gone, PARTITION, TOPICS)
    assert (message.key, message.value) == (f"at://{DID}/a.b.c/1".encode(), None)
    assert dict(message.headers) == {
        "did": DID.encode(),
        "collection": b"a.b.c",
        "operation": b"delete",
        "rev": rev(4).encode(),
        "live": b"true",
        "prev": b"x",
    }
    assert message.timestamp_ms == source(5).received_us // 1000


def test_an_update_names_both_records() -> None:
    op = EventOp(*delete("a.b.c/1", "old")[:3], "new", "old", Body({}, None, None))
    [message] = messages_of(commit(2, 1, op._replace(action=Action.UPDATE)))
    headers = dict(message.headers)
    assert (headers["operation"], headers["cid"], headers["prev"]) == (b"update", b"new", b"old")
