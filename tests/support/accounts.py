"""One account's repository, and an outside that says something of it."""

import time
from dataclasses import replace
from typing import Any

import orjson
from confluent_kafka import Producer
from support.answers import absent, record_cid
from support.events import account, commit, create, encode_event
from support.kafka import read_committed
from support.latest import read_latest

from pipelines.atproto.syntax import Did
from pipelines.compact.events import Event
from pipelines.config import KafkaConfig
from pipelines.kafka.messages import OutputMessage
from pipelines.kafka.partition import partition_for
from pipelines.repair.manifests import RepoError, manifest_message

PARTITIONS = 2
ALICE, BOB = Did("did:plc:alice234567alice234567aa"), Did("did:plc:bob2345672bob2345672bob2")
RECORDS = {f"a.b.c/{n}": record_cid(str(n)) for n in range(3)}


class Outside:
    """An upstream, and the stage that asks servers."""

    def __init__(self, config: KafkaConfig) -> None:
        self._config = config
        self._producer = Producer({"bootstrap.servers": config.bootstrap_servers})

    def send(self, *events: Event, age_s: float = 0) -> None:
        """Writes events that were received some time ago."""
        for event in events:
            received_us = time.time_ns() // 1000 - int(age_s * 1_000_000)
            source = event.source._replace(received_us=received_us)
            self._write(
                OutputMessage(
                    self._config.topic("events"),
                    partition_for(event.did, PARTITIONS),
                    event.did.encode(),
                    encode_event(replace(event, source=source)),
                    [],
                    time.time_ns() // 1_000_000,
                )
            )

    def say_not_found(self, did: Did) -> None:
        """Answers for a server that was asked now and knows no such repository."""
        answer = replace(absent(RepoError.NOT_FOUND, None, time.time_ns() // 1000), did=did)
        topic = self._config.topic("snapshots")
        self._write(manifest_message(answer, partition_for(did, PARTITIONS), topic))

    def _write(self, message: OutputMessage) -> None:
        self._producer.produce(
            message.topic,
            message.value,
            message.key,
            message.partition,
            timestamp=message.timestamp_ms,
        )
        assert self._producer.flush(20) == 0


def history(did: Did) -> list[Event]:
    ops = [create(path, cid) for path, cid in RECORDS.items()]
    return [commit(1, None, *ops, did=did)]


def deletion(did: Did) -> Event:
    return account(2, active=False, status="deleted", did=did)


def repo(config: KafkaConfig, did: Did) -> dict[str, Any]:
    return read_latest(config).repos.get(did, {})


def causes(config: KafkaConfig, did: Did) -> list[str]:
    """Returns why a repository was asked for."""
    requests = [
        orjson.loads(m.value or b"") for m in read_committed(config, config.topic("resyncs"))
    ]
    return [request["cause"] for request in requests if request["did"] == did]
