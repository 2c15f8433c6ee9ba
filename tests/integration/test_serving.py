"""`standpipe replay frames --serve`: the stream out of real topics, read by others' clients."""

import re
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import click
import pytest
from conftest import free_port
from support.kafka import delete_before, wait_until
from support.logs import captured_logs
from support.replay import (
    FIRST_MS,
    OTHER,
    RELAY,
    FrameWriter,
    Sent,
    create_bridge_topics,
    recorded_frames,
    run_replay,
)
from support.served import (
    PATIENCE_S,
    collect,
    made_frames,
    read_foreign_stream,
    served,
    subscribe,
    take,
)
from websockets.exceptions import ConnectionClosed, InvalidStatus

from pipelines.config import KafkaConfig
from pipelines.errors import BrokerUnavailableError, ConfigError
from pipelines.kafka import broker
from pipelines.kafka.partition import partition_for
from pipelines.replay.planning import Request
from pipelines.replay.window import Window
from pipelines.serving import frames_server
from pipelines.serving.frames_reader import Reader
from pipelines.serving.frames_server import Limits
from pipelines.serving.ring import Batch
from pipelines.subscriptions import (
    CONSUMER_TOO_SLOW,
    FUTURE_CURSOR,
    OUTDATED_CURSOR,
    refusal_frame,
)

pytestmark = pytest.mark.broker

PARTITIONS = 3


class Filled(NamedTuple):
    """Topics, what two upstreams brought, and where one of them is served."""

    config: KafkaConfig
    sent: list[Sent]
    url: str

    @property
    def relay(self) -> list[Sent]:
        return [one for one in self.sent if one.host == RELAY]


@pytest.fixture(scope="module")
def filled(kafka: str, capture_folder: Path) -> Iterator[Filled]:
    config = KafkaConfig(kafka, f"test-{uuid.uuid4().hex[:12]}")
    create_bridge_topics(config, PARTITIONS)
    sent = recorded_frames(capture_folder)
    FrameWriter(config, PARTITIONS).write_all(sent, 7)
    with served(config, limits=Limits(behind_s=1.0)) as url:
        yield Filled(config, sent, url)


@pytest.fixture
def writer(kafka: str, topic_prefix: str) -> tuple[KafkaConfig, FrameWriter]:
    """Topics of a test's own, and what writes into them."""
    config = KafkaConfig(kafka, topic_prefix)
    create_bridge_topics(config, PARTITIONS)
    return config, FrameWriter(config, PARTITIONS)


def frames_of(sent: list[Sent]) -> list[bytes]:
    return [one.frame for one in sent]


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def test_a_foreign_client_gets_every_frame_byte_for_byte(filled: Filled) -> None:
    expected = frames_of(filled.relay)
    assert read_foreign_stream(filled.url, len(expected), 0) == expected


def test_a_cursor_is_the_last_number_that_one_has(filled: Filled) -> None:
    for index in (0, 1, 50, len(filled.relay) - 2):
        rest = frames_of(filled.relay[index + 1 :])
        assert collect(filled.url, len(rest), filled.relay[index].seq) == rest
    before = filled.relay[0].seq - 1
    assert collect(filled.url, 1, before) == [filled.relay[0].frame]


def test_a_cursor_from_before_everything_is_outdated(filled: Filled) -> None:
    expected = [OUTDATED_CURSOR, *frames_of(filled.relay)]
    assert collect(filled.url, len(expected), filled.relay[0].seq - 2) == expected


def test_a_cursor_from_the_future_is_refused(filled: Filled) -> None:
    with subscribe(filled.url, filled.relay[-1].seq + 1) as socket:
        assert take(socket, 1) == [refusal_frame(FUTURE_CURSOR)]
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(PATIENCE_S)
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, FUTURE_CURSOR)


def test_a_cursor_that_is_no_number_is_a_bad_request(filled: Filled) -> None:
    with pytest.raises(InvalidStatus) as refused:
        subscribe(filled.url + "?cursor=new")
    assert refused.value.response.status_code == 400


def test_whoever_comes_while_kafka_does_not_answer_is_told_to_come_again(filled: Filled) -> None:
    away = mock.Mock(side_effect=BrokerUnavailableError("away"))
    with (
        mock.patch.object(frames_server, "frame_starts", away),
        pytest.raises(InvalidStatus) as refused,
    ):
        subscribe(filled.url, 0)
    assert refused.value.response.status_code == 503
    assert collect(filled.url, 1, 0) == [filled.relay[0].frame]


def test_there_is_a_limit_to_subscribers(filled: Filled) -> None:
    with (
        mock.patch.object(frames_server, "MAX_SUBSCRIBERS", 0),
        pytest.raises(InvalidStatus) as refused,
    ):
        subscribe(filled.url, 0)
    assert refused.value.response.status_code == 503


