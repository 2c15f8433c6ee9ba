"""The bridge between a simulated relay and a real broker: nothing lost, nothing twice."""

import dataclasses
import json
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
from confluent_kafka import Producer
from conftest import free_port
from support import wire
from support.kafka import read_committed, wait_until
from support.logs import Log, captured_logs

from pipelines.atproto.frames import MAX_FRAME_BYTES, parse_envelope
from pipelines.bridge import service
from pipelines.bridge.cursor import load_cursor
from pipelines.bridge.intake import UNDECODABLE_IN_ROW_LIMIT
from pipelines.bridge.messages import StoredCursor
from pipelines.config import KafkaConfig
from pipelines.errors import ConfigError, FencedError
from pipelines.kafka import admin
from pipelines.kafka.beat import State, parse_beat
from pipelines.kafka.messages import InputMessage
from pipelines.kafka.partition import partition_for
from pipelines.kafka.topics import validator
from pipelines.sim.network import CapturedNetwork, captured_frames, load_network
from pipelines.sim.ports import CursorHabit
from pipelines.sim.service import SimServer

pytestmark = pytest.mark.broker

STANDPIPE = Path(sys.executable).with_name("standpipe")
PARTITIONS = 3
TOPICS = ("frames", "quarantine", "cursors", "epochs", "status")
EXIT_TIMEOUT_S = 60.0


def create_topics(config: KafkaConfig) -> None:
    """Creates the topics that the bridge writes, as schemas/ describes them."""
    plan = admin.plan(config, PARTITIONS)
    wanted = {config.topic(name) for name in TOPICS}
    create = tuple(topic for topic in plan.create if topic.name in wanted)
    admin.apply(dataclasses.replace(plan, create=create))


@pytest.fixture
def config(kafka: str, topic_prefix: str) -> KafkaConfig:
    config = KafkaConfig(kafka, topic_prefix)
    create_topics(config)
    return config


@pytest.fixture(scope="module")
def network(capture_folder: Path) -> CapturedNetwork:
    return load_network(capture_folder)


@pytest.fixture
def log() -> Iterator[Log]:
    with captured_logs("bridge", "kafka") as log:
        yield log


