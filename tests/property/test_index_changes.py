"""An index is what is true, whatever the order in which topics come, and wherever it was killed.

A made-up network writes `repos` and `latest.*` as compact does, with deletions, repairs and
changes of the table of collections. An index of SQLite reads them in pieces of any size, from
partitions in any order, and loses what it had not stored at random moments.
"""

import sqlite3
import tempfile
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from support.indexes import COMMON_WORD, POST, Network

from pipelines.config import KafkaConfig
from pipelines.consume import AccountChanged, Batch, Change, Position
from pipelines.consume.assembly import Assembly
from pipelines.consume.examples.posts import PostIndex
from pipelines.consume.positions import Span, Topics, problems
from pipelines.consume.selection import Selection, select
from pipelines.kafka.messages import InputMessage, OutputMessage
from pipelines.kafka.messages import Position as Place

KAFKA = KafkaConfig("relay.example:9092", "p")
PARTITIONS = 2
LIFE_MS = 1_000_000


@dataclass
class Log:
    """One partition of a topic: what is left of it, and the offset after its last message."""

    messages: list[InputMessage] = field(default_factory=list)
    end: int = 0

    def append(self, message: OutputMessage) -> None:
        self.messages.append(
            InputMessage(
                message.topic,
                message.partition,
                self.end,
                message.timestamp_ms,
                message.key,
                message.value,
                message.headers,
            )
        )
        self.end += 1

    def skip(self) -> None:
        """Takes an offset without a message, as the end of a transaction does."""
        self.end += 1

    def compact(self, *, is_old: bool) -> None:
        """Keeps the last message of each key; of those that are old, no nulls."""
        last = {message.key: message for message in self.messages}
        self.messages = [
            message
            for message in sorted(last.values(), key=lambda message: message.offset)
            if message.value is not None or not is_old
        ]

    def after(self, offset: int) -> InputMessage | None:
        return next((message for message in self.messages if message.offset >= offset), None)


class Cluster:
    """All topics."""

    def __init__(self) -> None:
        self.logs: dict[Place, Log] = {}

    def log(self, place: Place) -> Log:
        return self.logs.setdefault(place, Log())

    def write(self, messages: list[OutputMessage]) -> None:
        touched = {(message.topic, message.partition) for message in messages}
        for message in messages:
            self.log((message.topic, message.partition)).append(message)
        for place in touched:
            self.log(place).skip()

    def topics(self, selection: Selection) -> Topics:
        return Topics(
            PARTITIONS,
            selection.collections,
            {topic: f"id of {topic}" for topic in selection.topics},
            {
                (topic, number): Span(0, self.log((topic, number)).end)
                for topic in selection.topics
                for number in range(PARTITIONS)
            },
            LIFE_MS,
        )


class Reader:
    """A process that builds the index, until it is killed."""

    def __init__(
        self, cluster: Cluster, network: Network, path: Path, random: Random, now_ms: int
    ) -> None:
        self._cluster = cluster
        self._network = network
        self._random = random
        self.index = PostIndex(path)
        self._selection = self._select()
        stored = self.index.positions()
        topics = cluster.topics(self._selection)
        positions = {
            number: Position.parse(stored[number])
            if number in stored
            else Position(number, PARTITIONS, (POST,), {}, {}, now_ms, False)
            for number in range(PARTITIONS)
        }
        for position in positions.values():
            assert not list(problems(position, topics, now_ms))
        self.assembly = Assembly(positions, stored, batch_count=random.randint(1, 8))
        self.assembly.begin_topics(topics, now_ms)
        self.last: Batch | None = None
        self._stored: list[Change] = []

    def _select(self) -> Selection:
        return select(KAFKA, [POST], self._network.admissions)

    def learn(self, now_ms: int) -> None:
        """Hears of the newest table, as it does some time after the first messages under it."""
        if self._selection != self._select():
            self._selection = self._select()
            self.assembly.begin_topics(self._cluster.topics(self._selection), now_ms)

    def read(self, count: int) -> None:
        """Reads some messages, each of any partition that has one, and stores full batches.

        One topic is slow: nothing of it comes as long as there is anything else.
        """
        slow = self._random.choice(self._selection.topics)
        for _ in range(count):
            if self.assembly.is_full:
                self.store()
            waiting = [
                (place, message)
                for place, offset in self.assembly.next_offsets.items()
                if (message := self._cluster.log(place).after(offset)) is not None
            ]
            if not waiting:
                return
            quick = [message for (topic, _), message in waiting if topic != slow]
            message = self._random.choice(quick or [message for _, message in waiting])
            self.assembly.add(message, self._selection)

    def store(self) -> None:
        self.last = self.assembly.take()
        self.index.apply(self.last)
        self._stored += self.last

    def take_stored(self) -> list[Change]:
        """Returns what went into the index since the last call."""
        taken, self._stored = self._stored, []
        return taken

    def finish(self, now_ms: int) -> Batch:
        """Reads everything that there is."""
        self.learn(now_ms)
        self.assembly.note_ends(_ends(self._cluster, self.assembly), now_ms)
        while True:
            before = self.assembly.next_offsets
            self.read(1_000)
            if self.assembly.next_offsets == before:
                break
        for (topic, number), end in _ends(self._cluster, self.assembly).items():
            self.assembly.reach(topic, number, end)
        self.store()
        assert self.last is not None
        return self.last

    def kill(self) -> None:
        """Leaves what was read and not stored."""
        self.index.close()


