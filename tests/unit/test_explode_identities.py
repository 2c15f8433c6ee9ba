"""What a worker keeps of the topic `identities`: restored, followed, and told to the key ring."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from support import wire
from support.admissions import NOBODY
from support.identities import (
    ALICE,
    BOB,
    CAROL,
    DAVE,
    NEW_KEY,
    OLD_KEY,
    SECOND_US,
    Clock,
    FakeResolver,
)
from support.repo import DID, SIGNER, Repo, record

from pipelines.atproto.syntax import Did
from pipelines.config import KafkaConfig
from pipelines.errors import IdentityUnavailableError, RefusalCeilingError
from pipelines.explode import identities
from pipelines.explode.ceiling import Limits, RefusalWindow
from pipelines.explode.identities import HeldIdentities
from pipelines.explode.outputs import OutputTopics
from pipelines.explode.stage import ExplodeStage
from pipelines.explode.waiting import DEFAULT_LIMIT_S, WaitingFrames
from pipelines.identity.documents import Identity
from pipelines.identity.entries import (
    IdentityEntry,
    encode_entry,
    entry_of_document,
    stale,
)
from pipelines.identity.keyring import KeyRing
from pipelines.kafka.copies import CopyMeta, Original
from pipelines.kafka.following import Follower
from pipelines.kafka.messages import InputMessage, OutputMessage, Position

TOPIC = "identities"
PARTITION = 0
CEILING = Limits(accounts_count=3, servers_count=3, window_count=10)


class Topic:
    """The one partition of `identities`, as this worker and others write it."""

    def __init__(self) -> None:
        self.messages: list[InputMessage] = []

    def write(self, *entries: IdentityEntry) -> None:
        for entry in entries:
            offset, key = len(self.messages), entry.did.encode()
            self.messages.append(
                InputMessage(TOPIC, PARTITION, offset, 0, key, encode_entry(entry), [])
            )

    def ends(self, partitions: Sequence[int]) -> Mapping[int, int]:
        return dict.fromkeys(partitions, len(self.messages))


class TopicOriginal(Original):
    """Reads what a store lacks from the list."""

    def __init__(self, topic: Topic, clock: Clock) -> None:
        super().__init__(
            KafkaConfig("broker.example:9092"),
            "explode",
            {TOPIC: "id"},
            3_600_000,
            lambda: clock.now_us // 1_000,
        )
        self._messages = topic.messages

    def missing(
        self, meta: CopyMeta, partition: int, ends: Mapping[str, int]
    ) -> Iterator[list[InputMessage]]:
        assert partition == PARTITION
        yield self._messages[meta.next_offsets[TOPIC] : ends[TOPIC]]


class TopicFollower(Follower):
    """Reads on in the list."""

    def __init__(self, topic: Topic) -> None:
        self._messages = topic.messages
        self._next_offset: int | None = None

    def assign(self, next_offsets: Mapping[Position, int]) -> None:
        self._next_offset = next_offsets.get((TOPIC, PARTITION))

    def poll(self, max_count: int) -> list[InputMessage]:
        if self._next_offset is None:
            return []
        polled = self._messages[self._next_offset : self._next_offset + max_count]
        self._next_offset += len(polled)
        return polled

    def close(self) -> None:
        self._next_offset = None


class NoFrames:
    """No frame waits, so none is read again."""

    def read(
        self, partition: int, offsets: Sequence[int], budget_s: float
    ) -> Mapping[int, InputMessage | None]:
        raise AssertionError(f"offsets {offsets} of partition {partition} within {budget_s} s")

    def close(self) -> None:
        """Holds nothing."""


class World:
    """A worker, with topic, directory and clock in the hands of the test."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self.topic = Topic()
        self.resolver = FakeResolver()
        self.held = HeldIdentities(
            TOPIC,
            1,
            folder,
            TopicOriginal(self.topic, self.clock),
            self.topic.ends,
            TopicFollower(self.topic),
        )
        self.ring = KeyRing(self.resolver, self.held, max_keys=100, clock_us=self.clock)
        waiting = WaitingFrames(
            "parked",
            load=lambda _: iter(()),
            reader=NoFrames(),
            outlook=self.ring.outlook,
            clock_us=self.clock,
        )
        topics = OutputTopics("events", "quarantine", TOPIC, "parked", "records.other", {}, NOBODY)
        self.stage = ExplodeStage(
            self.ring, self.held, waiting, topics, RefusalWindow(CEILING), lambda: None
        )

    def restore(self, partitions: Sequence[int] = (PARTITION,)) -> None:
        for _ in self.stage.restore(partitions):
            pass

    def process(self, frame: InputMessage) -> Sequence[OutputMessage]:
        self.stage.prepare([frame])
        return self.stage.process(frame)

    def entry(self) -> IdentityEntry:
        """Alice's old key, as of now."""
        identity = Identity(ALICE, OLD_KEY, None, None)
        return entry_of_document(identity, "https://plc.example", self.clock.now_us)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    world.restore()
    yield world
    world.stage.close()


def test_a_key_in_memory_does_not_survive_a_change_heard_by_who_had_the_partition_meanwhile(
    world: World,
) -> None:
    """Spec: E-13."""
    entry = world.entry()
    world.topic.write(entry)
    world.stage.background([PARTITION])
    assert world.ring.current_key(ALICE) == OLD_KEY
    world.restore([])
    world.topic.write(stale(entry))
    world.restore()
    world.resolver.keys[ALICE] = NEW_KEY
    world.ring.prefetch([ALICE])
    assert world.ring.current_key(ALICE) == NEW_KEY


