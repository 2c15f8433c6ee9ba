"""Several upstreams, several bridges: each event once, whoever brings it and whoever writes."""

import signal
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import pytest
from conftest import free_port
from support import wire
from support.bridge import (
    EXIT_TIMEOUT_S,
    PARTITIONS,
    RunningBridge,
    bridge_process,
    create_topics,
    frames_in,
    host_of,
    json_in,
)
from support.kafka import produce, read_committed, read_decided, wait_until
from support.logs import Log, captured_logs
from support.web import no_event_stream

from pipelines.atproto import cbor
from pipelines.atproto.frames import parse_envelope
from pipelines.bridge.backoff import LONG_PAUSE_S
from pipelines.bridge.cursor import load_cursors, load_window
from pipelines.bridge.sightings import Sighting
from pipelines.bridge.window import content_id
from pipelines.config import KafkaConfig
from pipelines.errors import ConfigError
from pipelines.kafka.beat import parse_beat
from pipelines.sim.network import CapturedNetwork, captured_frames, load_network
from pipelines.sim.service import SimServer

pytestmark = pytest.mark.broker

SHIFT = 1_000_000
# A group notices after ten seconds that a member is gone.
TAKE_OVER_TIMEOUT_S = 120.0


@pytest.fixture
def config(kafka: str, topic_prefix: str) -> KafkaConfig:
    config = KafkaConfig(kafka, topic_prefix)
    create_topics(config)
    return config


@pytest.fixture(scope="module")
def frames(capture_folder: Path) -> list[bytes]:
    found = [frame.message for frame in load_network(capture_folder).frames]
    assert all(isinstance(message, bytes) for message in found)
    return [message for message in found if isinstance(message, bytes)]


@pytest.fixture
def log() -> Iterator[Log]:
    with captured_logs("bridge", "kafka") as log:
        yield log


def renumbered(frames: Sequence[bytes], step: int = 1) -> list[bytes]:
    """The same events as another relay numbers them."""
    found = []
    for number, frame in enumerate(frames):
        header, payload = cbor.decode_sequence(frame)
        payload["seq"] = SHIFT + step * number
        found.append(cbor.encode(header) + cbor.encode(payload))
    return found


def relay_of(frames: Sequence[bytes], rate: float = 0, port: int = 0) -> SimServer:
    return SimServer(CapturedNetwork(captured_frames(frames)), rate=rate, port=port)


def stored_by_account(config: KafkaConfig) -> dict[bytes, list[bytes]]:
    """What `frames` has of each account, in order."""
    found: dict[bytes, list[bytes]] = {}
    for message in read_committed(config, config.topic("frames")):
        frame = message.value or b""
        found.setdefault(message.key or b"", []).append(content_id(parse_envelope(frame)))
    return found


def assert_each_once_in_order(config: KafkaConfig, frames: Sequence[bytes]) -> None:
    """Each event is in `frames` once, and of each account in the order of the network."""
    wanted: dict[bytes, list[bytes]] = {}
    for frame in frames:
        envelope = parse_envelope(frame)
        assert envelope.did is not None
        wanted.setdefault(envelope.did.encode(), []).append(content_id(envelope))
    assert stored_by_account(config) == wanted


def count_in(config: KafkaConfig) -> int:
    return len(read_committed(config, config.topic("frames")))


def cursors_in(config: KafkaConfig, *relays: SimServer) -> list[int]:
    """The committed cursor of each relay; 0 for none."""
    hosts = [host_of(relay) for relay in relays]
    stored = load_cursors(config, hosts)
    return [stored[host].seq if host in stored else 0 for host in hosts]


def test_what_a_server_brings_is_marked_and_keeps_nothing_of_a_relay_out(
    config: KafkaConfig, frames: list[bytes]
) -> None:
    """spec: J-10: over a stop, after which the bridge reads back who brought what."""
    some = frames[:60]
    others = renumbered(some)
    ends = [parse_envelope(some[-1]).seq, parse_envelope(others[-1]).seq]
    with relay_of(some) as relay, relay_of(others) as server:
        relays, servers = [relay.addresses.relay], [server.addresses.relay]
        for _ in range(2):
            with RunningBridge(config, relays, 0, servers=servers) as bridge:
                bridge.wait_until(lambda: cursors_in(config, relay, server) == ends, "both ends")
        hosts = {host_of(relay).encode(): False, host_of(server).encode(): True}
    brought: dict[bool, list[bytes]] = {False: [], True: []}
    for message in read_decided(config, config.topic("frames")):
        headers = dict(message.headers)
        is_pds = hosts[headers["host"]]
        assert headers.get("upstream") == (b"pds" if is_pds else None)
        brought[is_pds].append(content_id(parse_envelope(message.value or b"")))
    every = [content_id(parse_envelope(frame)) for frame in some]
    assert sorted(brought[False]) == sorted(every)
    assert Counter(brought[True]) <= Counter(every)


