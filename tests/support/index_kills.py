"""The index of posts as a process of its own, killed again and again while topics grow."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from random import Random
from typing import Final, NamedTuple
from unittest import mock

from confluent_kafka import Producer
from support.indexes import COMMON_WORD, POST, Network

from pipelines.config import KafkaConfig
from pipelines.consume import Batch
from pipelines.consume.examples import posts
from pipelines.consume.examples.posts import PostIndex, follow
from pipelines.kafka.messages import OutputMessage

# How long a process lives at most once it has stored something, if any moment is good.
LIFE_S = 0.2
DEADLINE_S = 60.0
# What the network does for each of these lives.
STEPS_COUNT = 100

# What a process has to import is there when it begins: it takes longer than the rest of its life.
_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["pipelines.consume.examples.posts"])


class Moment(StrEnum):
    """When a process is killed: how far it is with its first batch that changes something."""

    READ = "read"  # nothing of it is in the file
    HALVED = "halved"  # one half of its changes is, in a transaction
    WRITTEN = "written"  # all of it is, and is not committed
    COMMITTED = "committed"
    ANY = "any"  # at a random moment soon after it has committed something


# What SQLite is not to execute any more.
_FATAL: Final = {Moment.HALVED: "INSERT OR REPLACE INTO positions", Moment.WRITTEN: "COMMIT"}


class _Doomed(PostIndex):
    """A file whose process is killed by its first batch that changes something."""

    def __init__(self, moment: Moment, path: Path) -> None:
        super().__init__(path)
        self._moment = moment

    def apply(self, batch: Batch) -> None:
        if not batch.changes:
            super().apply(batch)
            return
        if self._moment is Moment.READ:
            _die()
        if self._moment is Moment.HALVED:
            half = batch.changes[: (len(batch.changes) + 1) // 2]
            batch = replace(batch, changes=half)
        self._database.set_trace_callback(self._look)
        super().apply(batch)
        _die()

    def _look(self, statement: str) -> None:
        fatal = _FATAL.get(self._moment)
        if fatal is not None and statement.startswith(fatal):
            _die()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _follow_until(path: Path, kafka: KafkaConfig, moment: Moment) -> None:
    with mock.patch.object(posts, "PostIndex", partial(_Doomed, moment)):
        follow(path, kafka, is_ending=False, should_stop=bool)


class Writer:
    """Writes transactions as compact does; some of them it aborts."""

    def __init__(self, kafka: KafkaConfig, network: Network, seed: int) -> None:
        self._network = network
        self._random = Random(seed)
        self.messages_count = 0
        self._producer = Producer(
            {
                "bootstrap.servers": kafka.bootstrap_servers,
                "transactional.id": kafka.transactional_id("compact", "test"),
                "linger.ms": 5,
            }
        )
        self._producer.init_transactions(30)

    def write(self, steps_count: int) -> None:
        """Lets the network do things, a few to a transaction."""
        waiting: list[OutputMessage] = []
        for _ in range(steps_count):
            for messages in self._network.step():
                waiting += messages
            if len(waiting) > 40:
                self.commit(waiting)
                if self._random.random() < 0.3:
                    self._abort(waiting)
                waiting = []
        self.commit(waiting)

    def commit(self, messages: list[OutputMessage]) -> None:
        """Writes messages in one transaction."""
        self._produce(messages)
        self._producer.commit_transaction(30)
        self.messages_count += len(messages)

    def _abort(self, messages: list[OutputMessage]) -> None:
        """Writes that every record is gone, which is never to be read."""
        self._produce([message._replace(value=None) for message in messages if message.value])
        assert self._producer.flush(30) == 0
        self._producer.abort_transaction(30)

    def _produce(self, messages: list[OutputMessage]) -> None:
        self._producer.begin_transaction()
        for message in messages:
            self._producer.produce(
                message.topic,
                message.value,
                message.key,
                message.partition,
                headers=list(message.headers),
                timestamp=message.timestamp_ms,
            )


def start(kafka: KafkaConfig, path: Path, *options: str) -> subprocess.Popen[bytes]:
    """Starts the program that README shows."""
    module = "pipelines.consume.examples.posts"
    where = ["--bootstrap-servers", kafka.bootstrap_servers, "--topic-prefix", kafka.topic_prefix]
    return subprocess.Popen(
        [sys.executable, "-m", module, "follow", str(path), *where, *options],
        stderr=subprocess.PIPE,
    )


def run_once(kafka: KafkaConfig, path: Path) -> str:
    """Runs it until everything that is there is in the index; returns what it says."""
    process = start(kafka, path, "--once")
    _, said = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, said.decode()
    return said.decode()


def kill_one(kafka: KafkaConfig, path: Path, moment: Moment, random: Random) -> None:
    """Starts it where there is something to read, and has it killed at a moment."""
    before = positions(path)
    if moment is Moment.ANY:
        process = _forks.Process(
            target=follow, args=(path, kafka), kwargs={"is_ending": False, "should_stop": bool}
        )
        process.start()
        deadline_s = time.monotonic() + DEADLINE_S
        while positions(path) == before:
            assert process.is_alive(), process.exitcode
            assert time.monotonic() < deadline_s, "the index has not moved"
            time.sleep(0.005)
        time.sleep(random.uniform(0, LIFE_S))
        process.kill()
    else:
        process = _forks.Process(target=_follow_until, args=(path, kafka, moment), daemon=True)
        process.start()
    process.join(DEADLINE_S)
    assert process.exitcode == -signal.SIGKILL, process.exitcode


def positions(path: Path) -> dict[int, str]:
    """Returns what the index has stored."""
    index = PostIndex(path)
    try:
        return index.positions()
    finally:
        index.close()


def contents(path: Path) -> dict[str, str]:
    """Returns the text of every post that a search can find, by its address."""
    index = PostIndex(path)
    try:
        return {hit.uri: hit.text for hit in index.search(COMMON_WORD, 1_000_000)}
    finally:
        index.close()


class Killed(NamedTuple):
    """What is true after all the kills.

    Attributes:
        shown: the text of every post that may be shown, by its address.
        messages_count: how many were written and committed.
    """

    shown: dict[str, str]
    messages_count: int


def kill_again_and_again(
    kafka: KafkaConfig, partitions: int, folder: Path, moments: Iterable[Moment], seed: int
) -> Killed:
    """Lets the topics grow, with a process that follows them and is killed each time.

    Args:
        kafka: has the topics, empty ones.
        partitions: of each.
        folder: gets `posts.db`, which lived through it all, and `fresh.db`, which was made
            afterwards.
        moments: of each kill.
        seed: the same gives the same messages.
    """
    network = Network(kafka, partitions, seed, admitted=[POST], keys_count=500)
    writer = Writer(kafka, network, seed)
    random = Random(seed)
    for moment in moments:
        writer.write(STEPS_COUNT)
        kill_one(kafka, folder / "posts.db", moment, random)
    while not network.shown():
        writer.write(STEPS_COUNT)
    for messages in network.finish():
        writer.commit(messages)
    for name in ("posts.db", "fresh.db"):
        said = run_once(kafka, folder / name)
        assert f"complete: {len(network.posts()):,} posts" in said, said
    return Killed(network.shown(), writer.messages_count)