def test_readers_that_break_again_and_again_lose_and_repeat_nothing(
    writer: tuple[KafkaConfig, FrameWriter],
) -> None:
    config, into = writer
    sent = made_frames(1, 60, now_ms())
    into.write(sent[:30])
    broken = mock.patch.object(frames_server, "Reader", _Breaking)
    soon = mock.patch.object(frames_server, "_RETRY_S", 0.0)
    with broken, soon, served(config, limits=Limits(ring_bytes=1)) as url, subscribe(url) as live:
        for at in range(30, 60, 3):
            into.write(sent[at : at + 3])
        assert collect(url, 60, 0) == frames_of(list(sent))
        assert take(live, 30) == frames_of(list(sent[30:]))


class _Breaking(Reader):
    """A reader for which the broker is away whenever it has read something."""

    _is_due = False

    def read(self) -> list[Batch]:
        if self._is_due:
            raise BrokerUnavailableError("away")
        batches = super().read()[:1]
        self._is_due = bool(batches)
        return batches


def test_what_was_deleted_is_outdated_and_the_rest_comes(
    writer: tuple[KafkaConfig, FrameWriter],
) -> None:
    config, into = writer
    sent = made_frames(1, 12, now_ms())
    for one in sent:
        into.write([one])
    where = partition_for(sent[0].entry.did, PARTITIONS)
    delete_before(config, config.topic("frames"), {where: 1})
    with served(config) as url:
        rest = frames_of(list(sent[1:]))
        assert collect(url, 11, 0) == rest
        assert collect(url, 11, 1) == rest
        assert collect(url, 1, sent[-2].seq) == rest[-1:]
        # It goes on being deleted while it is served.
        delete_before(config, config.topic("frames"), {where: 3})
        assert collect(url, 1, 3) == [OUTDATED_CURSOR]


@pytest.mark.parametrize("ring_bytes", [1, 64 * 1024 * 1024], ids=["smallest-ring", "usual-ring"])
def test_each_subscriber_gets_each_frame_once_while_more_is_written(
    writer: tuple[KafkaConfig, FrameWriter], ring_bytes: int
) -> None:
    config, into = writer
    sent = made_frames(1, 900, now_ms())
    into.write(sent[:100])
    got: dict[int, list[bytes]] = {}

    def read(number: int, cursor: int) -> None:
        expected_count = len(sent) - cursor
        got[number] = collect(url, expected_count, cursor)

    with served(config, limits=Limits(ring_bytes=ring_bytes)) as url, subscribe(url) as live:
        cursors = [0, 0, 50, 99]
        readers = [
            threading.Thread(target=read, args=(number, cursor))
            for number, cursor in enumerate(cursors)
        ]
        for reader in readers:
            reader.start()
        for at in range(100, len(sent), 10):
            if at % 50 == 0:
                into.write(sent[at : at + 10], is_committed=False)
            into.write(sent[at : at + 10])
        for reader in readers:
            reader.join(PATIENCE_S)
        assert take(live, 800) == frames_of(list(sent[100:]))
    assert got == {number: frames_of(list(sent[cursor:])) for number, cursor in enumerate(cursors)}


def test_a_reader_that_stops_reading_is_let_go_and_others_are_not_disturbed(
    writer: tuple[KafkaConfig, FrameWriter],
) -> None:
    config, into = writer
    # More than the buffers of both ends of a socket hold.
    sent = made_frames(1, 48, now_ms(), size_bytes=1_000_000)
    for at in range(0, len(sent), 4):
        into.write(sent[at : at + 4])
    limits = Limits(ring_bytes=8_000_000, send_timeout_s=1.0, farewell_s=PATIENCE_S)
    with (
        captured_logs("serve") as log,
        served(config, limits=limits) as url,
        subscribe(url, 0, max_queue=1) as stalled,
    ):
        assert collect(url, len(sent), 0) == frames_of(list(sent))
        wait_until(lambda: log.has("too_slow"), "the reader is found to be slow")
        assert collect(url, len(sent), 0) == frames_of(list(sent))
        # It finds what was on its way, in order, and behind it why that is all.
        received: list[bytes] = []
        with pytest.raises(ConnectionClosed) as closed:
            received.extend(iter(lambda: take(stalled, 1)[0], b""))
    assert received[-1] == refusal_frame(CONSUMER_TOO_SLOW)
    assert received[:-1] == frames_of(list(sent[: len(received) - 1]))
    assert 0 < len(received) - 1 < len(sent)
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, CONSUMER_TOO_SLOW)