def test_a_newer_key_of_who_had_the_partition_meanwhile_is_used_without_asking(
    world: World,
) -> None:
    entry = world.entry()
    world.topic.write(entry)
    world.stage.background([PARTITION])
    assert world.ring.current_key(ALICE) == OLD_KEY
    world.restore([])
    newer_us = entry.as_of_us + SECOND_US
    world.topic.write(replace(entry, signing_key=NEW_KEY, as_of_us=newer_us, fetched_us=newer_us))
    world.restore()
    assert world.ring.current_key(ALICE) == NEW_KEY
    assert world.resolver.fetched[ALICE] == 0


def learn(world: World, entry: IdentityEntry) -> None:
    """Has an entry learned and written, in a transaction that was committed."""
    world.held.keep(entry)
    assert [message.topic for message in world.held.take(entry.did, PARTITION)] == [TOPIC]
    world.held.committed()
    world.topic.write(entry)


def test_what_is_not_read_back_is_bounded_and_read_back_first(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identities, "MAX_LEARNED_COUNT", 2)
    monkeypatch.setattr(identities, "FOLLOWED_COUNT", 1)
    monkeypatch.setattr(identities, "CATCH_UP_COUNT", 3)
    imported = [replace(world.entry(), did=did) for did in (CAROL, DAVE)]
    world.topic.write(*imported)
    learn(world, world.entry())
    world.stage.prepare([])
    learn(world, replace(world.entry(), did=BOB))
    with pytest.raises(IdentityUnavailableError, match="2 identities"):
        world.stage.prepare([])
    world.stage.background([PARTITION])
    world.stage.prepare([])
    assert [message.did for message in world.held.follow()] == [BOB]


def test_what_came_back_is_forgotten_although_a_clock_elsewhere_is_ahead(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identities, "MAX_LEARNED_COUNT", 1)
    ahead = stale(replace(world.entry(), as_of_us=world.clock.now_us + SECOND_US))
    world.topic.write(ahead)
    world.stage.background([PARTITION])
    learn(world, world.entry())
    assert world.held.get(ALICE) == world.entry()
    world.stage.background([PARTITION])
    assert world.held.get(ALICE) == ahead
    world.stage.prepare([])


def test_what_is_known_of_an_account_goes_out_with_a_frame_that_is_given_up(
    world: World,
) -> None:
    headers = {"host": "relay.example", "seq": 1, "kind": "commit", "received_us": 5}
    value = Repo().apply({"com.example.note/1": record("a note")}).frame(seq=1)
    encoded = [(name, str(header).encode()) for name, header in headers.items()]
    frame = InputMessage("frames", PARTITION, 0, 0, DID.encode(), value, encoded)
    world.resolver.unavailable[DID] = None
    assert [message.topic for message in world.process(frame)] == ["parked"]
    world.held.keep(stale(replace(world.entry(), did=DID)))
    world.clock.turn(DEFAULT_LIMIT_S)
    work = world.stage.background([PARTITION])
    assert work is not None
    assert [m.topic for m in work.outputs] == ["events", "quarantine", TOPIC, "parked"]


def test_refusals_across_accounts_and_servers_stop_the_worker(world: World) -> None:
    """The server is the one that the account's identity names, whoever brought the frame."""

    def unreadable(did: Did) -> InputMessage:
        headers = [("host", b"relay.example"), ("received_us", b"5")]
        return InputMessage("frames", PARTITION, 0, 0, did.encode(), b"", headers)

    accounts = {ALICE: "a", BOB: "b", CAROL: "b", DAVE: "d"}
    for did, server in accounts.items():
        world.topic.write(replace(world.entry(), did=did, pds=f"https://{server}.example"))
    world.stage.background([PARTITION])
    for did in (ALICE, BOB, CAROL):
        assert [message.topic for message in world.process(unreadable(did))] == ["quarantine"]
    with pytest.raises(RefusalCeilingError, match="4 accounts on 3 known servers"):
        world.process(unreadable(DAVE))
    assert world.stage.groups["refused_lately"] == {"frames": 4, "accounts": 4, "servers": 3}


@pytest.mark.parametrize("kind", ["#commit", "#account"])
def test_a_server_that_is_read_directly_speaks_for_its_own_accounts_alone(
    world: World, kind: str
) -> None:
    """Also for a commit that is signed: that it is told at all is the account's server's to do.

    spec: J-10, H-05
    """
    repo = Repo().apply({"com.example.note/1": record("a note")})
    status = {"seq": 1, "did": DID, "time": wire.START_TIME, "active": False, "status": "deleted"}
    value = repo.frame(seq=1) if kind == "#commit" else wire.frame(kind, status)

    def judged(offset: int, *, host: str, is_pds: bool) -> list[OutputMessage]:
        headers = [
            ("host", host.encode()),
            ("seq", b"1"),
            ("kind", kind.removeprefix("#").encode()),
            ("received_us", b"%d" % world.clock.now_us),
        ]
        headers += [("upstream", b"pds")] if is_pds else []
        frame = InputMessage("frames", PARTITION, offset, 0, DID.encode(), value, headers)
        outputs = list(world.process(frame))
        return [output for output in outputs if output.topic != TOPIC]

    world.resolver.keys[DID] = SIGNER.key
    world.resolver.servers[DID] = "https://home.example"
    assert judged(0, host="home.example", is_pds=True)[0].topic == "events"
    assert judged(1, host="relay.example", is_pds=False)[0].topic == "events"
    # No event, so the repository stays as before.
    [refused] = judged(2, host="evil.example", is_pds=True)
    assert (refused.topic, refused.value) == ("quarantine", value)
    assert dict(refused.headers)["q.reason"] == b"identity.other_server"
    assert dict(refused.headers)["upstream"] == b"pds"
