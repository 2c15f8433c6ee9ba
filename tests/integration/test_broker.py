"""The local broker: real processes, one data folder for most of the tests."""

import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from conftest import free_port

from pipelines.errors import BrokerUnavailableError, ConfigError
from pipelines.kafka.broker import (
    LocalBroker,
    PortOccupied,
    Running,
    StalePid,
    Stopped,
)
from pipelines.kafka.jars import KafkaJars

pytestmark = [
    pytest.mark.broker,
    pytest.mark.skipif(
        bool(os.environ.get("BOOTSTRAP")) and not (shutil.which("java") and shutil.which("mvn")),
        reason="BOOTSTRAP names a cluster, and there is no Java or Maven for a local broker",
    ),
]

_STANDPIPE = Path(sys.executable).with_name("standpipe")


def _free_ports() -> tuple[int, int]:
    """Two neighbours, as `standpipe kafka start --port` wants them."""
    while True:
        port = free_port()
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port, port + 1


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalBroker]:
    """A broker that may or may not run; its folder's name is as odd as a folder's may be."""
    local = LocalBroker(tmp_path_factory.mktemp("Kafka, 100%20 ü"), *_free_ports())
    yield local
    local.stop()


@pytest.fixture
def running(broker: LocalBroker) -> LocalBroker:
    broker.start()
    return broker


@pytest.fixture
def stopped(broker: LocalBroker) -> LocalBroker:
    broker.stop()
    return broker


def _pid(broker: LocalBroker) -> int:
    status = broker.status()
    assert isinstance(status, Running)
    return status.pid


