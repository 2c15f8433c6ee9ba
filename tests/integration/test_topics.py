"""`standpipe topics` and the check at a stage's start, on a real broker."""

import dataclasses
import json
import socket
import time
from collections.abc import Callable, Iterator

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # no explicit re-exports
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from pipelines import cli
from pipelines.config import KafkaConfig
from pipelines.errors import BrokerUnavailableError, ConfigError
from pipelines.kafka import admin
from pipelines.kafka.topics import PhysicalTopic, registry

pytestmark = pytest.mark.broker

ONE_PARTITION = ("admissions", "crawls", "cursors", "epochs", "gaps", "listings", "status")
TIMEOUT_S = 30


@pytest.fixture
def client(kafka: str, topic_prefix: str) -> Iterator[AdminClient]:
    """A client of our own; afterwards the test's topics are gone."""
    client = AdminClient({"bootstrap.servers": kafka})
    yield client
    topics = client.list_topics(timeout=TIMEOUT_S).topics
    ours = [name for name in topics if name.startswith(f"{topic_prefix}.")]
    if ours:
        for deleted in client.delete_topics(ours).values():
            deleted.result(TIMEOUT_S)


@pytest.fixture
def config(kafka: str, topic_prefix: str) -> KafkaConfig:
    return KafkaConfig(kafka, topic_prefix)


def run(
    capsys: pytest.CaptureFixture[str], config: KafkaConfig, *arguments: str
) -> tuple[int, str]:
    """Runs `standpipe topics …`; returns the exit code and everything it printed."""
    where = [
        "--bootstrap-servers",
        config.bootstrap_servers,
        "--topic-prefix",
        config.topic_prefix,
    ]
    with pytest.raises(SystemExit) as stopped:
        cli.main(["topics", *arguments, *where])
    output = capsys.readouterr()
    assert isinstance(stopped.value.code, int)
    return stopped.value.code, output.out + output.err


def until(condition: Callable[[], bool]) -> None:
    """Waits for what the controller has confirmed to show on the broker."""
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def create(client: AdminClient, name: str, partitions: int) -> None:
    client.create_topics([NewTopic(name, partitions, 1)])[name].result(TIMEOUT_S)
    until(lambda: name in client.list_topics(timeout=TIMEOUT_S).topics)


def set_config(client: AdminClient, topic: str, name: str, value: str) -> None:
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    client.incremental_alter_configs([resource])[resource].result(TIMEOUT_S)
    until(lambda: get_configs(client, topic)[name] == value)


def get_configs(client: AdminClient, topic: str) -> dict[str, str | None]:
    resource = ConfigResource(ResourceType.TOPIC, topic)
    entries = client.describe_configs([resource])[resource].result(TIMEOUT_S)
    return {name: entry.value for name, entry in entries.items()}


def test_plan_apply_and_plan_again(
    capsys: pytest.CaptureFixture[str], client: AdminClient, config: KafkaConfig
) -> None:
    code, text = run(capsys, config, "plan", "--partitions", "3")
    assert code == 0
    assert f"create   {config.topic('frames')}  partitions=3 cleanup.policy=delete" in text
    assert f"to create: {len(registry().topics)}, to change: 0" in text
    assert config.topic("frames") not in client.list_topics(timeout=TIMEOUT_S).topics

    code, text = run(capsys, config, "apply", "--partitions", "3")
    assert code == 0
    assert "\nDone.\n" in text
    topics = client.list_topics(timeout=TIMEOUT_S).topics
    counts = {topic: len(topics[config.topic(topic)].partitions) for topic in registry().topics}
    assert {counts.pop(topic) for topic in ONE_PARTITION} == {1}
    assert set(counts.values()) == {3}
    for topic, spec in registry().topics.items():
        assert spec.configs.items() <= get_configs(client, config.topic(topic)).items()

    code, text = run(capsys, config, "plan")
    assert code == 0
    assert "to create: 0, to change: 0, refused: 0, foreign: 0" in text
    assert "\nNothing to do.\n" in text
    code, text = run(capsys, config, "apply", "--json")
    assert code == 0
    assert len(json.loads(text)["equal"]) == len(registry().topics)


def test_a_changed_setting_is_shown_and_repaired_and_others_are_left(
    capsys: pytest.CaptureFixture[str], client: AdminClient, config: KafkaConfig
) -> None:
    admin.apply(admin.plan(config, 1))
    frames = config.topic("frames")
    set_config(client, frames, "retention.ms", "60000")
    set_config(client, frames, "flush.ms", "1234")

    code, text = run(capsys, config, "plan")
    assert code == 0
    assert f"change   {frames}  retention.ms: 60000 → 259200000\n" in text
    assert "to create: 0, to change: 1, refused: 0" in text

    assert run(capsys, config, "apply")[0] == 0
    assert get_configs(client, frames)["retention.ms"] == "259200000"
    assert get_configs(client, frames)["flush.ms"] == "1234"
    assert not admin.plan(config).has_changes


