"""Batches: what they bring, what they store, and when an index is complete."""

from dataclasses import replace

import orjson
import pytest
from support.admissions import in_force
from support.events import DID, rev, source

from pipelines.compact.outputs import repo_message
from pipelines.compact.service import output_topics
from pipelines.compact.state import RepoState
from pipelines.config import KafkaConfig
from pipelines.consume import AccountChanged, Position, Sync
from pipelines.consume import assembly as assembly_module
from pipelines.consume.assembly import Assembly
from pipelines.consume.positions import Span, Topics
from pipelines.consume.selection import select
from pipelines.kafka.messages import InputMessage
from pipelines.kafka.topics import registry

KAFKA = KafkaConfig("relay.example:9092", "p")
POST, LIKE = "app.bsky.feed.post", "app.bsky.feed.like"
ADMISSIONS = in_force(([POST], [0]))
SELECTION = select(KAFKA, [POST], ADMISSIONS)
REPOS, POSTS = "p.repos", f"p.latest.{POST}"


def begun(ends: dict[str, int], *, partitions: int = 1, batch_count: int = 10) -> Assembly:
    fresh = {
        number: Position(number, partitions, (POST,), {}, {}, 1_000, is_complete=False)
        for number in range(partitions)
    }
    assembly = Assembly(fresh, {}, batch_count=batch_count)
    spans = {
        (topic, number): Span(0, end)
        for topic, end in ends.items()
        for number in range(partitions)
    }
    topic_ids = {topic: topic for topic in ends}
    assembly.begin_topics(Topics(partitions, (POST,), topic_ids, spans, 1), 1_000)
    return assembly


def repo(offset: int, *, active: bool = True, did: str = DID) -> InputMessage:
    topics = output_topics(KAFKA, registry().admitting(ADMISSIONS.ever), ADMISSIONS)
    state = RepoState(DID, source(offset + 1), upstream_active=active)
    written = repo_message(state, 0, topics)
    value = orjson.dumps(orjson.loads(written.value or b"") | {"did": did})
    return InputMessage(REPOS, 0, offset, 0, did.encode(), value, written.headers)


def gone(offset: int, collection: str = POST) -> InputMessage:
    fields = {"did": DID, "collection": collection, "operation": "delete", "live": "true"}
    headers = [(name, text.encode()) for name, text in fields.items()]
    key = f"at://{DID}/{collection}/{offset}".encode()
    return InputMessage(POSTS, 0, offset, 0, key, None, [*headers, ("rev", rev(1).encode())])


def test_an_index_is_complete_once_every_end_is_reached() -> None:
    assembly = begun({REPOS: 1, POSTS: 2})
    assembly.add(gone(0), SELECTION)
    assembly.add(repo(0), SELECTION)
    first = assembly.take()
    assert (len(first.changes), first.is_complete, first.behind_count) == (2, False, 1)
    assert first.before == {0: None}
    assert not assembly.is_at_ends
    # Behind the last message there is the mark of its transaction.
    assembly.reach(POSTS, 0, 2)
    assert assembly.is_news
    last = assembly.take()
    assert (last.changes, last.is_complete, last.behind_count) == ((), True, 0)
    assert last.before == first.positions
    stored = Position.parse(last.positions[0])
    assert stored.next_offsets == {REPOS: 1, POSTS: 2}
    assert (stored.current_ms, stored.is_complete) == (1_000, True)
    assert not assembly.is_news


def test_one_partition_that_is_behind_makes_an_index_incomplete() -> None:
    assembly = begun({REPOS: 1, POSTS: 0}, partitions=2)
    assembly.reach(REPOS, 0, 1)
    half = assembly.take()
    assert (half.is_complete, half.behind_count, list(half.positions)) == (False, 1, [0])
    assembly.reach(REPOS, 1, 1)
    assert assembly.take().is_complete


def test_topics_without_a_message_are_complete_at_once() -> None:
    assembly = begun({REPOS: 0, POSTS: 0})
    assert assembly.is_news
    assert assembly.take().is_complete


def test_an_index_that_reaches_the_ends_again_is_current_since_they_were_noted() -> None:
    assembly = begun({REPOS: 0, POSTS: 0})
    assembly.take()
    assembly.note_ends({(REPOS, 0): 0, (POSTS, 0): 3}, 2_000)
    assert not assembly.is_news
    assert assembly.oldest.current_ms == 1_000
    assembly.reach(POSTS, 0, 4)
    batch = assembly.take()
    assert Position.parse(batch.positions[0]).current_ms == 2_000
    assert assembly.oldest.current_ms == 2_000


