"""`standpipe replay events --serve-jetstream`, read by clients that others wrote."""

import contextlib
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest
from support.jetstream import (
    account_event,
    collect,
    did_in,
    output_of,
    recorded_events,
    serving,
    subscribe,
    take,
    without_time,
)
from support.kafka import create_topic, delete_before, wait_until
from support.logs import captured_logs
from support.replay import consumed, run_replay
from support.served import PATIENCE_S
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from pipelines.config import KafkaConfig
from pipelines.errors import ConfigError
from pipelines.kafka.messages import OutputMessage
from pipelines.kafka.reading import readable_log_ends
from pipelines.kafka.transaction import Transaction, TransactionalProducer
from pipelines.serving import jetstream_reader, jetstream_server
from pipelines.serving.jetstream_events import encode_event
from pipelines.serving.jetstream_options import Wanted

pytestmark = pytest.mark.broker

PARTITIONS = 3
POST = "app.bsky.feed.post"


class Events:
    """Writes to `events` as explode does."""

    def __init__(self, config: KafkaConfig) -> None:
        self.config = config
        self.topic = create_topic(config, "events", PARTITIONS)
        name = config.transactional_id("explode", "test")
        self._producer = TransactionalProducer(config, name, lambda: False)
        self._producer.start()

    def write(self, *messages: OutputMessage, is_committed: bool = True) -> None:
        """Writes messages in one transaction."""

        def body(transaction: Transaction) -> None:
            for message in messages:
                transaction.produce(message)
            if not is_committed:
                raise _AbortedError

        try:
            self._producer.run(body)
        except _AbortedError:
            assert not is_committed
        # The marks that end a transaction are written a little after it is said to be committed.
        readable_log_ends(self.config, [(self.topic, number) for number in range(PARTITIONS)])

    def write_accounts(self, partition: int, times_us: Sequence[int]) -> list[int]:
        """Writes an event for each time of arrival in one transaction; returns the times."""
        did = did_in(partition, PARTITIONS)
        self.write(*(output_of(account_event(did, us), self.topic, PARTITIONS) for us in times_us))
        return list(times_us)


class _AbortedError(Exception):
    """A transaction is to be given up."""


@pytest.fixture
def events(kafka: str, topic_prefix: str) -> Events:
    return Events(KafkaConfig(kafka, topic_prefix))


class Filled(NamedTuple):
    """A server of a deployment that has the events of a recorded network."""

    config: KafkaConfig
    address: str
    messages: Sequence[Any]


def now_us() -> int:
    return time.time_ns() // 1_000


