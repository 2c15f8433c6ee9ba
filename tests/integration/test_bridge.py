"""The bridge between a simulated relay and a real broker: nothing lost, nothing twice."""

import itertools
import json
import random
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka import Producer
from conftest import free_port
from support import wire
from support.bridge import (
    EXIT_TIMEOUT_S,
    PARTITIONS,
    RunningBridge,
    assert_holds_exactly,
    bridge_process,
    create_topics,
    frames_in,
    host_of,
    identity,
    json_in,
    last_seq_in,
    load_cursor,
    seq_of,
    synthetic,
)
from support.kafka import read_committed, wait_until
from support.logs import Log, captured_logs
from support.web import no_event_stream

from pipelines.atproto.frames import MAX_FRAME_BYTES, parse_envelope
from pipelines.bridge.cursor import AtTime, Start, load_cursors
from pipelines.bridge.intake import UNDECODABLE_IN_ROW_LIMIT
from pipelines.bridge.messages import StoredCursor
from pipelines.config import KafkaConfig
from pipelines.errors import ConfigError, FencedError
from pipelines.kafka.beat import State, parse_beat
from pipelines.kafka.partition import partition_for
from pipelines.sim.generated import GeneratedNetwork
from pipelines.sim.generator import Generator
from pipelines.sim.mix import Settings
from pipelines.sim.network import CapturedNetwork, load_network
from pipelines.sim.ports import CursorHabit
from pipelines.sim.service import SimServer

pytestmark = pytest.mark.broker


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
    assert (last.slot, last.report.state) == ("0", State.STOPPED)
    assert last.report.counters["frames"] == len(messages)
    assert last.report.groups["seq"] == {host: last_seq}


@pytest.mark.slow
@pytest.mark.parametrize("habit", CursorHabit)
def test_a_stopped_bridge_continues_where_it_was(
    config: KafkaConfig, network: CapturedNetwork, habit: CursorHabit
) -> None:
    """spec: F-23: with both habits of upstreams, over stops and broken sockets."""
    port, starts = free_port(), 3
    for start in range(1, starts + 1):
        # The relay has no more frames than one start is to publish, so that each publishes some.
        goal = len(network.frames) * start // starts
        emitted = replace(network, frames=network.frames[:goal])
        with SimServer(emitted, port=port, cursor_habit=habit) as sim:
            sim.faults.drop_after_count = goal // (2 * start)
            with RunningBridge(config, sim.addresses.relay) as bridge:
                bridge.wait_until(lambda: len(frames_in(config)) >= goal, f"{goal} frames")  # noqa: B023 - called at once
            assert sim.status()["requests"]["subscribeRepos"] > 1
            host = host_of(sim)
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
        assert load_cursor(config, host) == StoredCursor(count, 1, wire.START_TIME)
        stopped = log.last("stopped")
        assert (stopped["frames"], stopped["queued"]) == (count, 0)
        assert log.last("stopped_upstream")["seq"] == count
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
    assert load_cursor(config, f"127.0.0.1:{port}") == StoredCursor(500, 1, wire.START_TIME)


def test_a_cursor_that_is_given_up_starts_anew_and_leaves_a_gap(
    config: KafkaConfig, log: Log
) -> None:
    """spec: F-25, J-01: an upstream that numbers anew."""
    port = free_port()
    host = f"127.0.0.1:{port}"
    with (
        SimServer(synthetic(identity(500)), port=port) as sim,
        RunningBridge(config, sim.addresses.relay) as bridge,
    ):
        bridge.wait_until(lambda: last_seq_in(config) == 500, "the cursor")
    for start in (Start(0, frozenset({499})), Start(0, frozenset({500})), Start(None)):
        with (
            SimServer(synthetic(identity(3), identity(4)), port=port) as sim,
            RunningBridge(config, sim.addresses.relay, start) as bridge,
        ):
            if 499 in start.given_up:
                bridge.wait_until(lambda: log.has("cursor_in_future"), "the refusal")
                assert "--give-up-cursor 500" in log.last("cursor_in_future")["detail"]
            else:
                bridge.wait_until(
                    lambda: (
                        load_cursor(config, host) == StoredCursor(4, 2, wire.START_TIME)
                        and sim.status()["subscribers"] == 1
                    ),
                    "the new cursor",
                )
    assert sorted(map(seq_of, frames_in(config))) == [3, 4, 500]
    (gap,) = json_in(config, "gaps")
    assert (gap["host"], gap["generation"], gap["reason"]) == (host, 2, "cursor_given_up")
    assert (gap["from_seq"], gap["from_time"]) == (500, wire.START_TIME)
    assert (gap["to_seq"], gap["to_time"]) == (3, wire.START_TIME)
    before = frames_in(config)[-1]
    assert gap["next_offsets"][before.partition] > before.offset