def test_a_collection_that_is_not_chosen_moves_the_position_alone() -> None:
    assembly = begun({REPOS: 0, POSTS: 9})
    assembly.add(gone(0, LIKE), SELECTION)
    assert not assembly.is_news
    assert assembly.next_offsets[POSTS, 0] == 1


def test_a_batch_is_full_by_its_changes() -> None:
    assembly = begun({REPOS: 0, POSTS: 9}, batch_count=2)
    found = [assembly.is_full]
    for offset in range(2):
        assembly.add(gone(offset), SELECTION)
        found.append(assembly.is_full)
    assembly.take()
    assert [*found, assembly.is_full] == [False, False, True, False]


def test_a_batch_is_full_by_the_bytes_that_were_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembly_module, "BATCH_BYTES", 100)
    assembly = begun({REPOS: 9, POSTS: 0})
    assembly.add(repo(0), SELECTION)
    assert assembly.is_full


def test_what_was_read_in_vain_moves_the_position_before_it_is_too_much(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(assembly_module, "BATCH_BYTES", 100)
    assembly = begun({REPOS: 0, POSTS: 9})
    message = gone(0, LIKE)._replace(value=b"x" * 100)
    assembly.add(message, SELECTION)
    assert assembly.is_news
    batch = assembly.take()
    assert batch.changes == ()
    assert Position.parse(batch.positions[0]).next_offsets[POSTS] == 1
    assert not assembly.is_full


def test_an_account_is_told_of_once_until_it_changes() -> None:
    assembly = begun({REPOS: 9, POSTS: 0})
    for offset, active in enumerate([True, True, False, False, True]):
        assembly.add(repo(offset, active=active), SELECTION)
    told = [change for change in assembly.take() if isinstance(change, AccountChanged)]
    assert [change.is_active for change in told] == [True, False, True]
    assert told[0] == AccountChanged(DID, True, None, Sync.UNKNOWN, None)


def test_accounts_that_were_told_of_are_forgotten_beyond_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(assembly_module, "TOLD_COUNT", 2)
    assembly = begun({REPOS: 99, POSTS: 0}, batch_count=99)
    dids = [f"did:plc:{name * 24}" for name in "abc"]
    for offset, did in enumerate([dids[0], dids[1], dids[0], dids[2], dids[0], dids[1]]):
        assembly.add(repo(offset, did=did), SELECTION)
    told = [change.did for change in assembly.take()]
    # The second one was used least recently when the third came.
    assert told == [dids[0], dids[1], dids[2], dids[1]]


def test_a_topic_that_is_new_is_read_from_its_beginning_and_the_others_go_on() -> None:
    assembly = begun({REPOS: 5, POSTS: 7})
    assembly.reach(REPOS, 0, 5)
    assembly.reach(POSTS, 0, 7)
    assembly.take()
    spans = {(REPOS, 0): Span(0, 5), (POSTS, 0): Span(0, 7), ("p.latest.other", 0): Span(2, 4)}
    topic_ids = {topic: topic for topic, _ in spans}
    assembly.begin_topics(Topics(1, (POST,), topic_ids, spans, 1), 2_000)
    assert assembly.next_offsets == {(REPOS, 0): 5, (POSTS, 0): 7, ("p.latest.other", 0): 2}
    assert assembly.take().behind_count == 2


@pytest.mark.parametrize(
    ("tables", "chosen", "homes"),
    [
        ([[POST]], [POST], [POST]),
        ([[POST]], [LIKE], ["other"]),
        ([[POST]], [POST, LIKE], [POST, "other"]),
        ([[POST]], [], []),
        ([[POST]], None, [POST, "other"]),
        ([[], [POST]], [POST], [POST, "other"]),
        ([[POST], []], [POST], [POST, "other"]),
        ([[POST], []], None, [POST, "other"]),
    ],
)
def test_all_topics_are_read_that_may_hold_what_is_chosen(
    tables: list[list[str]], chosen: list[str] | None, homes: list[str]
) -> None:
    admissions = in_force(*((table, [0]) for table in tables))
    selection = select(KAFKA, chosen, admissions)
    assert selection.topics == ("p.repos", *(f"p.latest.{home}" for home in homes))
    assert selection.has(POST) is (chosen is None or POST in chosen)


def test_a_position_is_not_changed_by_what_comes_after_it() -> None:
    assembly = begun({REPOS: 0, POSTS: 9})
    assembly.add(gone(0), SELECTION)
    text = assembly.take().positions[0]
    assembly.add(gone(1), SELECTION)
    assert Position.parse(text) == replace(assembly.oldest, next_offsets={REPOS: 0, POSTS: 1})