def later_us() -> int:
    """Returns a time that is later, in milliseconds, than all marks that are written."""
    marked_ms = now_us() // 1000
    wait_until(lambda: now_us() // 1000 > marked_ms, "the next millisecond")
    return now_us()


@pytest.fixture(scope="module")
def filled(
    kafka: str, capture_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Filled]:
    config = KafkaConfig(kafka, f"test-{tmp_path_factory.mktemp('jetstream').name}")
    events = Events(config)
    found = fill(events, capture_folder)
    with serving(config) as address:
        yield Filled(config, address, found)


def fill(events: Events, folder: Path) -> list[Any]:
    """Writes the events of a recording, some at a time; returns what has to be sent for them."""
    outputs = recorded_events(folder, now_us() - 3_600_000_000)
    placed = [
        output_of(json.loads(output.value or b""), events.topic, PARTITIONS) for output in outputs
    ]
    for start in range(0, len(placed), 20):
        events.write(*placed[start : start + 5], is_committed=False)
        events.write(*placed[start : start + 20])
    return [
        json.loads(text)
        for offset, one in enumerate(placed)
        for text in encode_event(consumed(one, offset), Wanted())
    ]


def times(messages: Sequence[Any]) -> list[int]:
    return [message["time_us"] for message in messages]


def closing(socket: Any) -> tuple[int | None, str]:
    """Reads a socket to its end; returns code and reason."""
    while True:
        try:
            socket.recv(PATIENCE_S)
        except ConnectionClosed as closed:
            return (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (None, "")


@pytest.mark.shared
def test_real_frames_come_as_production_sent_them(events: Events, shared_data: Path) -> None:
    folder = shared_data / "network-frames"
    fill(events, folder)
    lines = (folder / "expected_jetstream_v1.jsonl").read_bytes().splitlines()
    with serving(events.config) as address:
        found = collect(address, len(lines), cursor=0)
    assert [without_time(one) for one in found] == [
        without_time(json.loads(line)) for line in lines
    ]
    assert times(found) == sorted(times(found))


def test_everything_that_is_kept_comes_in_order_and_each_time_the_same(filled: Filled) -> None:
    assert {one["kind"] for one in filled.messages} == {"commit", "identity", "account"}
    first = collect(filled.address, len(filled.messages), cursor=0)
    assert first == list(filled.messages)
    with serving(filled.config) as another:
        assert collect(another, len(first), cursor=0) == first


def test_a_subscriber_gets_what_it_wants(filled: Filled) -> None:
    did = next(one["did"] for one in filled.messages if one["kind"] == "commit")
    for query, takes in (
        ({"wantedCollections": [POST]}, lambda one: of(one, POST)),
        ({"wantedCollections": ["app.bsky.graph.*"]}, lambda one: of(one, "app.bsky.graph.")),
        ({"wantedDids": [did]}, lambda one: one["did"] == did),
    ):
        wanted = [one for one in filled.messages if takes(one)]
        assert 0 < len(wanted) < len(filled.messages)
        assert collect(filled.address, len(wanted), cursor=0, **query) == wanted


def of(message: Any, beginning: str) -> bool:
    """Tells whether a message is sent to who wants these collections."""
    collection: str = message.get("commit", {}).get("collection", beginning)
    return collection.startswith(beginning)


def test_nothing_comes_before_the_hello_which_may_be_changed(filled: Filled) -> None:
    payload = {"wantedCollections": [POST], "wantedDids": [], "maxMessageSizeBytes": 0}
    posts = [one for one in filled.messages if of(one, POST)]
    with subscribe(filled.address, cursor=0, requireHello="true") as socket:
        socket.send(json.dumps({"type": "unknown"}))
        socket.send(json.dumps({"type": "options_update", "payload": payload}))
        assert take(socket, len(posts)) == posts


def test_an_update_holds_for_what_comes_from_then_on(events: Events) -> None:
    first, second = (did_in(0, PARTITIONS, number) for number in range(2))
    with serving(events.config) as address, subscribe(address, wantedDids=[first]) as socket:
        events.write(
            *(
                output_of(account_event(did, now_us()), events.topic, PARTITIONS)
                for did in (second, first)
            )
        )
        assert take(socket, 1)[0]["did"] == first
        payload = {"wantedDids": [second]}
        socket.send(json.dumps({"type": "options_update", "payload": payload}))
        # Whoever answers a ping has read what was sent before it.
        assert socket.ping().wait(PATIENCE_S)
        events.write(
            *(
                output_of(account_event(did, now_us()), events.topic, PARTITIONS)
                for did in (first, second)
            )
        )
        assert take(socket, 1)[0]["did"] == second


def test_without_a_cursor_only_what_is_new_comes(events: Events) -> None:
    events.write_accounts(0, [now_us()])
    with serving(events.config) as address:
        for query in ({}, {"cursor": now_us() + 3_600_000_000}):
            with subscribe(address, **query) as socket:
                written = events.write_accounts(1, [now_us()])
                assert times(take(socket, 1)) == written


@pytest.mark.parametrize("count", [3, 150])
def test_what_is_written_late_is_not_missed_with_a_cursor(
    events: Events, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    # On one machine the clocks agree; with the overlap the case would not be told apart.
    monkeypatch.setattr(jetstream_reader, "OVERLAP_MS", 0)
    with serving(events.config) as address:
        events.write_accounts(1, [now_us() - 7_200_000_000])
        seen = events.write_accounts(0, [later_us()])
        assert times(collect(address, 2, cursor=0))[-1:] == seen
        # A worker that was down writes what arrived an hour ago.
        hour_ago_us = now_us() - 3_600_000_000
        late = events.write_accounts(1, [hour_ago_us + number for number in range(count)])
        again = collect(address, count + 1, cursor=seen[0])
        assert times(again) == late + seen
    # Another server says the same.
    with serving(events.config) as address:
        assert collect(address, count + 1, cursor=seen[0]) == again


def test_what_came_before_a_cursor_is_not_sent_again(
    events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jetstream_reader, "OVERLAP_MS", 0)
    written: list[int] = []
    for _ in range(3):
        first_us = later_us()
        written += events.write_accounts(2, [first_us, first_us + 7])
    with serving(events.config) as address:
        assert times(collect(address, 6, cursor=0)) == written
        assert times(collect(address, 4, cursor=written[3])) == written[2:]
        assert times(collect(address, 2, cursor=written[4])) == written[4:]


def test_a_cursor_from_before_what_is_kept_begins_with_the_oldest(events: Events) -> None:
    oldest_us = now_us() - 3_600_000_000
    for number in range(3):
        events.write_accounts(0, [oldest_us + number])
    delete_before(events.config, events.topic, {0: 2})
    with serving(events.config) as address:
        assert times(collect(address, 2, cursor=oldest_us)) == [oldest_us + 1, oldest_us + 2]


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ({"cursor": "x"}, "cursor is not a time in microseconds since 1970"),
        ({"wantedCollections": ["posts"]}, "NSID"),
        ({"compress": "true"}, "not offered: leave out compress=true"),
    ],
)
def test_what_cannot_be_understood_is_refused_in_the_answer(
    filled: Filled, query: dict[str, Any], text: str
) -> None:
    with pytest.raises(InvalidStatus) as caught, subscribe(filled.address, **query):
        pass
    assert caught.value.response.status_code == 400
    assert text in (caught.value.response.body or b"").decode()


def test_an_update_that_cannot_be_understood_ends_the_connection(filled: Filled) -> None:
    with subscribe(filled.address) as socket:
        socket.send('{"type": "options_update", "payload": {"wantedDids": ["bob"]}}')
        code, reason = closing(socket)
    assert code == 1008
    assert "DID" in reason


def test_there_is_room_for_so_many_and_again_once_one_leaves(
    filled: Filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jetstream_server, "MAX_SUBSCRIBERS", 2)
    with subscribe(filled.address), subscribe(filled.address):
        with pytest.raises(InvalidStatus) as caught, subscribe(filled.address):
            pass
        assert caught.value.response.status_code == 503

    def is_let_in() -> bool:
        try:
            with subscribe(filled.address):
                return True
        except InvalidStatus:
            return False

    wait_until(is_let_in, "room for a subscriber")


def test_who_does_not_read_is_let_go_and_holds_up_nobody(
    events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jetstream_server, "SEND_TIMEOUT_S", 0.5)
    did = did_in(0, PARTITIONS)
    for _ in range(8):  # more than the buffers of both ends take
        large = account_event(did, now_us()) | {"status": "x" * 500_000}
        events.write(*(output_of(large, events.topic, PARTITIONS) for _ in range(8)))

    with (
        captured_logs("jetstream") as log,
        serving(events.config) as address,
        connect(f"{address}?cursor=0", max_size=None, compression=None) as idle,
    ):
        assert len(collect(address, 64, cursor=0)) == 64
        wait_until(lambda: log.has("dismissed"), "a subscriber that is dismissed")
        assert "too slow" in log.last("dismissed")["reason"]
        # The closing frame found no room: nobody reads, and it is cut.
        assert closing(idle)[0] in {None, 1008}


def test_a_server_that_stops_says_so(events: Events) -> None:
    with contextlib.ExitStack() as stack:
        with serving(events.config) as address:
            socket = stack.enter_context(subscribe(address))
        assert closing(socket) == (1001, "the server stops: come again with your cursor")


def test_a_topic_that_is_missing_and_a_port_that_is_taken_are_told(
    kafka: str, topic_prefix: str, filled: Filled
) -> None:
    with (
        pytest.raises(ConfigError, match="standpipe topics apply"),
        serving(KafkaConfig(kafka, topic_prefix)),
    ):
        pass
    port = int(filled.address.rpartition(":")[2].partition("/")[0])
    with pytest.raises(ConfigError, match="choose another port"), serving(filled.config, port):
        pass


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("frames",), "is for the topic events alone"),
        (("events", "--since", "1h", "--follow"), "leaves out --since, --follow"),
    ],
)
def test_other_options_do_not_go_with_it(
    filled: Filled, arguments: tuple[str, ...], text: str
) -> None:
    with pytest.raises(click.UsageError, match=text):
        run_replay(filled.config, *arguments, "--serve-jetstream", "0")


