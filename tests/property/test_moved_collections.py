"""Collections that get topics of their own and lose them: `latest.*` still says what is there.

Random histories of records, account deletions and changes of the table are written as compact
writes them. Whoever reads the topics, in any order and in any number of pieces, has to find the
records that there are.
"""

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.admissions import in_force
from support.events import DID, HOST, create, delete, rev, source

from pipelines.atproto.cid import cid_of, encode_cid, parse_cid
from pipelines.atproto.frames import Action
from pipelines.compact.events import EventOp, Source
from pipelines.compact.outputs import OutputTopics, record_messages, tombstone_messages
from pipelines.compact.restore import Restoration
from pipelines.compact.service import output_topics
from pipelines.compact.state import RepoState
from pipelines.compact.store import Record
from pipelines.config import KafkaConfig
from pipelines.kafka import copies
from pipelines.kafka.messages import InputMessage, OutputMessage, Position
from pipelines.kafka.topics import registry

KAFKA = KafkaConfig(f"{HOST}:9092", "p")
NOTE = "com.example.note"
SNAPSHOT = source()._replace(snapshot_offset=0)
CIDS = [encode_cid(cid_of(b"%d" % n)) for n in range(3)]
PATHS = st.sampled_from([f"{NOTE}/{n}" for n in range(3)])

EDIT = st.tuples(st.just("edit"), PATHS, st.sampled_from(CIDS))
REMOVE = st.tuples(st.just("remove"), PATHS)
# What a snapshot of the very revision changes: a server that signed it twice, or an account that
# returns after its records were purged.
CORRECT = st.tuples(st.just("correct"), PATHS, st.sampled_from(CIDS))
CORRECT_AWAY = st.tuples(st.just("correct away"), PATHS)
STEPS = st.lists(
    EDIT
    | EDIT
    | REMOVE
    | CORRECT
    | CORRECT_AWAY
    | st.tuples(st.just("change the table"))
    | st.tuples(st.just("purge")),
    max_size=25,
)


class World:
    """The topics of compact, written by the rules of the table at each time."""

    def __init__(self) -> None:
        self.tables: list[tuple[list[str], list[int]]] = [([], [0])]
        self.topics: dict[str, list[InputMessage]] = {}
        self.truth: dict[str, Record] = {}
        self._number = 0

    def do(self, step: tuple[str, ...]) -> None:
        match step:
            case ("change the table",):
                collections, _ = self.tables[-1]
                self.tables.append(([] if collections else [NOTE], [0]))
            case ("purge",):
                state = RepoState(DID, source(), deleted_rev=rev(self._number))
                outputs = self.outputs
                for path, record in self.truth.items():
                    prev = encode_cid(record.cid)
                    self._write(tombstone_messages(DID, path, prev, state, 0, outputs))
                self.truth.clear()
            case ("edit", path, cid):
                self._number += 1
                self._change(self._put(path, cid), source(self._number))
            case ("remove", path) if path in self.truth:
                self._number += 1
                self._change(self._delete(path), source(self._number))
            case ("correct", path, cid):
                self._change(self._put(path, cid), SNAPSHOT)
            case ("correct away", path) if path in self.truth:
                self._change(self._delete(path), SNAPSHOT)

    @property
    def outputs(self) -> OutputTopics:
        admissions = in_force(*self.tables)
        return output_topics(KAFKA, registry().admitting(admissions.ever), admissions)

    def _put(self, path: str, cid: str) -> EventOp:
        known = self.truth.get(path)
        op = create(path, cid)
        if known is None:
            return op
        return op._replace(action=Action.UPDATE, prev=encode_cid(known.cid))

    def _delete(self, path: str) -> EventOp:
        return delete(path, encode_cid(self.truth[path].cid))

    def _change(self, op: EventOp, cause: Source) -> None:
        """Writes an operation under the newest revision."""
        at = rev(self._number)
        self._write(record_messages(DID, at, [op], cause, 0, self.outputs))
        if op.cid is None:
            del self.truth[op.path]
        else:
            self.truth[op.path] = Record(parse_cid(op.cid), at)

    def _write(self, messages: Iterable[OutputMessage]) -> None:
        for message in messages:
            log = self.topics.setdefault(message.topic, [])
            key, value, headers = message.key, message.value, message.headers
            log.append(InputMessage(message.topic, 0, len(log), 0, key, value, headers))