def test_of_an_upstream_that_began_anew_the_latest_numbers_count(
    writer: tuple[KafkaConfig, FrameWriter],
) -> None:
    config, into = writer
    first, second = made_frames(1, 30, now_ms()), made_frames(1, 10, now_ms(), size_bytes=99)
    for sent in (first, second):
        for at in range(0, len(sent), 5):
            into.write(sent[at : at + 5])
    with served(config) as url:
        assert collect(url, 40, 0) == frames_of([*first, *second])
        assert collect(url, 4, 6) == frames_of(list(second[6:]))
        assert collect(url, 20, 20) == frames_of([*first[20:], *second])
        # A live subscriber sees it begin anew once more.
        with subscribe(url, 10) as socket:
            third = made_frames(1, 5, now_ms(), size_bytes=98)
            into.write(third)
            assert take(socket, 5) == frames_of(list(third))


def test_a_window_ends_what_is_served(filled: Filled) -> None:
    relay = filled.relay
    row = Request(("frames",), host=RELAY, first_seq=relay[40].seq, last_seq=relay[90].seq)
    with served(filled.config, row) as url, subscribe(url, 0) as socket:
        assert take(socket, 51) == frames_of(relay[40:91])
        # Nothing follows, and the connection stays.
        socket.ping().wait(PATIENCE_S)
        with pytest.raises(TimeoutError):
            socket.recv(0)
    bounds = Window(since_ms=FIRST_MS + 50_000, until_ms=FIRST_MS + 90_000, late_ms=43_200_000)
    with served(filled.config, Request(("frames",), bounds, host=OTHER)) as url:
        expected = frames_of([one for one in filled.sent[50:90] if one.host == OTHER])
        assert collect(url, len(expected), 0) == expected


def test_the_upstream_has_to_be_named_where_there_are_several(filled: Filled) -> None:
    with pytest.raises(
        ConfigError, match=re.escape(f"has {OTHER}, {RELAY}: say which with --host")
    ):
        run_replay(filled.config, "frames", "--serve", "0")
    with pytest.raises(ConfigError, match=r"no upstream else\.example in this window; it has"):
        run_replay(filled.config, "frames", "--host", "else.example", "--serve", "0")


def test_a_port_that_is_taken_is_said(filled: Filled) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=re.escape(f"cannot listen on 127.0.0.1:{port}")):
            run_replay(filled.config, "frames", "--host", RELAY, "--serve", str(port))


@pytest.mark.parametrize(
    "arguments",
    [
        ("frames", "--to-topic", "x"),
        ("frames", "--to-file", "x.frames"),
        ("frames", "--to-parquet", "x"),
        ("frames", "--speed", "2"),
        ("frames", "--reverify"),
        ("frames", "--follow"),
        ("frames", "--again"),
        ("events",),
    ],
    ids=lambda arguments: arguments[-1],
)
def test_what_makes_no_sense_together_is_refused(arguments: tuple[str, ...]) -> None:
    with pytest.raises(click.UsageError, match=r"--serve (leaves out --|is for the topic frames)"):
        run_replay(KafkaConfig("localhost:1", "none"), *arguments, "--serve", "0")


def test_ctrl_c_says_goodbye(filled: Filled) -> None:
    config = filled.config
    arguments = ["--bootstrap-servers", config.bootstrap_servers]
    arguments += ["--topic-prefix", config.topic_prefix, "--host", RELAY, "--serve", "0"]
    program = [sys.executable, "-c", "from pipelines.cli import main; main()"]
    with subprocess.Popen(
        [*program, "replay", "frames", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        with subscribe(url, 0) as client:
            assert take(client, len(filled.relay)) == frames_of(filled.relay)
            process.send_signal(signal.SIGINT)
            with pytest.raises(ConnectionClosed) as closed:
                client.recv(PATIENCE_S)
        _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, errors
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1001
    assert "Traceback" not in errors


def test_subscribers_stay_while_the_broker_is_away(tmp_path: Path) -> None:
    local = broker.LocalBroker(
        directory=tmp_path / "kafka", port=free_port(), controller_port=free_port()
    )
    local.start()
    try:
        config = KafkaConfig(local.bootstrap_servers, "outage")
        create_bridge_topics(config, PARTITIONS)
        into = FrameWriter(config, PARTITIONS)
        sent = made_frames(1, 40, now_ms())
        into.write(sent[:20])
        # With no room in the ring, both kinds of readers go through it.
        with served(config, limits=Limits(ring_bytes=1)) as url, subscribe(url, 0) as client:
            assert take(client, 20) == frames_of(list(sent[:20]))
            local.stop()
            local.start()
            FrameWriter(config, PARTITIONS).write(sent[20:])
            assert take(client, 20) == frames_of(list(sent[20:]))
            assert collect(url, 15, 25) == frames_of(list(sent[25:]))
    finally:
        local.stop()