def _ends(cluster: Cluster, assembly: Assembly) -> Mapping[Place, int]:
    return {place: cluster.log(place).end for place in assembly.next_offsets}


def told(change: Change) -> tuple[str, str] | None:
    """Returns address and revision of what a change is about, of records."""
    return None if isinstance(change, AccountChanged) else (change.uri, change.rev)


def contents(index: PostIndex) -> dict[str, str]:
    """Returns what a search finds at most."""
    return {hit.uri: hit.text for hit in index.search(COMMON_WORD, 10_000)}


def rows(path: Path) -> list[tuple[object, ...]]:
    """Returns everything that an index has but its positions, also what is never shown."""
    with closing(sqlite3.connect(path)) as database:
        return [
            *database.execute("SELECT uri, did, rev, text FROM posts ORDER BY uri"),
            *database.execute("SELECT * FROM accounts ORDER BY did"),
        ]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(20, 120), st.booleans())
def test_an_index_that_was_killed_all_the_time_is_what_is_true(
    seed: int, steps_count: int, is_admitted: bool
) -> None:
    random = Random(seed)
    cluster = Cluster()
    network = Network(KAFKA, PARTITIONS, seed, admitted=[POST] if is_admitted else [])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "posts.db"
        reader = Reader(cluster, network, path, random, 0)
        for now_ms in range(1, steps_count):
            match random.randrange(12):
                case 0:
                    reader.kill()
                    reader = Reader(cluster, network, path, random, now_ms)
                case 1:
                    reader.learn(now_ms)
                case 2 if random.random() < 0.6:
                    network.change_table()
                case 3:
                    for log in cluster.logs.values():
                        log.compact(is_old=False)
                case 4 | 5 | 6:
                    reader.read(random.randint(1, 20))
                case _:
                    for messages in network.step():
                        cluster.write(messages)
        reader.finish(steps_count)
        assert contents(reader.index) == network.shown()
        for messages in network.finish():
            cluster.write(messages)
        last = reader.finish(steps_count)
        assert last.is_complete
        assert last.behind_count == 0
        assert contents(reader.index) == network.shown()
        assert reader.index.count() == len(network.posts())
        reader.kill()
        # One that begins now, when nulls are long forgotten, comes to the same.
        for log in cluster.logs.values():
            log.compact(is_old=True)
        fresh = Reader(cluster, network, Path(folder) / "fresh.db", random, steps_count)
        fresh.finish(steps_count)
        assert contents(fresh.index) == network.shown()
        assert fresh.index.count() == len(network.posts())
        fresh.kill()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32))
def test_each_message_changes_an_index_once_whatever_was_killed(seed: int) -> None:
    random = Random(seed)
    cluster = Cluster()
    network = Network(KAFKA, PARTITIONS, seed)
    applied: Counter[tuple[str, str] | None] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "posts.db"
        reader = Reader(cluster, network, path, random, 0)
        for now_ms in range(1, 80):
            for messages in network.step():
                cluster.write(messages)
            if now_ms == 40:
                network.change_table()
            reader.learn(now_ms)
            reader.read(random.randint(1, 12))
            applied.update(map(told, reader.take_stored()))
            if random.random() < 0.2:
                reader.kill()
                reader = Reader(cluster, network, path, random, now_ms)
        reader.finish(80)
        applied.update(map(told, reader.take_stored()))
        reader.kill()
    del applied[None]
    written = [
        (message.key.decode(), dict(message.headers)["rev"].decode())
        for (topic, _), log in cluster.logs.items()
        for message in log.messages
        if topic != KAFKA.topic("repos") and message.key is not None
        if dict(message.headers)["operation"] != b"move"
    ]
    assert applied == Counter(item for item in written if f"/{POST}/" in item[0])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(20, 120))
def test_an_index_made_of_what_is_left_equals_one_made_of_all_history(
    seed: int, steps_count: int
) -> None:
    random = Random(seed)
    cluster = Cluster()
    network = Network(KAFKA, PARTITIONS, seed)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(steps_count):
            for messages in network.step():
                cluster.write(messages)
            if number == steps_count // 2:
                network.change_table()
        made = []
        for name in ("history.db", "snapshot.db"):
            reader = Reader(cluster, network, Path(folder) / name, random, 0)
            reader.finish(0)
            reader.kill()
            made.append(rows(Path(folder) / name))
            for log in cluster.logs.values():
                log.compact(is_old=True)
        assert made[0] == made[1]
        assert made[0]