def test_the_command_says_where_it_listens_and_ends_with_ctrl_c(filled: Filled) -> None:
    with started(filled.config) as address:
        assert collect(address, 5, cursor=0) == list(filled.messages[:5])


class started:  # noqa: N801 - used like a function
    """The command as a process of its own."""

    def __init__(self, config: KafkaConfig) -> None:
        self._arguments = [
            *(sys.executable, "-c", "from pipelines.cli import main; main()"),
            *("replay", "events", "--serve-jetstream", "0"),
            *("--bootstrap-servers", config.bootstrap_servers),
            *("--topic-prefix", config.topic_prefix),
        ]

    def __enter__(self) -> str:
        self._process = subprocess.Popen(self._arguments, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert re.fullmatch(r"ws://127\.0\.0\.1:\d+/subscribe\n", line)
        return line.strip()

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGINT)
        self._process.communicate(timeout=PATIENCE_S)
        assert self._process.returncode == 0


_SKYWARE = "@skyware/jetstream@0.2.5"
_READ = """
import { Jetstream } from "@skyware/jetstream";
import WebSocket from "ws";

const [endpoint, count] = process.argv.slice(2);
const jetstream = new Jetstream({ endpoint, cursor: "1", ws: WebSocket });
let left = Number(count);
for (const kind of ["commit", "identity", "account"]) {
  jetstream.on(kind, (event) => {
    console.log(JSON.stringify(event));
    if (--left === 0) process.exit(0);
  });
}
jetstream.on("error", (error) => { console.error(error); process.exit(1); });
jetstream.start();
"""


@pytest.mark.slow
def test_the_client_of_skyware_reads_it(filled: Filled, tmp_path: Path) -> None:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("needs node and npm")
    install = [npm, "install", "--no-audit", "--no-fund", "--prefix", str(tmp_path)]
    done = subprocess.run(
        [*install, _SKYWARE, "ws@8"], check=False, capture_output=True, text=True
    )
    if done.returncode != 0:
        pytest.skip(f"npm does not give {_SKYWARE}: {done.stderr[-200:]}")
    script = tmp_path / "read.mjs"
    script.write_text(_READ)
    # It passes over a creation whose record is not there.
    expected = [
        one
        for one in filled.messages
        if "record" in one.get("commit", {"record": 0}) or one["commit"]["operation"] != "create"
    ]
    command = [node, str(script), filled.address, str(len(expected))]
    read = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=PATIENCE_S, cwd=tmp_path
    )
    assert read.returncode == 0, read.stderr
    assert [json.loads(line) for line in read.stdout.split("\n")[:-1]] == expected