def read(world: World, ends: list[dict[str, int]], shuffled: Random) -> dict[str, Record]:
    """Returns what a store has of the topics that are read up to each of the ends in turn."""

    def read_between(
        _: KafkaConfig, starts: Mapping[Position, int], ends: Mapping[Position, int]
    ) -> Iterator[InputMessage]:
        logs = [world.topics.get(where[0], [])[starts[where] : end] for where, end in ends.items()]
        while any(logs):
            yield shuffled.choice([log for log in logs if log]).pop(0)

    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(copies, "read_between", read_between)
        restoration = Restoration(KAFKA, world.outputs, {}, 0, lambda: 0)
        store = restoration.create(Path(folder))
        for end in ends:
            for _ in restoration.fill(store, 0, end):
                pass
        found = {path: Record(record.cid, record.rev) for path, record in store.records(DID)}
        store.close()
    return found


_EDIT = ("edit", f"{NOTE}/0", CIDS[0])
_CHANGE = ("change the table",)
_PURGE = ("purge",)
_CORRECT = ("correct", f"{NOTE}/0", CIDS[0])
_CORRECT_OTHERWISE = ("correct", f"{NOTE}/0", CIDS[1])
# An account returns with the revision that it went with, and finds another table; or twice.
_RETURN = [_EDIT, _CHANGE, _PURGE, _CORRECT]
_RETURN_TWICE = [*_RETURN, _CHANGE, _PURGE, _CORRECT, _CHANGE]
# A server signs other records under the same revision, and the table changes before and behind it.
_OTHERWISE = [_EDIT, _CHANGE, _CORRECT_OTHERWISE, _CHANGE]


class First(Random):
    """Chooses the first or the last of what there is: one topic is read after the other."""

    def __init__(self, index: int) -> None:
        super().__init__(0)
        self._index = index

    def choice(self, seq: Any) -> Any:
        return seq[self._index]


@settings(max_examples=100)
@example([_EDIT, _CHANGE, _EDIT, _CHANGE], Random(0), 0)
@example([_EDIT, _CHANGE, _EDIT, _CHANGE], Random(1), 0)
@example(_RETURN, First(0), 0)
@example(_RETURN, First(-1), 0)
@example(_RETURN_TWICE, First(0), 0)
@example(_RETURN_TWICE, First(-1), 0)
@example(_OTHERWISE, First(0), 0)
@example(_OTHERWISE, First(-1), 0)
@given(STEPS, st.randoms(use_true_random=False), st.integers(0, 25))
def test_whoever_reads_the_topics_finds_the_records_that_there_are(
    steps: list[tuple[str, ...]], shuffled: Random, pause: int
) -> None:
    world = World()
    lengths = {}
    for number, step in enumerate(steps):
        if number == pause:
            lengths = {topic: len(log) for topic, log in world.topics.items()}
        world.do(step)
    topics = world.outputs.latest
    ends = {topic: len(world.topics.get(topic, [])) for topic in topics}
    before = {topic: lengths.get(topic, 0) for topic in topics}
    assert read(world, [before, ends], shuffled) == world.truth


def test_a_record_is_taken_out_of_the_old_topic_when_it_changes_and_not_before() -> None:
    world = World()
    for cid, path in zip(CIDS, ("a", "b", "c"), strict=True):
        world.do(("edit", f"{NOTE}/{path}", cid))
    world.do(("change the table",))
    old, new = "p.latest.other", f"p.latest.{NOTE}"
    assert set(world.topics) == {old}
    world.do(("edit", f"{NOTE}/a", CIDS[1]))
    world.do(("remove", f"{NOTE}/b"))
    world.do(("edit", f"{NOTE}/new", CIDS[0]))
    moved, gone = world.topics[old][3:]
    assert (moved.value, dict(moved.headers)["operation"]) == (None, b"move")
    assert "cid" not in dict(moved.headers)
    assert (gone.value, dict(gone.headers)["operation"]) == (None, b"delete")
    assert [dict(message.headers)["operation"] for message in world.topics[new]] == [
        *(b"update", b"delete", b"create")
    ]