def test_another_number_of_partitions_is_refused_and_nothing_is_changed(
    capsys: pytest.CaptureFixture[str], client: AdminClient, config: KafkaConfig
) -> None:
    create(client, config.topic("frames"), 2)

    for command in ("plan", "apply"):
        code, text = run(capsys, config, command, "--partitions", "5")
        assert code == 1
        assert f"refused  {config.topic('frames')} has 2 partitions, wanted 5\n" in text
        assert "another --topic-prefix and replay" in text
    topics = client.list_topics(timeout=TIMEOUT_S).topics
    assert [name for name in topics if name.startswith(config.topic(""))] == [
        config.topic("frames")
    ]
    assert len(topics[config.topic("frames")].partitions) == 2


def test_missing_topics_get_the_number_of_partitions_that_frames_has(
    client: AdminClient, config: KafkaConfig
) -> None:
    create(client, config.topic("frames"), 2)
    admin.apply(admin.plan(config))
    assert admin.check_partitions(config, registry().topics)["events"] == 2
    assert not admin.plan(config).has_changes


def test_a_foreign_topic_is_named_and_left_alone(
    capsys: pytest.CaptureFixture[str], client: AdminClient, config: KafkaConfig
) -> None:
    create(client, config.topic("mine"), 1)
    code, text = run(capsys, config, "apply", "--partitions", "1")
    assert code == 0
    assert f"foreign  {config.topic('mine')}  not in schemas/, left alone\n" in text
    assert config.topic("mine") in client.list_topics(timeout=TIMEOUT_S).topics


@pytest.mark.usefixtures("client")
def test_a_topic_that_somebody_else_created_meanwhile_is_no_error(config: KafkaConfig) -> None:
    plan = admin.plan(config, 1)
    admin.apply(plan)
    admin.apply(plan)
    assert not admin.plan(config).has_changes


def test_a_topic_created_meanwhile_with_another_count_is_refused(
    client: AdminClient, config: KafkaConfig
) -> None:
    plan = admin.plan(config, 1)
    create(client, config.topic("events"), 2)
    with pytest.raises(ConfigError, match="has 2 partitions, wanted 1"):
        admin.apply(plan)


@pytest.mark.usefixtures("client")
def test_check_at_start_returns_counts(config: KafkaConfig) -> None:
    admin.apply(admin.plan(config, 3))
    counts = admin.check_partitions(config, ["frames", "cursors", "records.other"])
    assert counts == {"frames": 3, "cursors": 1, "records.other": 3}


def test_check_at_start_names_missing_topics_and_creates_none(
    client: AdminClient, config: KafkaConfig
) -> None:
    with pytest.raises(ConfigError) as caught:
        admin.check_partitions(config, ["frames", "cursors"])
    assert len(caught.value.problems) == 2
    for problem, topic in zip(caught.value.problems, ("frames", "cursors"), strict=True):
        assert problem.startswith(f"there is no topic {config.topic(topic)} at ")
        assert problem.endswith("create it with `standpipe topics apply`")
    assert config.topic("frames") not in client.list_topics(timeout=TIMEOUT_S).topics


def test_check_at_start_refuses_counts_that_differ(
    client: AdminClient, config: KafkaConfig
) -> None:
    create(client, config.topic("frames"), 2)
    create(client, config.topic("events"), 3)
    create(client, config.topic("cursors"), 2)
    with pytest.raises(ConfigError) as caught:
        admin.check_partitions(config, ["frames", "events", "cursors"])
    fixed, shared = caught.value.problems
    assert fixed.startswith(f"{config.topic('cursors')} has 2 partitions, wanted 1: ")
    assert f"{config.topic('events')} has 3, {config.topic('frames')} has 2: " in shared
    assert "another --topic-prefix" in shared


def test_what_the_cluster_refuses_is_said_in_its_words(config: KafkaConfig) -> None:
    wrong = KafkaConfig(config.bootstrap_servers, config.topic_prefix, {"no.such.setting": "1"})
    with pytest.raises(ConfigError, match=r'settings do not work: .*"no\.such\.setting"'):
        admin.plan(wrong)
    plan = admin.plan(config)
    odd = PhysicalTopic(config.topic("frames"), 1, {"retention.ms": "soon"})
    with pytest.raises(ConfigError, match=r"does not create the topic .*\.frames: .*soon"):
        admin.apply(dataclasses.replace(plan, create=(odd,)))


@pytest.mark.parametrize("command", ["plan", "apply"])
def test_a_broker_that_is_down_is_one_clear_sentence(
    command: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin, "CONNECT_TIMEOUT_S", 0.5)
    with socket.socket() as silent:  # bound, but nobody listens
        silent.bind(("127.0.0.1", 0))
        servers = f"127.0.0.1:{silent.getsockname()[1]}"
        code, text = run(capfd, KafkaConfig(servers), command)
    assert code == 1
    assert text.startswith(
        f"Error: no Kafka broker answers at {servers}; start one with `standpipe kafka start` "
        "or name another with --bootstrap-servers ("
    )
    assert text.count("\n") == 1  # nothing from librdkafka itself


def test_a_stage_that_starts_without_a_broker_gets_a_transient_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(admin, "CONNECT_TIMEOUT_S", 0.5)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        servers = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(BrokerUnavailableError, match="no Kafka broker answers"):
            admin.check_partitions(KafkaConfig(servers), ["frames"])
