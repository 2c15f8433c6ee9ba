"""The doctor on a real broker: a sound deployment, and one that is broken on purpose."""

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # no explicit re-exports
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)
from conftest import free_port
from support.kafka import create_topic, produce, read_committed, wait_until
from support.pipeline import run_command

from pipelines.config import KafkaConfig
from pipelines.kafka.admin import apply, plan
from pipelines.kafka.beat import Beat, Report, State, encode_beat
from pipelines.kafka.features import metadata_version
from pipelines.kafka.heartbeat import heartbeat
from pipelines.kafka.jars import KafkaJars, find_java
from pipelines.kafka.reading import log_ends
from pipelines.sim.network import load_network
from pipelines.sim.service import SimServer

PARTITIONS = 3
PATIENCE_S = 4


@dataclass(frozen=True)
class Outcome:
    """What one run of the command said."""

    exit_code: int
    findings: dict[str, dict[str, Any]]

    def results(self) -> dict[str, str]:
        return {check: finding["result"] for check, finding in self.findings.items()}

    def text(self, check: str) -> str:
        finding = self.findings[check]
        return "\n".join((finding["found"], *finding["details"], finding["remedy"]))


def examine(config: KafkaConfig, plc_url: str) -> Outcome:
    options = ["--json", "--patience", str(PATIENCE_S), "--plc-url", plc_url]
    result = run_command(config, "doctor", *options)
    assert result.returncode in {0, 1}, result.stderr
    found = json.loads(result.stdout)
    assert (found["result"] == "wrong") == (result.returncode == 1)
    return Outcome(result.returncode, {each["check"]: each for each in found["findings"]})


def running() -> Report:
    return Report(State.RUNNING)


@pytest.mark.broker
def test_a_sound_deployment_has_nothing_wrong_with_it(
    kafka: str, topic_prefix: str, capture_folder: Path
) -> None:
    config = KafkaConfig(kafka, topic_prefix)
    apply(plan(config, PARTITIONS))
    # A group that has processed everything: a marker behind its position is no work.
    producer = Producer({"bootstrap.servers": kafka, "transactional.id": topic_prefix})
    producer.init_transactions(20)
    producer.begin_transaction()
    producer.produce(config.topic("frames"), b"frame", partition=0)
    producer.commit_transaction(20)
    commit(config, config.group("explode"), config.topic("frames"), 0, 1)
    with (
        SimServer(load_network(capture_folder)) as sim,
        heartbeat(config, "explode", "0", running),
    ):
        wait_until(lambda: _has_beat(config), "a sign of life")
        outcome = examine(config, sim.addresses.plc)
    assert set(outcome.results().values()) == {"ok"}, outcome.findings
    assert outcome.exit_code == 0
    assert "1 process of 1 stage alive" in outcome.text("processes.alive")
    assert f"{PARTITIONS} partitions in each" in outcome.text("topics.partitions")


def _has_beat(config: KafkaConfig) -> bool:
    status = json.loads(run_command(config, "status", "--json").stdout)
    return bool(status["stages"])


@pytest.mark.broker
def test_everything_that_is_broken_is_named(kafka: str, topic_prefix: str) -> None:
    config = KafkaConfig(kafka, topic_prefix)
    apply(plan(config, PARTITIONS))
    admin = AdminClient({"bootstrap.servers": kafka})
    frames = config.topic("frames")

    delete(admin, config, "records.other", "latest.other")
    create_topic(config, "latest.other", PARTITIONS + 1)
    create_topic(config, "records.com.example.note", PARTITIONS)
    alter(admin, config.topic("repos"), "cleanup.policy", "delete")
    # A stage that stopped with work left, and one whose work was deleted.
    produce(config, frames, [(0, b"one"), (0, b"two"), (2, b"gone")])
    commit(config, config.group("explode"), frames, 0, 1)
    commit(config, config.group("explode"), frames, 2, 0)
    for future in admin.delete_records([TopicPartition(frames, 2, 1)]).values():
        future.result(20)
    skewed(config, "bridge", "relay.example", ahead_s=-400)
    with hanging_transaction(config, frames, 1):
        commit(config, "dashboard", frames, 1, 2)
        outcome = examine(config, f"http://127.0.0.1:{free_port()}")

    assert outcome.exit_code == 1
    bad = {check for check, result in outcome.results().items() if result != "ok"}
    assert bad == {
        "topics.missing",
        "topics.partitions",
        "topics.settings",
        "topics.foreign",
        "transactions.hanging",
        "readers.isolation",
        "groups.stuck",
        "groups.retention",
        "processes.alive",
        "clocks.skew",
        "directory.reachable",
    }
    assert outcome.results()["topics.foreign"] == "warning"
    said = {check: outcome.text(check) for check in bad}
    assert config.topic("records.other") in said["topics.missing"]
    assert (
        f"{config.topic('latest.other')} has 4 partitions, wanted 3" in said["topics.partitions"]
    )
    assert f"{config.topic('repos')}: cleanup.policy is delete" in said["topics.settings"]
    assert config.topic("records.com.example.note") in said["topics.foreign"]
    assert (
        f"{frames}:1: readers of committed messages wait at offset 0"
        in (said["transactions.hanging"])
    )
    assert f"--topic {frames} --partition 1 --start-offset 0" in said["transactions.hanging"]
    assert (
        f"dashboard is at 2 in {frames}:1, where committed messages end at 0"
        in (said["readers.isolation"])
    )
    assert f"{config.group('explode')}: 1 messages behind" in said["groups.stuck"]
    assert "start `standpipe explode`" in said["groups.stuck"]
    assert (
        f"{config.group('explode')} is at 0 in {frames}:2, which begins at 1"
        in (said["groups.retention"])
    )
    assert "bridge.relay.example is silent" in said["processes.alive"]
    assert "bridge.relay.example on elsewhere is 7 min behind" in said["clocks.skew"]