def test_what_the_upstream_no_longer_has_is_a_gap_told_of_once(config: KafkaConfig) -> None:
    """spec: F-24: killed before the first frame after it, and stopped after it."""
    port = free_port()
    first = [identity(seq, number=seq) for seq in range(1, 11)]
    later = [identity(seq, number=seq) for seq in range(101, 111)]
    with (
        SimServer(synthetic(*first), port=port) as sim,
        RunningBridge(config, sim.addresses.relay, 0) as bridge,
    ):
        bridge.wait_until(lambda: last_seq_in(config) == 10, "the first frames")
    history = synthetic(*first, *[identity(seq) for seq in range(11, 101)], *later)
    with SimServer(history, port=port, retained_count=10) as sim:
        with bridge_process(config, sim.addresses.relay) as process:
            wait_until(lambda: sim.status()["subscribers"] > 0, "a subscriber")
            process.kill()
        for _ in range(2):
            with RunningBridge(config, sim.addresses.relay) as bridge:
                bridge.wait_until(
                    lambda: last_seq_in(config) == 110 and sim.status()["subscribers"] == 1,
                    "the frames that are left",
                )
    assert_holds_exactly(config, [*first, *later])
    (gap,) = json_in(config, "gaps")
    assert (gap["reason"], gap["from_seq"], gap["to_seq"]) == ("outdated_cursor", 10, 101)
    for message in frames_in(config):
        if seq_of(message) > gap["from_seq"]:
            assert message.offset >= gap["next_offsets"][message.partition]
    last = parse_beat(read_committed(config, config.topic("status"))[-1].value or b"")
    assert last.report.counters["gaps"] <= 1


@pytest.mark.slow
def test_a_bridge_that_was_too_slow_goes_on_and_what_it_missed_is_a_gap(
    config: KafkaConfig,
) -> None:
    """spec: F-24, F-27: it sleeps until what it has not got is no longer kept."""
    settings = Settings(accounts_count=20)
    with (
        SimServer(GeneratedNetwork(settings, retained_bytes=5_000_000), rate=2_000) as sim,
        bridge_process(config, sim.addresses.relay, "--cursor=oldest") as process,
    ):
        wait_until(lambda: last_seq_in(config) > 0, "the first frames")
        process.send_signal(signal.SIGSTOP)
        emitted_count = sim.status()["frames_emitted"] + 12_000
        wait_until(lambda: sim.status()["frames_emitted"] > emitted_count, "what it misses")
        process.send_signal(signal.SIGCONT)
        wait_until(lambda: bool(json_in(config, "gaps")), "the gap")
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=EXIT_TIMEOUT_S)
        assert process.returncode == 0
    gaps = json_in(config, "gaps")
    assert {gap["reason"] for gap in gaps} == {"outdated_cursor"}
    stored = [seq_of(message) for message in frames_in(config)]
    assert stored == sorted(set(stored))
    known = set(stored)
    emitted = (event.seq for event in Generator(settings).events())
    for seq in itertools.takewhile(lambda seq: seq < stored[-1], emitted):
        is_in_gap = any(gap["from_seq"] < seq < gap["to_seq"] for gap in gaps)
        assert is_in_gap != (seq in known)


def test_a_jump_that_the_upstream_does_not_announce_is_a_gap(config: KafkaConfig) -> None:
    """spec: F-24: as deployed relays do it."""
    later = wire.frame(
        "#identity", {"did": "did:web:a.example", "seq": 2_000, "time": "2026-01-03T00:00:00Z"}
    )
    with (
        SimServer(synthetic(identity(1), identity(2), later)) as sim,
        RunningBridge(config, sim.addresses.relay, 0) as bridge,
    ):
        bridge.wait_until(lambda: last_seq_in(config) == 2_000, "the last frame")
    (gap,) = json_in(config, "gaps")
    assert (gap["reason"], gap["from_seq"], gap["to_seq"]) == ("jump", 2, 2_000)
    assert (gap["from_time"], gap["to_time"]) == (wire.START_TIME, "2026-01-03T00:00:00Z")


def test_a_start_at_a_moment_brings_what_happened_since(config: KafkaConfig, log: Log) -> None:
    messages = [
        wire.frame(
            "#identity",
            {
                "did": f"did:web:a{second % 7}.example",
                "seq": 31_000_000_000 + 3 * second,
                "time": f"2026-01-01T00:{second // 60:02}:{second % 60:02}.000Z",
            },
        )
        for second in range(3_600)
    ]
    moment_us = wire.START_US + 1_800 * 1_000_000
    with (
        SimServer(synthetic(*messages)) as sim,
        RunningBridge(config, sim.addresses.relay, Start(AtTime(moment_us))) as bridge,
    ):
        bridge.wait_until(lambda: last_seq_in(config) == 31_000_010_797, "the last frame")
        asked_count = sim.status()["requests"]["subscribeRepos"]
    found = (log.last("start_found")["cursor"] - 31_000_000_000) // 3
    assert 1_800 - 120 <= found < 1_800 - 60
    assert_holds_exactly(config, messages[found + 1 :])
    assert asked_count < 50
    assert json_in(config, "gaps") == []


