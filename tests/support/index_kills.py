"""The index of posts as a process of its own, killed again and again while topics grow."""

import subprocess
import sys
import time
from pathlib import Path
from random import Random

from confluent_kafka import Producer
from support.indexes import Network

from pipelines.config import KafkaConfig
from pipelines.consume.examples.posts import PostIndex
from pipelines.kafka.messages import OutputMessage

# How long a process lives at most once it has stored something.
LIFE_S = 0.2
DEADLINE_S = 60.0


class Writer:
    """Writes transactions as compact does; some of them it aborts."""

    def __init__(self, kafka: KafkaConfig, network: Network, seed: int) -> None:
        self._network = network
        self._random = Random(seed)
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


def kill_one(kafka: KafkaConfig, path: Path, random: Random) -> None:
    """Starts it, waits until it has stored something, and kills it a moment later."""
    before = positions(path)
    process = start(kafka, path)
    deadline_s = time.monotonic() + DEADLINE_S
    while positions(path) == before:
        assert process.poll() is None, process.communicate()[1].decode()
        assert time.monotonic() < deadline_s, "the index has not moved"
        time.sleep(0.005)
    time.sleep(random.uniform(0, LIFE_S))
    process.kill()
    process.communicate()


def positions(path: Path) -> dict[int, str]:
    """Returns what the index has stored."""
    index = PostIndex(path)
    try:
        return index.positions()
    finally:
        index.close()
