"""Compact on a real broker: what its store may lose, who owns a partition, Kafka's compaction."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # no explicit re-exports
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)
from support.compact import Running, lose
from support.events import account, commit, create, delete, encode_event
from support.kafka import read_committed, wait_until
from support.latest import read_latest, read_stores
from support.logs import Log, captured_logs

from pipelines.atproto.cid import cid_of, encode_cid
from pipelines.atproto.syntax import Did
from pipelines.compact import service
from pipelines.compact.events import Event, EventOp
from pipelines.config import KafkaConfig
from pipelines.errors import BrokerUnavailableError
from pipelines.kafka.admin import apply, plan
from pipelines.kafka.partition import partition_for
from pipelines.kafka.topics import registry

pytestmark = pytest.mark.broker

PARTITIONS = 2
DIDS = [Did(f"did:plc:{name * 24}") for name in "abcdefgh"]


@pytest.fixture
def config(kafka: str, topic_prefix: str) -> KafkaConfig:
    config = KafkaConfig(kafka, topic_prefix)
    apply(plan(config, PARTITIONS))
    return config


@pytest.fixture
def log() -> Iterator[Log]:
    with captured_logs("compact") as log:
        yield log


class Author:
    """Writes commits of made-up repositories into `events`, and knows what must come of them."""

    def __init__(self, config: KafkaConfig) -> None:
        self._config = config
        self._next_number = dict.fromkeys(DIDS, 1)
        self.truth: dict[str, dict[str, str]] = {}

    def write(self, rounds_count: int) -> None:
        """Writes commits that create records, and delete the ones of two rounds before."""
        for _ in range(rounds_count):
            for did in DIDS:
                number = self._next_number[did]
                self._next_number[did] += 1
                records = self.truth.setdefault(did, {})
                ops: list[EventOp] = []
                for index in range(3):
                    cid = encode_cid(cid_of(f"{did} {number} {index}".encode()))
                    ops.append(create(f"app.bsky.feed.like/{number}-{index}", cid))
                    records[ops[-1].path] = cid
                doomed = f"app.bsky.feed.like/{number - 2}-0"
                if doomed in records:
                    ops.append(delete(doomed, records.pop(doomed)))
                self._publish([commit(number, number - 1 or None, *ops, did=did)])

    def create_many(self, did: Did, count: int) -> None:
        """Writes one commit with many records."""
        number = self._next_number[did]
        self._next_number[did] += 1
        ops = [create(f"a.b.c/{n}", encode_cid(cid_of(b"%d" % n))) for n in range(count)]
        self._publish([commit(number, number - 1 or None, *ops, did=did)])

    def delete_account(self, did: Did) -> None:
        self._publish([account(self._next_number[did], active=False, status="deleted", did=did)])
        self.truth.pop(did, None)

    def _publish(self, events: Sequence[Event]) -> None:
        producer = Producer({"bootstrap.servers": self._config.bootstrap_servers})
        for event in events:
            # Kafka rolls and compacts segments of old messages at once.
            source = event.source._replace(received_us=time.time_ns() // 1000)
            producer.produce(
                self._config.topic("events"),
                encode_event(replace(event, source=source)),
                event.did.encode(),
                partition_for(event.did, PARTITIONS),
            )
        assert producer.flush(20) == 0


def stored(folder: Path) -> dict[str, dict[str, str]]:
    """Returns the records in the stores of a stopped process."""
    found = read_stores(folder, PARTITIONS)
    return {did: store.paths for did, store in found.items() if store.paths}


def damage(folder: Path) -> None:
    for file in folder.glob("*/CURRENT"):
        file.write_bytes(b"junk")


def keep(_folder: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("harm", "is_rebuilt"),
    [(keep, False), (lose, True), (damage, True)],
    ids=["kept", "lost", "damaged"],
)
def test_a_store_may_be_lost_at_any_time(
    config: KafkaConfig,
    tmp_path: Path,
    log: Log,
    harm: Callable[[Path], None],
    is_rebuilt: bool,
) -> None:
    folder, author = tmp_path / "stores", Author(config)
    author.write(4)
    with Running(config, folder) as compact:
        compact.finish()
    before = stored(folder)
    assert before == author.truth
    assert sum(line["messages"] for line in log.all("restored")) == 0
    harm(folder)
    with Running(config, folder) as compact:
        wait_until(lambda: len(log.all("restored")) == 2 * PARTITIONS, "the stores")
        restored = sum(line["messages"] for line in log.all("restored"))
        written = sum(
            len(read_committed(config, config.topic(topic)))
            for topic in ("repos", *registry().specs["latest"].topics)
        )
        assert restored == (written if is_rebuilt else 0)
        author.write(2)
        compact.finish()
    assert stored(folder) == author.truth
    assert read_latest(config).all_paths() == author.truth


def test_a_store_of_other_topics_is_not_used(
    config: KafkaConfig, kafka: str, tmp_path: Path, log: Log
) -> None:
    folder, author = tmp_path / "stores", Author(config)
    author.write(2)
    with Running(config, folder) as compact:
        compact.finish()
    other = KafkaConfig(kafka, f"{config.topic_prefix}-other")
    apply(plan(other, PARTITIONS))
    fresh = Author(other)
    fresh.write(1)
    with Running(other, folder) as compact:
        compact.finish()
    assert "other topics" in log.last("store_rebuilt")["detail"]
    assert read_latest(other).all_paths() == stored(folder) == fresh.truth


@pytest.mark.slow
def test_a_second_process_takes_partitions_over_and_gives_them_back(
    config: KafkaConfig, tmp_path: Path, log: Log
) -> None:
    author = Author(config)
    first_folder, guest_folder = tmp_path / "first", tmp_path / "guest"
    with Running(config, first_folder, "first") as first:
        author.write(2)
        first.finish()
        restored_count = len(log.all("restored"))
        with Running(config, guest_folder, "guest") as guest:
            # The guest has one partition, and the first reads its own again.
            wait_until(lambda: len(log.all("restored")) == restored_count + 2, "a partition each")
            author.write(3)
            guest.finish()
        author.write(2)
        first.finish()
        assert read_latest(config).all_paths() == author.truth
    # What the guest wrote meanwhile is in the first one's stores too.
    assert stored(first_folder) == author.truth
    latest = read_latest(config)
    assert {repo["sync"] for repo in latest.repos.values()} == {"synchronized"}


def test_two_processes_cannot_share_stores(
    config: KafkaConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "LOCK_TIMEOUT_S", 0.2)
    folder = tmp_path / "stores"
    with Running(config, folder):
        wait_until((folder / "lock").exists, "the first to have the stores")
        with pytest.raises(BrokerUnavailableError, match="has the stores in"):
            Running(config, folder, "1").run()


def test_a_deleted_account_loses_its_records_in_slices(
    config: KafkaConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "PURGE_SLICE_COUNT", 10)
    folder, author = tmp_path / "stores", Author(config)
    gone = DIDS[0]
    author.write(1)
    author.create_many(gone, 45)
    author.delete_account(gone)
    with Running(config, folder) as compact:
        compact.finish()
        wait_until(
            lambda: read_latest(config).repos[gone]["purging"] is False, "the last tombstone"
        )
    latest = read_latest(config)
    assert latest.all_paths() == author.truth
    assert latest.tombstones_count == 45 + 3
    assert stored(folder) == author.truth
    assert latest.repos[gone]["status"] == "deleted"


@pytest.mark.slow
def test_a_purge_goes_on_where_a_predecessor_left_it(
    config: KafkaConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, author = tmp_path / "stores", Author(config)
    gone = DIDS[1]
    author.create_many(gone, 45)
    author.delete_account(gone)
    author.truth = {}
    with monkeypatch.context() as patch:
        patch.setattr(service.CompactStage, "background", lambda *_: None)
        with Running(config, folder) as compact:
            compact.finish()
    assert read_latest(config).repos[gone]["purging"] is True
    assert len(read_latest(config).records[gone]) == 45
    lose(folder)
    with Running(config, folder):
        # It needs a position to guard its slices with; the stopped one has committed it.
        wait_until(
            lambda: read_latest(config).repos[gone]["purging"] is False, "the last tombstone"
        )
    assert read_latest(config).records == {}


@pytest.mark.slow
def test_a_reader_from_the_beginning_gets_the_same_after_kafkas_own_compaction(
    config: KafkaConfig, tmp_path: Path, log: Log
) -> None:
    topics = [config.topic("repos"), config.topic("latest.app.bsky.feed.like")]
    folder, author = tmp_path / "stores", Author(config)
    with Running(config, folder) as compact:
        author.write(6)
        compact.finish()
        before = read_latest(config)
        ends = {topic: last_offsets(config, topic) for topic in topics}
        assert not any(is_compacted(config, topic, ends[topic]) for topic in topics)
        alter(config, topics, {"segment.ms": "500", "min.cleanable.dirty.ratio": "0.001"})

        def is_cleaned() -> bool:
            # A segment is closed by the next write after its time, and cleaned from then on.
            author.write(1)
            compact.finish()
            return all(is_compacted(config, topic, ends[topic]) for topic in topics)

        wait_until(is_cleaned, "Kafka to compact the topics")
        after = read_latest(config)
    assert before.repos.keys() == after.repos.keys()
    assert after.all_paths() == author.truth
    # A store that is built from the compacted topics has the same content.
    lose(folder)
    with Running(config, folder):
        wait_until(lambda: len(log.all("restored")) == 2 * PARTITIONS, "the stores")
    assert stored(folder) == author.truth


def alter(config: KafkaConfig, topics: Sequence[str], settings: dict[str, str]) -> None:
    admin = AdminClient({"bootstrap.servers": config.bootstrap_servers})
    resources = [
        ConfigResource(
            ResourceType.TOPIC,
            topic,
            incremental_configs=[
                ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
                for name, value in settings.items()
            ],
        )
        for topic in topics
    ]
    for future in admin.incremental_alter_configs(resources).values():
        future.result(20)


def is_compacted(config: KafkaConfig, topic: str, ends: dict[int, int]) -> bool:
    """Tells whether no key occurs twice any more among the messages up to some offsets."""
    keys = [
        message.key
        for message in read_committed(config, topic)
        if message.offset <= ends[message.partition]
    ]
    return len(keys) == len(set(keys))


def last_offsets(config: KafkaConfig, topic: str) -> dict[int, int]:
    return {message.partition: message.offset for message in read_committed(config, topic)}