def test_an_upstream_that_is_not_up_yet_is_waited_for(config: KafkaConfig, log: Log) -> None:
    """spec: F-02"""
    port = free_port()
    with RunningBridge(config, f"ws://127.0.0.1:{port}") as bridge:
        bridge.wait_until(lambda: log.has("connect_failed"), "a failed connection")
        with SimServer(synthetic(identity(1)), port=port):
            bridge.wait_until(lambda: last_seq_in(config) == 1, "the first frame")


def test_each_upstream_has_its_own_cursor(config: KafkaConfig) -> None:
    """spec: F-29"""
    with (
        SimServer(synthetic(identity(500))) as first,
        SimServer(synthetic(identity(3, number=1))) as second,
        RunningBridge(config, [first.addresses.relay, second.addresses.relay], 0) as bridge,
    ):
        bridge.wait_until(lambda: len(frames_in(config)) == 2, "both frames")
        hosts = [host_of(first), host_of(second)]
    assert load_cursors(config, hosts) == {
        hosts[0]: StoredCursor(500, 1, wire.START_TIME),
        hosts[1]: StoredCursor(3, 1, wire.START_TIME),
    }
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
    value = (
        None if seq is None else json.dumps({"seq": seq, "generation": 2, "time": None}).encode()
    )
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


def test_a_second_bridge_stands_by_and_deposes_nobody(
    config: KafkaConfig, network: CapturedNetwork, log: Log
) -> None:
    with SimServer(network, rate=50) as sim:
        relay, host = sim.addresses.relay, host_of(sim)
        with RunningBridge(config, relay, 0, "one") as first:
            first.wait_until(lambda: last_seq_in(config) > 0, "the first frames")
            with RunningBridge(config, relay, 0, "two") as second:
                second.wait_until(lambda: len(log.all("standing_by")) == 2, "the second to wait")
                count = len(frames_in(config))
                first.wait_until(lambda: len(frames_in(config)) > count + 50, "more frames")
                assert not second.future.done()
        assert len(log.all("leading")) == 1
        beats = [
            parse_beat(m.value or b"") for m in read_committed(config, config.topic("status"))
        ]
        second_beats = [beat.report for beat in beats if beat.slot == "two"]
        assert {beat.counters["frames"] for beat in second_beats} == {0}
        assert {beat.counters["leading"] for beat in second_beats} == {0}
    stored_count = len(frames_in(config))
    assert_holds_exactly(config, [frame.message for frame in network.frames[:stored_count]])
    assert_epochs_fit(config, host)


def test_of_two_bridges_in_one_slot_the_first_ends_and_nothing_is_written_twice(
    config: KafkaConfig, network: CapturedNetwork
) -> None:
    with SimServer(network, rate=25) as sim:
        relay, host = sim.addresses.relay, host_of(sim)
        with pytest.raises(FencedError, match="another bridge has taken over slot 0"):
            run_rivals(config, relay)
    stored_count = len(frames_in(config))
    assert_holds_exactly(config, [frame.message for frame in network.frames[:stored_count]])
    assert_epochs_fit(config, host)


def run_rivals(config: KafkaConfig, relay: str) -> None:
    """Runs two bridges in one slot until the first has ended, and raises what it raised."""
    with RunningBridge(config, relay, 0) as first:
        first.wait_until(lambda: last_seq_in(config) > 0, "the first frames")
        with bridge_process(config, relay) as second:
            wait_until(first.future.done, "the end of the first")
            count = len(frames_in(config))
            wait_until(lambda: len(frames_in(config)) > count, "frames of the second")
            second.send_signal(signal.SIGTERM)
            assert second.wait(EXIT_TIMEOUT_S) == 0


def failed_start(config: KafkaConfig, relay: str, *options: str) -> tuple[int, str]:
    """Runs `standpipe bridge`, which must end by itself; returns exit code and stderr."""
    with bridge_process(config, relay, *options) as process:
        _, stderr = process.communicate(timeout=EXIT_TIMEOUT_S)
        return process.returncode, stderr.decode()


def test_an_address_that_is_no_relay_ends_the_start_with_a_sentence(config: KafkaConfig) -> None:
    """spec: F-02"""
    with no_event_stream() as relay:
        exit_code, stderr = failed_start(config, relay)
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


@pytest.mark.parametrize(
    "cursor",
    ["newest", "-1", "1.5", "", "12345678901234567", "\u0661", "2026-01-01T00:00:00", "yesterday"],
)
def test_a_cursor_that_is_none_is_wrong_usage(cursor: str) -> None:
    config = KafkaConfig("127.0.0.1:1")
    exit_code, stderr = failed_start(config, "ws://127.0.0.1:2583", f"--cursor={cursor}")
    assert exit_code == 2
    assert "neither live, oldest, a sequence number nor a time" in stderr