@pytest.mark.broker
@pytest.mark.skipif(
    bool(os.environ.get("BOOTSTRAP")), reason="needs Kafka's tools beside the broker"
)
def test_the_remedy_for_a_hanging_transaction_ends_it(kafka: str, topic_prefix: str) -> None:
    config = KafkaConfig(kafka, topic_prefix)
    topic = create_topic(config, "frames", 1)
    where = (topic, 0)
    with contextlib.suppress(KafkaException), hanging_transaction(config, topic, 0):
        stable = log_ends(config, [where], is_readable=True)[where]
        assert stable < log_ends(config, [where])[where]
        aborted = subprocess.run(
            [
                *(find_java(), "-cp", KafkaJars.default().classpath),
                "org.apache.kafka.tools.TransactionsCommand",  # kafka-transactions.sh
                *("--bootstrap-server", kafka, "abort", "--topic", topic),
                *("--partition", "0", "--start-offset", str(stable)),
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert aborted.returncode == 0, aborted.stderr
        wait_until(
            lambda: log_ends(config, [where], is_readable=True) == log_ends(config, [where]),
            "readers that go on",
        )
        # What the producer does when it wakes up, here another abort, changes nothing.
    assert read_committed(config, topic) == []


@pytest.mark.broker
def test_the_version_of_a_real_broker_is_understood(kafka: str) -> None:
    host, _, port = kafka.rpartition(":")
    # Kafka 4.2 has 29, as its source says; whoever names another broker may have a newer one.
    expected = {29} if "BOOTSTRAP" not in os.environ else set(range(22, 60))
    assert metadata_version(host, int(port)) in expected


def test_a_cluster_that_is_down_is_named_and_the_rest_skipped(topic_prefix: str) -> None:
    servers = f"127.0.0.1:{free_port()}"
    outcome = examine(KafkaConfig(servers, topic_prefix), f"http://127.0.0.1:{free_port()}")
    results = outcome.results()
    assert outcome.exit_code == 1
    assert results["broker.reachable"] == "wrong"
    assert f"{servers}: Connection refused" in outcome.text("broker.reachable")
    assert "standpipe kafka start" in outcome.text("broker.reachable")
    looked_at = {"broker.reachable", "disks.space", "directory.reachable"}
    assert {check for check, result in results.items() if result != "skipped"} == looked_at


def test_the_text_has_a_line_for_each_check_and_the_remedy(topic_prefix: str) -> None:
    config = KafkaConfig(f"127.0.0.1:{free_port()}", topic_prefix)
    result = run_command(config, "doctor", "--plc-url", f"http://127.0.0.1:{free_port()}")
    lines = result.stdout.splitlines()
    marks = [line.split()[:2] for line in lines if not line.startswith(" ")]
    assert ["WRONG", "broker.reachable"] in marks
    assert ["skipped", "topics.partitions"] in marks
    assert len(marks) == 18
    assert any(line.lstrip().startswith("→ start a broker") for line in lines)


def delete(admin: AdminClient, config: KafkaConfig, *topics: str) -> None:
    names = [config.topic(topic) for topic in topics]
    for future in admin.delete_topics(names).values():
        future.result(20)
    wait_until(lambda: not set(names) & set(admin.list_topics(timeout=10).topics), "the deletion")


def alter(admin: AdminClient, topic: str, name: str, value: str) -> None:
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    for future in admin.incremental_alter_configs([resource]).values():
        future.result(20)


def commit(config: KafkaConfig, group: str, topic: str, partition: int, offset: int) -> None:
    """Leaves a group at a position, with nobody in it."""
    consumer = Consumer({"bootstrap.servers": config.bootstrap_servers, "group.id": group})
    consumer.commit(offsets=[TopicPartition(topic, partition, offset)], asynchronous=False)
    consumer.close()


def skewed(config: KafkaConfig, stage: str, slot: str, ahead_s: int) -> None:
    """Writes the sign of life of a process with another clock."""
    now_us = time.time_ns() // 1000 + ahead_s * 1_000_000
    beat = Beat(stage, slot, "elsewhere", 1, now_us, now_us, running())
    producer = Producer({"bootstrap.servers": config.bootstrap_servers})
    producer.produce(config.topic("status"), encode_beat(beat), beat.key, partition=0)
    assert producer.flush(20) == 0


@contextlib.contextmanager
def hanging_transaction(config: KafkaConfig, topic: str, partition: int) -> Iterator[None]:
    """A transaction with two messages of a producer that does nothing any more."""
    settings = {
        "bootstrap.servers": config.bootstrap_servers,
        "transactional.id": f"{config.topic_prefix}.hangs",
        "transaction.timeout.ms": 120_000,
    }
    producer = Producer(settings)
    producer.init_transactions(20)
    producer.begin_transaction()
    for value in (b"first", b"second"):
        producer.produce(topic, value, partition=partition)
    assert producer.flush(20) == 0
    try:
        yield
    finally:
        producer.abort_transaction(20)
