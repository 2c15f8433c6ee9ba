"""A change of the admitted collections on a real broker: who may make it, and where it begins."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.cli import standpipe
from support.frames import NOW_US, publish_frames
from support.kafka import read_committed, read_decided, wait_until

from pipelines.captures import read_frames
from pipelines.compact.accounts import Policy
from pipelines.compact.service import create_stage as create_compact
from pipelines.config import KafkaConfig
from pipelines.errors import ConfigError
from pipelines.explode import service
from pipelines.identity.resolver import Resolver
from pipelines.kafka.admin import apply, plan
from pipelines.kafka.admission import Table
from pipelines.kafka.admitting import admit, check_nobody_works, load_admissions
from pipelines.kafka.reading import log_ends
from pipelines.sim.network import load_network
from pipelines.sim.service import SimServer

pytestmark = pytest.mark.broker

PARTITIONS = 2
LIKE, POST = "app.bsky.feed.like", "app.bsky.feed.post"


@pytest.fixture
def old(kafka: str, topic_prefix: str) -> KafkaConfig:
    """A deployment that admits likes."""
    config = KafkaConfig(kafka, topic_prefix, admitted=(LIKE,))
    apply(plan(config, PARTITIONS))
    return config


@pytest.fixture
def new(kafka: str, topic_prefix: str) -> KafkaConfig:
    """The same with posts instead."""
    return KafkaConfig(kafka, topic_prefix, admitted=(POST,))


@contextmanager
def running(config: KafkaConfig, capture_folder: Path, folder: Path) -> Iterator[None]:
    """A worker of explode; leaving the block stops it and raises what it raised."""
    stop = threading.Event()
    failures: list[BaseException] = []
    with SimServer(load_network(capture_folder)) as sim:

        def run() -> None:
            try:
                resolver = Resolver(sim.addresses.plc, did_web_base=sim.addresses.did_web)
                service.run(config, resolver, folder, slot="0", should_stop=stop.is_set)
            except BaseException as error:  # noqa: BLE001 - the test judges it
                failures.append(error)

        worker = threading.Thread(target=run)
        worker.start()
        try:
            yield
        finally:
            stop.set()
            worker.join(30)
    assert failures == []
    assert not worker.is_alive()


def records_in(config: KafkaConfig, last: str) -> list[dict[str, object]]:
    topic = config.topic(f"records.{last}")
    return [json.loads(message.value or b"") for message in read_decided(config, topic)]


def test_who_admits_other_collections_does_not_join(
    old: KafkaConfig, new: KafkaConfig, tmp_path: Path
) -> None:
    differing = rf"table is number 1 \(\+{POST} -{LIKE}\).*--admit.*`standpipe topics apply`"
    with pytest.raises(ConfigError, match=differing):
        service.create_stage(new, Resolver("https://plc.example"), tmp_path)
    with pytest.raises(ConfigError, match=differing):
        create_compact(new, tmp_path, Policy())
    planned = standpipe(
        *("topics", "plan", "--topic-prefix", new.topic_prefix),
        *("--bootstrap-servers", new.bootstrap_servers),
        STANDPIPE_ADMIT=POST,
    )
    assert planned.returncode == 0
    assert f"admit    +{POST} -{LIKE}  from the frames on" in planned.stdout
    assert f"create   {new.topic(f'latest.{POST}')} " in planned.stdout
    assert load_admissions(old).tables == (Table(1, (LIKE,), (0, 0)),)


def test_a_change_begins_behind_the_frames_that_were_there_whenever_they_are_judged(
    old: KafkaConfig, new: KafkaConfig, capture_folder: Path, tmp_path: Path
) -> None:
    frames = list(read_frames(capture_folder / "frames.bin"))
    before, after = frames[150:200], frames[440:480]  # likes and posts in both
    publish_frames(old, before, NOW_US)
    apply(plan(new))
    admissions = load_admissions(new)
    [first, second] = admissions.tables
    assert (first.collections, first.next_offsets) == ((LIKE,), (0, 0))
    assert (second.number, second.collections) == (2, (POST,))
    ends = log_ends(new, [(new.topic("frames"), n) for n in range(PARTITIONS)])
    assert second.next_offsets == tuple(ends.values())
    assert not plan(new).has_changes
    assert plan(new).foreign == ()  # the topics of the old table are known and kept

    publish_frames(new, after, NOW_US)
    events = new.topic("events")
    with running(new, capture_folder, tmp_path):
        wait_until(
            lambda: len(read_committed(new, events)) >= len(before) + len(after),
            "an event for each frame",
        )
    found = {last: records_in(new, last) for last in (LIKE, POST, "other")}
    for last, records in found.items():
        for record in records:
            partition, offset = record["frame_partition"], record["frame_offset"]
            assert isinstance(partition, int)
            assert isinstance(offset, int)
            is_new = offset >= second.next_offsets[partition]
            admitted = POST if is_new else LIKE
            collection = record["collection"]
            assert last == (collection if collection == admitted else "other")
    assert all(found.values())
    # Both kinds are in `other`: likes that came after, posts that came before.
    assert {LIKE, POST} <= {record["collection"] for record in found["other"]}


def test_nothing_changes_while_a_worker_would_miss_it(
    old: KafkaConfig, new: KafkaConfig, capture_folder: Path, tmp_path: Path
) -> None:
    before = load_admissions(old)

    def is_member() -> bool:
        try:
            check_nobody_works(old)
        except ConfigError:
            return True
        return False

    with running(old, capture_folder, tmp_path):
        wait_until(is_member, "the worker to join its group")
        with pytest.raises(ConfigError, match=r"explode of .* still run"):
            apply(plan(new))
        # Also if it joined only after that was looked at: then it was announced, and is withdrawn.
        with pytest.raises(ConfigError, match=r"explode of .* still run"):
            admit(new, (POST,), PARTITIONS)
    written = read_decided(old, old.topic("admissions"))
    assert [message.value is None for message in written] == [False, False, True]
    assert load_admissions(old) == before
    apply(plan(new))
    current = load_admissions(old).current
    assert current is not None
    assert current.collections == (POST,)