def test_what_two_relays_bring_is_there_once(
    config: KafkaConfig, frames: list[bytes], log: Log
) -> None:
    """spec: F-29: each has its cursor, over stops of the bridge, which reads back what was."""
    others = renumbered(frames, step=3)
    ends = [parse_envelope(frames[-1]).seq, parse_envelope(others[-1]).seq]
    with relay_of(frames, rate=200) as one, relay_of(others, rate=150) as other:
        relays = [one.addresses.relay, other.addresses.relay]
        for part in (1, 2):
            with RunningBridge(config, relays, 0) as bridge:
                goal = part * len(frames) // 4
                bridge.wait_until(lambda: count_in(config) >= goal, f"{goal} frames")  # noqa: B023
        with RunningBridge(config, relays, 0) as bridge:
            bridge.wait_until(lambda: cursors_in(config, one, other) == ends, "both ends")
        hosts = [host_of(one), host_of(other)]
    assert_each_once_in_order(config, frames)
    brought = Counter(dict(message.headers)["host"].decode() for message in frames_in(config))
    assert brought.keys() <= set(hosts)
    assert sum(line["duplicates"] for line in log.all("stopped")) >= len(frames) // 2
    for epoch in json_in(config, "epochs"):
        for message in frames_in(config):
            headers = dict(message.headers)
            if (
                headers["host"].decode() == epoch["host"]
                and int(headers["seq"]) <= epoch["seq_hi"]
            ):
                assert message.offset < epoch["next_offsets"][message.partition]


def test_what_one_relay_leaves_out_the_other_one_brings(config: KafkaConfig) -> None:
    """Ten events are in one only, and ten in the other; the status tells who brings how much."""
    events = [
        wire.frame(
            "#identity",
            {"did": f"did:web:a{number}.example", "seq": number + 1, "time": wire.START_TIME},
        )
        for number in range(100)
    ]
    with relay_of(events[:90]) as one, relay_of(renumbered(events)[10:]) as other:
        relays = [one.addresses.relay, other.addresses.relay]
        with RunningBridge(config, relays, 0) as bridge:
            bridge.wait_until(
                lambda: cursors_in(config, one, other) == [90, SHIFT + 99], "both ends"
            )
        hosts = [host_of(one), host_of(other)]
    assert_each_once_in_order(config, events)
    report = parse_beat(read_committed(config, config.topic("status"))[-1].value or b"").report
    assert report.groups["coverage_ppm"] == {hosts[0]: 900_000, hosts[1]: 900_000}
    assert report.groups["missing"] == {hosts[0]: 10, hosts[1]: 10}
    assert sum(report.groups["first"].values()) == 100
    assert sum(report.groups["duplicates"].values()) == 80


def test_what_one_relay_left_out_comes_late_and_what_follows_it_once_more(
    config: KafkaConfig, log: Log
) -> None:
    """So that a chain that was broken closes; the other account's events stay single."""

    def commit(seq: int, did: str) -> bytes:
        payload = {"repo": did, "rev": wire.rev(seq), "seq": seq, "time": wire.START_TIME}
        return wire.frame("#commit", payload)

    other_did, did = "did:web:other.example", "did:web:a.example"
    events = [commit(1, did), commit(2, other_did), commit(3, did), commit(4, did)]
    port = free_port()
    with relay_of([*events[:2], events[3]]) as one:
        relays = [one.addresses.relay, f"ws://127.0.0.1:{port}"]
        with RunningBridge(config, relays, 0) as bridge:
            bridge.wait_until(lambda: cursors_in(config, one) == [4], "what the first one has")
            with relay_of(renumbered(events), port=port) as late:
                end = SHIFT + len(events) - 1
                bridge.wait_until(lambda: cursors_in(config, late) == [end], "the second one")
    first, other, missing, last = (content_id(parse_envelope(event)) for event in events)
    assert stored_by_account(config) == {
        did.encode(): [first, last, missing, last],
        other_did.encode(): [other],
    }
    assert log.has("connect_failed")


def test_the_window_comes_back_past_what_is_no_frame_any_more(
    config: KafkaConfig, frames: list[bytes]
) -> None:
    """An earlier version may have taken what this one refuses."""
    produce(config, config.topic("frames"), [(0, b"no frame"), (0, frames[0])])
    window = load_window(config, PARTITIONS)
    known, new = (window.bring(parse_envelope(frame), "a.example") for frame in frames[:2])
    assert known == (False, Sighting.REPEATED)
    assert new == (True, Sighting.FIRST)


def test_a_relay_that_is_away_holds_up_no_other(
    config: KafkaConfig, frames: list[bytes], log: Log
) -> None:
    away = relay_of([])
    with relay_of(frames) as one:
        away.start()
        gone = away.addresses.relay
        away.stop()
        with RunningBridge(config, [gone, one.addresses.relay], 0) as bridge:
            bridge.wait_until(lambda: count_in(config) == len(frames), "all frames")
            bridge.wait_until(lambda: log.has("connect_failed"), "the other to be missed")
    assert_each_once_in_order(config, frames)