class RunningBridge:
    """A bridge in a thread; leaving the context stops it and raises what it raised."""

    def __init__(self, config: KafkaConfig, relay: str, first_cursor: int | None = None) -> None:
        self._stopping = threading.Event()
        self._executor = ThreadPoolExecutor(1)
        self.future = self._executor.submit(
            service.run, config, relay, first_cursor, self._stopping.is_set
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopping.set()
        self._executor.shutdown()
        if exc is None:
            self.future.result(0)

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        wait_until(lambda: self.future.done() or condition(), what)
        if self.future.done():
            self.future.result(0)
            assert condition(), f"the bridge ended before: {what}"


def identity(seq: int, *, number: int = 0, fill: int = 0) -> bytes:
    payload = {"did": f"did:web:a{number}.example", "seq": seq, "time": wire.START_TIME}
    return wire.frame("#identity", payload | {"fill": bytes(fill)})


def synthetic(*messages: bytes | str) -> CapturedNetwork:
    return CapturedNetwork(captured_frames(messages))


def host_of(sim: SimServer) -> str:
    return sim.addresses.relay.removeprefix("ws://")


def frames_in(config: KafkaConfig) -> list[InputMessage]:
    """The frames in Kafka, in the upstream's order."""
    return sorted(read_committed(config, config.topic("frames")), key=seq_of)


def seq_of(message: InputMessage) -> int:
    return int(dict(message.headers)["seq"])


def json_in(config: KafkaConfig, topic: str) -> list[dict[str, Any]]:
    """The values of a topic of JSON messages; each must be as its schema says."""
    values = [json.loads(m.value or b"") for m in read_committed(config, config.topic(topic))]
    for value in values:
        validator(topic, 1).validate(value)
    return values


def last_seq_in(config: KafkaConfig) -> int:
    """The last committed cursor of the one host in the topic; 0 without any."""
    return max((cursor["seq"] for cursor in json_in(config, "cursors")), default=0)


def assert_holds_exactly(config: KafkaConfig, messages: Sequence[bytes | str]) -> None:
    """All messages are in `frames`, each once, byte for byte, in order in every partition."""
    stored = read_committed(config, config.topic("frames"))
    for partition in range(PARTITIONS):
        seqs = [seq_of(message) for message in stored if message.partition == partition]
        assert seqs == sorted(set(seqs))
    assert [message.value for message in frames_in(config)] == list(messages)


def assert_epochs_fit(config: KafkaConfig, host: str) -> None:
    """What cursors and epochs say of the one host in `frames` is true.

    A replay that follows the epochs releases every frame, and in the upstream's order.
    """
    stored, epochs = frames_in(config), json_in(config, "epochs")
    cursors = json_in(config, "cursors")
    assert {epoch["host"] for epoch in epochs} == {host}
    covered: list[int] = []
    for epoch in epochs:
        covered += [s for m in stored if epoch["seq_lo"] <= (s := seq_of(m)) <= epoch["seq_hi"]]
        for message in stored:
            is_below = message.offset < epoch["next_offsets"][message.partition]
            assert is_below == (seq_of(message) <= epoch["seq_hi"])
        last = next(message for message in stored if seq_of(message) == epoch["seq_hi"])
        assert epoch["received_us"] == int(dict(last.headers)["received_us"])
        assert epoch["time"] == parse_envelope(last.value or b"").time
    assert covered == [seq_of(message) for message in stored]
    assert [c["seq"] for c in cursors] == [epoch["seq_hi"] for epoch in epochs]
    assert [c["generation"] for c in cursors] == [epoch["generation"] for epoch in epochs]


def test_every_frame_arrives_as_it_was_sent(config: KafkaConfig, network: CapturedNetwork) -> None:
    """spec: F-22, F-28, F-29, F-31"""
    messages = [frame.message for frame in network.frames]
    with SimServer(network) as sim, RunningBridge(config, sim.addresses.relay) as bridge:
        host = host_of(sim)
        last_seq = network.frames[-1].seq
        bridge.wait_until(lambda: last_seq_in(config) == last_seq, "the last frame's cursor")
    assert_holds_exactly(config, messages)
    for message in frames_in(config):
        envelope = parse_envelope(message.value or b"")
        assert envelope.did is not None
        assert message.key == envelope.did.encode()
        assert message.partition == partition_for(envelope.did, PARTITIONS)
        received_us = int(dict(message.headers)["received_us"])
        assert message.headers == [
            ("host", host.encode()),
            ("seq", str(envelope.seq).encode()),
            ("kind", envelope.kind.encode()),
            ("received_us", str(received_us).encode()),
        ]
        assert message.timestamp_ms == received_us // 1000
    assert_epochs_fit(config, host)
    assert read_committed(config, config.topic("quarantine")) == []
    last = parse_beat(read_committed(config, config.topic("status"))[-1].value or b"")
    assert (last.slot, last.report.state) == (host.replace(":", "~"), State.STOPPED)
    assert last.report.counters["frames"] == len(messages)
    assert last.report.counters["seq"] == last_seq


@pytest.mark.slow
@pytest.mark.parametrize("habit", CursorHabit)
def test_a_stopped_bridge_continues_where_it_was(
    config: KafkaConfig, network: CapturedNetwork, habit: CursorHabit
) -> None:
    """spec: F-23: with both habits of upstreams, over stops and broken sockets."""
    with SimServer(network, rate=300, cursor_habit=habit) as sim:
        sim.faults.drop_after_count = 120
        for start in range(1, 4):
            goal = len(network.frames) * start // 3
            with RunningBridge(config, sim.addresses.relay) as bridge:
                bridge.wait_until(lambda: len(frames_in(config)) >= goal, f"{goal} frames")  # noqa: B023 - called at once
        host = host_of(sim)
        assert sim.status()["requests"]["subscribeRepos"] > 3
    assert_holds_exactly(config, [frame.message for frame in network.frames])
    assert_epochs_fit(config, host)
    assert {cursor["generation"] for cursor in json_in(config, "cursors")} == {1, 2, 3}


@pytest.mark.slow
@pytest.mark.parametrize("habit", CursorHabit)
def test_a_killed_bridge_loses_nothing_and_repeats_nothing(
    config: KafkaConfig, network: CapturedNetwork, habit: CursorHabit
) -> None:
    """spec: F-28"""
    chance = random.Random(f"kills {habit}")
    kills = sorted(chance.sample(range(20, len(network.frames) - 20), 4))
    last_seq = network.frames[-1].seq
    with SimServer(network, rate=100, cursor_habit=habit) as sim:
        for emitted in kills:
            with bridge_process(config, sim.addresses.relay, "--cursor", "oldest") as process:
                wait_until(
                    lambda: sim.status()["subscribers"] > 0 and process.poll() is None,
                    "a subscriber",
                )
                wait_until(
                    lambda: sim.status()["frames_emitted"] >= emitted,  # noqa: B023 - called at once
                    f"{emitted} frames",
                )
                process.kill()
            wait_until(lambda: sim.status()["subscribers"] == 0, "the end of the subscription")
        with bridge_process(config, sim.addresses.relay, "--cursor", "oldest") as process:
            wait_until(lambda: last_seq_in(config) == last_seq, "the last frame's cursor")
            process.send_signal(signal.SIGTERM)
            assert process.wait(EXIT_TIMEOUT_S) == 0
        host = host_of(sim)
    assert_holds_exactly(config, [frame.message for frame in network.frames])
    assert_epochs_fit(config, host)


def test_what_was_received_is_published_before_a_stop_ends(config: KafkaConfig, log: Log) -> None:
    """Ctrl-C right after the socket has delivered."""
    messages = [identity(seq, number=seq % 7, fill=1000) for seq in range(1, 20_001)]
    with SimServer(synthetic(*messages)) as sim:
        host = host_of(sim)
        with RunningBridge(config, sim.addresses.relay, 0) as bridge:
            bridge.wait_until(lambda: bool(frames_in(config)), "the first frames")
        count = len(frames_in(config))
        assert load_cursor(config, host) == StoredCursor(count, generation=1)
        stopped = log.last("stopped")
        assert (stopped["frames"], stopped["seq"], stopped["queued"]) == (count, count, 0)
        with RunningBridge(config, sim.addresses.relay) as bridge:
            bridge.wait_until(lambda: last_seq_in(config) == len(messages), "all frames")
    assert_holds_exactly(config, messages)
    epochs = json_in(config, "epochs")
    assert [epoch["seq_lo"] for epoch in epochs[1:]] == [e["seq_hi"] + 1 for e in epochs[:-1]]


def test_what_cannot_be_read_goes_to_quarantine_and_the_rest_arrives(config: KafkaConfig) -> None:
    """spec: F-10, F-12, F-16"""
    bad: list[bytes | str] = [
        b"garbage",
        "text",
        identity(5, fill=MAX_FRAME_BYTES),
        wire.frame("#identity", {"seq": 6}),
        b"",
    ]
    good = [identity(seq, number=seq) for seq in range(1, 7)]
    unknown = wire.frame("#labels", {"seq": 7})
    mixed: list[bytes | str] = []
    for before, message in zip(good, bad, strict=False):
        mixed += [before, message]
    with (
        SimServer(synthetic(*mixed, good[-1], unknown)) as sim,
        RunningBridge(config, sim.addresses.relay) as bridge,
    ):
        host = host_of(sim)
        bridge.wait_until(lambda: last_seq_in(config) == 7, "the cursor after the unknown type")
        assert sim.status()["requests"]["subscribeRepos"] == 1
    assert_holds_exactly(config, good)
    quarantined = read_committed(config, config.topic("quarantine"))
    raw = [message.encode() if isinstance(message, str) else message for message in bad]
    assert [message.value for message in quarantined] == raw
    assert {message.key for message in quarantined} == {host.encode()}
    assert {message.partition for message in quarantined} == {partition_for(host, PARTITIONS)}
    headers = [dict(message.headers) for message in quarantined]
    assert [header["q.reason"].decode() for header in headers] == [
        "frame.not_cbor",
        "frame.not_cbor",
        "frame.too_large",
        "frame.field",
        "frame.header",
    ]
    assert {header["host"] for header in headers} == {host.encode()}
    assert {header["q.stage"] for header in headers} == {b"bridge"}


def test_a_run_of_garbage_costs_connections_and_no_frames(config: KafkaConfig) -> None:
    """spec: F-13"""
    junk = [b"junk %d" % number for number in range(UNDECODABLE_IN_ROW_LIMIT + 2)]
    with (
        SimServer(synthetic(identity(1), *junk, identity(2))) as sim,
        RunningBridge(config, sim.addresses.relay) as bridge,
    ):
        bridge.wait_until(lambda: last_seq_in(config) == 2, "the frame after the garbage")
        assert sim.status()["requests"]["subscribeRepos"] == 2
    assert_holds_exactly(config, [identity(1), identity(2)])
    quarantined = read_committed(config, config.topic("quarantine"))
    assert [message.value for message in quarantined] == junk


def test_a_cursor_ahead_of_the_upstream_is_kept(config: KafkaConfig, log: Log) -> None:
    """spec: F-25"""
    port = free_port()
    with (
        SimServer(synthetic(identity(500)), port=port) as sim,
        RunningBridge(config, sim.addresses.relay) as bridge,
    ):
        bridge.wait_until(lambda: last_seq_in(config) == 500, "the cursor")
    with (
        SimServer(synthetic(identity(3)), port=port) as sim,
        RunningBridge(config, sim.addresses.relay, 0) as bridge,
    ):
        bridge.wait_until(lambda: log.has("cursor_in_future"), "the refusal of the cursor")
    assert_holds_exactly(config, [identity(500)])
    assert load_cursor(config, f"127.0.0.1:{port}") == StoredCursor(500, generation=1)


def test_an_upstream_that_is_not_up_yet_is_waited_for(config: KafkaConfig, log: Log) -> None:
    """spec: F-02"""
    port = free_port()
    with RunningBridge(config, f"ws://127.0.0.1:{port}") as bridge:
        bridge.wait_until(lambda: log.has("connect_failed"), "a failed connection")
        with SimServer(synthetic(identity(1)), port=port):
            bridge.wait_until(lambda: last_seq_in(config) == 1, "the first frame")


def test_cursors_of_other_hosts_do_not_count(config: KafkaConfig) -> None:
    """spec: F-29"""
    with (
        SimServer(synthetic(identity(500))) as first,
        SimServer(synthetic(identity(3))) as second,
        RunningBridge(config, first.addresses.relay, 0) as one,
        RunningBridge(config, second.addresses.relay, 0) as other,
    ):
        one.wait_until(lambda: len(json_in(config, "cursors")) == 2, "both cursors")
        hosts = [host_of(first), host_of(second)]
        assert not other.future.done()
    assert [load_cursor(config, host) for host in hosts] == [
        StoredCursor(500, generation=1),
        StoredCursor(3, generation=1),
    ]
    assert load_cursor(config, "relay.example") is None


def test_a_cursor_that_was_withdrawn_is_gone(config: KafkaConfig) -> None:
    write_cursor(config, "relay.example", 17)
    assert load_cursor(config, "relay.example") == StoredCursor(17, generation=2)
    write_cursor(config, "relay.example", None)
    assert load_cursor(config, "relay.example") is None


def test_a_cursor_that_cannot_be_understood_is_not_taken_for_none(config: KafkaConfig) -> None:
    topic = config.topic("cursors")
    producer = Producer({"bootstrap.servers": config.bootstrap_servers})
    producer.produce(topic, b"{}", b"relay.example")
    assert producer.flush(20) == 0
    with pytest.raises(ConfigError, match="cannot be understood"):
        load_cursor(config, "relay.example")


def write_cursor(config: KafkaConfig, host: str, seq: int | None) -> None:
    value = None if seq is None else json.dumps({"seq": seq, "generation": 2}).encode()
    producer = Producer({"bootstrap.servers": config.bootstrap_servers})
    producer.produce(config.topic("cursors"), value, host.encode())
    assert producer.flush(20) == 0


def test_a_cursor_behind_another_bridges_open_transaction_is_waited_for(
    config: KafkaConfig, log: Log
) -> None:
    """Readers do not see past the first open transaction; our last cursor may lie there."""
    write_cursor(config, "relay.example", 16)
    other = Producer(
        {"bootstrap.servers": config.bootstrap_servers, "transactional.id": config.topic("other")}
    )
    other.init_transactions(20)
    other.begin_transaction()
    other.produce(config.topic("cursors"), b"{}", b"other.example")
    assert other.flush(20) == 0
    write_cursor(config, "relay.example", 17)
    with ThreadPoolExecutor(1) as executor:
        loading = executor.submit(load_cursor, config, "relay.example")
        wait_until(lambda: loading.done() or log.has("waiting_for_open_transactions"), "the wait")
        assert not loading.done()
        other.abort_transaction(20)
        assert loading.result(20) == StoredCursor(17, generation=2)


def test_of_two_bridges_for_one_upstream_one_ends_and_nothing_is_written_twice(
    config: KafkaConfig, network: CapturedNetwork
) -> None:
    with SimServer(network, rate=25) as sim:
        relay, host = sim.addresses.relay, host_of(sim)
        with pytest.raises(FencedError, match=f"another bridge for {host} has taken over"):
            run_rivals(config, relay)
        count = len(frames_in(config))
        with RunningBridge(config, relay) as bridge:
            bridge.wait_until(lambda: len(frames_in(config)) > count, "frames after the rivalry")
    stored_count = len(frames_in(config))
    assert_holds_exactly(config, [frame.message for frame in network.frames[:stored_count]])
    assert_epochs_fit(config, host)


def run_rivals(config: KafkaConfig, relay: str) -> None:
    """Runs two bridges until one of them ends, and raises what it raised."""
    with RunningBridge(config, relay, 0) as first:
        first.wait_until(lambda: last_seq_in(config) > 0, "the first frames")
        with RunningBridge(config, relay, 0) as second:
            # Each notices at its next transaction that the other one has taken over, and takes
            # over in turn, once.
            wait_until(lambda: first.future.done() or second.future.done(), "the end of one")
            for ended in (first, second):
                if ended.future.done():
                    ended.future.result(0)


@contextmanager
def bridge_process(
    config: KafkaConfig, relay: str, *options: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs `standpipe bridge`; leaving the context kills what is left of it."""
    process = subprocess.Popen(
        [
            STANDPIPE,
            "bridge",
            f"--relay={relay}",
            f"--bootstrap-servers={config.bootstrap_servers}",
            f"--topic-prefix={config.topic_prefix}",
            *options,
        ],
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=EXIT_TIMEOUT_S)


def failed_start(config: KafkaConfig, relay: str, *options: str) -> tuple[int, str]:
    """Runs `standpipe bridge`, which must end by itself; returns exit code and stderr."""
    with bridge_process(config, relay, *options) as process:
        _, stderr = process.communicate(timeout=EXIT_TIMEOUT_S)
        return process.returncode, stderr.decode()


class _NotFound(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, *_: object) -> None:
        pass


def test_an_address_that_is_no_relay_ends_the_start_with_a_sentence(config: KafkaConfig) -> None:
    """spec: F-02"""
    server = HTTPServer(("127.0.0.1", 0), _NotFound)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    relay = f"ws://127.0.0.1:{server.server_port}"
    try:
        exit_code, stderr = failed_start(config, relay)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert exit_code == 1
    assert stderr.splitlines()[-1] == (
        f"Error: {relay}: the host has no event stream there (HTTP 404): "
        "check that the address is that of a relay or PDS"
    )
    assert "Traceback" not in stderr


def test_without_a_broker_the_start_ends_with_a_sentence() -> None:
    config = KafkaConfig(f"127.0.0.1:{free_port()}")
    exit_code, stderr = failed_start(config, "ws://127.0.0.1:2583")
    assert exit_code == 1
    assert stderr.startswith(f"Error: no Kafka broker answers at {config.bootstrap_servers}")
    assert "standpipe kafka start" in stderr
    assert "Traceback" not in stderr


def test_without_topics_the_start_ends_with_a_sentence(kafka: str, topic_prefix: str) -> None:
    exit_code, stderr = failed_start(KafkaConfig(kafka, topic_prefix), "ws://127.0.0.1:2583")
    assert exit_code == 2
    assert f"there is no topic {topic_prefix}.frames" in stderr
    assert "standpipe topics apply" in stderr


@pytest.mark.parametrize("cursor", ["newest", "-1", "1.5", "", "12345678901234567", "\u0661"])
def test_a_cursor_that_is_none_is_wrong_usage(cursor: str) -> None:
    config = KafkaConfig("127.0.0.1:1")
    exit_code, stderr = failed_start(config, "ws://127.0.0.1:2583", f"--cursor={cursor}")
    assert exit_code == 2
    assert "neither live, oldest nor a sequence number" in stderr