def _create(broker: LocalBroker, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(30)


def _produce(broker: LocalBroker, topic: str, value: bytes) -> None:
    errors: list[Any] = []
    producer = Producer(
        {"bootstrap.servers": broker.bootstrap_servers, "message.max.bytes": 17 * 1024 * 1024}
    )
    producer.produce(topic, value, on_delivery=lambda error, _: errors.append(error))
    producer.flush(30)
    assert errors == [None]


def _first_value(broker: LocalBroker, topic: str) -> bytes:
    consumer = Consumer(
        {"bootstrap.servers": broker.bootstrap_servers, "group.id": "unused", "log_level": 0}
    )
    consumer.assign([TopicPartition(topic, 0, 0)])
    try:
        message = consumer.poll(30)
        assert message is not None
        assert message.error() is None
        value = message.value()
        assert value is not None
        return value
    finally:
        consumer.close()


def _standpipe(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [_STANDPIPE, "kafka", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def _wait_for_end(process: int) -> None:
    poll = select.poll()
    poll.register(process, select.POLLIN)
    assert poll.poll(10_000)
    os.close(process)


def test_start_returns_when_the_broker_answers_and_starting_again_changes_nothing(
    stopped: LocalBroker,
) -> None:
    assert stopped.status() == Stopped()
    stopped.start()
    first = _pid(stopped)
    stopped.start()
    assert stopped.status() == Running(first, stopped.bootstrap_servers)
    assert "Kafka Server started" in stopped.log_file.read_text()


def test_stop_ends_the_process_and_stopping_again_changes_nothing(running: LocalBroker) -> None:
    pid = _pid(running)
    assert running.stop()
    assert not running.stop()
    assert running.status() == Stopped()
    command_line = Path(f"/proc/{pid}/cmdline")
    assert not command_line.exists() or str(running.directory) not in command_line.read_text()


def test_data_survives_stop_and_start_on_other_ports(running: LocalBroker) -> None:
    _create(running, "kept-stop")
    _produce(running, "kept-stop", b"still here")
    running.stop()
    elsewhere = LocalBroker(running.directory, *_free_ports())
    elsewhere.start()
    try:
        assert _first_value(elsewhere, "kept-stop") == b"still here"
    finally:
        elsewhere.stop()


def test_data_survives_kill_9_and_the_stale_pid_is_told(running: LocalBroker) -> None:
    _create(running, "kept-kill")
    _produce(running, "kept-kill", b"still here")
    pid = _pid(running)
    process = os.pidfd_open(pid)
    signal.pidfd_send_signal(process, signal.SIGKILL)
    _wait_for_end(process)
    assert running.status() == StalePid(pid, None)
    running.start()
    assert _pid(running) != pid
    assert _first_value(running, "kept-kill") == b"still here"


def test_pid_that_another_program_has_now_is_stale_and_never_signalled(
    stopped: LocalBroker,
) -> None:
    (stopped.directory / "broker.pid").write_text(f"{os.getpid()}\n")
    status = stopped.status()
    assert isinstance(status, StalePid)
    assert status.pid == os.getpid()
    assert status.program is not None
    assert not stopped.stop()  # or this test would not go on
    assert stopped.status() == Stopped()


@pytest.mark.parametrize("content", ["", "no number\n", "0\n", "9" * 40, "\x00\xff"])
def test_damaged_pid_file_is_stale(stopped: LocalBroker, content: str) -> None:
    (stopped.directory / "broker.pid").write_text(content)
    assert isinstance(stopped.status(), StalePid)
    assert not stopped.stop()


def test_broker_whose_pid_file_is_lost_is_found_and_not_started_twice(
    running: LocalBroker,
) -> None:
    pid = _pid(running)
    (running.directory / "broker.pid").unlink()
    assert _pid(running) == pid
    with pytest.raises(ConfigError, match=rf"runs already, on 127\.0\.0\.1:{running.port}: stop"):
        LocalBroker(running.directory, *_free_ports()).start()
    assert running.stop()


def test_port_of_another_program_is_named(stopped: LocalBroker) -> None:
    with socket.create_server(("127.0.0.1", stopped.port)):
        assert stopped.status() == PortOccupied(stopped.port, is_kafka=False)
        with pytest.raises(ConfigError, match=f"port {stopped.port} is taken by another program"):
            stopped.start()


def test_controller_port_of_another_program_is_named(stopped: LocalBroker) -> None:
    with (
        socket.create_server(("127.0.0.1", stopped.controller_port)),
        pytest.raises(ConfigError, match=f"port {stopped.controller_port}, which the broker"),
    ):
        stopped.start()


def test_port_of_a_kafka_that_is_not_ours_is_told_as_such(
    running: LocalBroker, tmp_path: Path
) -> None:
    other = LocalBroker(tmp_path, running.port, _free_ports()[0])
    assert other.status() == PortOccupied(running.port, is_kafka=True)
    with pytest.raises(ConfigError, match="Kafka broker that was not started from this data"):
        other.start()


def test_equal_ports_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="two ports, and both are 9092"):
        LocalBroker(tmp_path, 9092, 9092)


def test_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"Not a directory.*--data"):
        LocalBroker(tmp_path / "file", *_free_ports()).start()


def test_broker_that_dies_while_it_starts_shows_why(tmp_path: Path) -> None:
    (tmp_path / "topics").mkdir()
    (tmp_path / "topics" / "meta.properties").write_text("version=1\ncluster.id=x\nnode.id=7\n")
    broken = LocalBroker(tmp_path, *_free_ports())
    with pytest.raises(BrokerUnavailableError) as caught:
        broken.start()
    assert "ended while it started" in str(caught.value)
    assert str(broken.log_file) in str(caught.value)
    assert "Stored node id 7 doesn't match" in str(caught.value)
    assert broken.status() == Stopped()


def test_missing_java_ends_the_command_with_one_sentence(tmp_path: Path) -> None:
    port, _ = _free_ports()
    run = _standpipe("start", "--port", str(port), "--data", str(tmp_path), PATH=str(tmp_path))
    assert run.returncode == 2
    (line,) = run.stderr.splitlines()
    assert "no 'java' in PATH" in line
    assert "openjdk-17-jre-headless" in line


def test_quarantined_websocket_message_of_16_mb_fits(running: LocalBroker) -> None:
    value = os.urandom(16_000_000)
    _create(running, "large")
    _produce(running, "large", value)
    assert _first_value(running, "large") == value


def test_command_starts_tells_the_state_and_stops(stopped: LocalBroker) -> None:
    where = ["--data", str(stopped.directory)]
    port = str(stopped.port)

    told = _standpipe("start", "--port", port, *where)
    assert told.returncode == 0, told.stderr
    assert f"runs on 127.0.0.1:{port}" in told.stdout
    assert str(stopped.log_file) in told.stdout

    pid = _pid(stopped)  # it outlived the command that started it
    assert os.getsid(pid) != os.getsid(0)  # and Ctrl-C does not reach it

    told = _standpipe("status", "--json", *where)
    assert told.returncode == 0
    assert json.loads(told.stdout) == {
        "status": "running",
        "pid": pid,
        "bootstrap_servers": f"127.0.0.1:{port}",
        "directory": str(stopped.directory),
        "log_file": str(stopped.log_file),
    }

    told = _standpipe("stop", *where)
    assert told.returncode == 0
    assert "has stopped" in told.stdout

    told = _standpipe("status", "--port", port, *where)
    assert told.returncode == 1
    assert "'standpipe kafka start' starts it" in told.stdout


def test_set_up_program_of_the_official_image_accepts_the_compose_file(tmp_path: Path) -> None:
    jars = KafkaJars.default()
    jars.fetch()
    compose = yaml.safe_load(
        (Path(__file__).parents[2] / "deploy" / "compose.yaml").read_text(encoding="utf-8")
    )
    environment = compose["services"]["kafka"]["environment"]
    for folder in ("image", "mounted", "final"):
        (tmp_path / folder).mkdir()
    (tmp_path / "final" / "server.properties").touch()
    for name in ("log4j2.yaml", "tools-log4j2.yaml"):
        (tmp_path / "image" / name).write_text("Configuration: {Loggers: {Root: {level: INFO}}}\n")
    data = str(tmp_path / "data")
    run = subprocess.run(
        [
            *("java", "-cp", jars.classpath, "kafka.docker.KafkaDockerWrapper", "setup"),
            *("-D", tmp_path / "image", "-M", tmp_path / "mounted", "-F", tmp_path / "final"),
        ],
        env={"PATH": os.environ["PATH"], **environment, "KAFKA_LOG_DIRS": data},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert (tmp_path / "data" / "meta.properties").exists()
    written = (tmp_path / "final" / "server.properties").read_text().splitlines()
    assert "controller.quorum.voters=1@127.0.0.1:9093" in written
    assert f"log.dirs={data}" in written