def test_a_wrong_address_is_a_problem_and_holds_up_no_other(
    config: KafkaConfig, frames: list[bytes], log: Log
) -> None:
    with (
        no_event_stream() as wrong,
        relay_of(frames) as one,
        RunningBridge(config, [wrong, one.addresses.relay], 0) as bridge,
    ):
        bridge.wait_until(lambda: count_in(config) == len(frames), "all frames")
        bridge.wait_until(lambda: log.has("connect_refused"), "the other to be missed")
    assert_each_once_in_order(config, frames)
    assert log.last("connect_refused")["retry_s"] >= LONG_PAUSE_S / 2
    report = parse_beat(read_committed(config, config.topic("status"))[-1].value or b"").report
    assert report.groups["misaddressed"].keys() == {wrong.removeprefix("ws://")}


def test_one_upstream_named_twice_is_wrong_usage(config: KafkaConfig) -> None:
    relays = ["wss://relay.example", "https://Relay.example:443"]
    with (
        pytest.raises(ConfigError, match=r"of the same upstream \(relay\.example\)"),
        RunningBridge(config, relays) as bridge,
    ):
        bridge.wait_until(lambda: False, "its end")


class Rivals:
    """Two bridges of one pipeline as processes, in slots `one` and `two`."""

    def __init__(self, config: KafkaConfig, relays: Sequence[str]) -> None:
        self._config = config
        self._relays = relays
        self._stack = ExitStack()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, slot: str) -> None:
        process = bridge_process(self._config, self._relays, "--cursor=oldest", f"--slot={slot}")
        self.processes[slot] = self._stack.enter_context(process)

    def leader(self) -> str | None:
        """Whose last beat says that it works."""
        last = {}
        for message in read_committed(self._config, self._config.topic("status")):
            beat = parse_beat(message.value or b"")
            process = self.processes.get(beat.slot)
            if process is not None and process.pid == beat.pid and process.poll() is None:
                last[beat.slot] = beat.report.counters["leading"]
        leaders = [slot for slot, leading in last.items() if leading]
        return leaders[0] if len(leaders) == 1 else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


@pytest.mark.slow
def test_when_the_leader_is_killed_another_bridge_goes_on(
    config: KafkaConfig, frames: list[bytes]
) -> None:
    """Four kills in turn, over two relays: nothing lost, nothing twice. spec: F-28"""
    others = renumbered(frames)
    ends = [parse_envelope(frames[-1]).seq, parse_envelope(others[-1]).seq]
    with (
        relay_of(frames, rate=12) as one,
        relay_of(others, rate=12) as other,
        Rivals(config, [one.addresses.relay, other.addresses.relay]) as rivals,
    ):
        rivals.start("one")
        wait_until(lambda: count_in(config) > 0, "the first frames")
        for leader, stand_by in (("one", "two"), ("two", "one")) * 2:
            rivals.start(stand_by)
            wait_until(lambda: rivals.leader() == leader, f"{leader} to lead")  # noqa: B023
            count = count_in(config)
            wait_until(lambda: count_in(config) > count, "more frames")  # noqa: B023
            rivals.processes[leader].kill()
            rivals.processes[leader].wait(EXIT_TIMEOUT_S)
            wait_until(
                lambda: rivals.leader() == stand_by,  # noqa: B023
                f"{stand_by} to take over",
                TAKE_OVER_TIMEOUT_S,
            )
        wait_until(lambda: cursors_in(config, one, other) == ends, "both ends", 90)
        rivals.processes["one"].send_signal(signal.SIGTERM)
        assert rivals.processes["one"].wait(EXIT_TIMEOUT_S) == 0
    assert_each_once_in_order(config, frames)


@pytest.mark.slow
def test_a_leader_that_slept_stands_by_when_it_wakes(
    config: KafkaConfig, frames: list[bytes]
) -> None:
    """It has an open transaction and a full queue, and may write neither."""
    with relay_of(frames, rate=12) as relay, Rivals(config, [relay.addresses.relay]) as rivals:
        rivals.start("one")
        wait_until(lambda: rivals.leader() == "one" and count_in(config) > 0, "one to lead")
        rivals.start("two")
        sleeper = rivals.processes["one"]
        sleeper.send_signal(signal.SIGSTOP)
        try:
            count = count_in(config)
            wait_until(lambda: count_in(config) > count, "two to take over", TAKE_OVER_TIMEOUT_S)
        finally:
            sleeper.send_signal(signal.SIGCONT)
        wait_until(lambda: rivals.leader() == "two", "one to stand by", TAKE_OVER_TIMEOUT_S)
        end = parse_envelope(frames[-1]).seq
        wait_until(lambda: cursors_in(config, relay) == [end], "the end", 90)
        for process in rivals.processes.values():
            process.send_signal(signal.SIGTERM)
        exits = [process.wait(EXIT_TIMEOUT_S) for process in rivals.processes.values()]
        assert exits == [0, 0]
    assert_each_once_in_order(config, frames)
