"""The bridge's reader against upstreams that behave as a script says, over real sockets."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from aiohttp import WSCloseCode, WSMsgType, web
from support import wire

from pipelines.bridge import reader as reader_module
from pipelines.bridge import socket as socket_module
from pipelines.bridge.backoff import Backoff, Pause
from pipelines.bridge.gaps import Continuity, Gap, GapReason, Place
from pipelines.bridge.handover import HANDOVER_BYTES, Handover
from pipelines.bridge.intake import UNDECODABLE_IN_ROW_LIMIT, Entry, Intake, Publish, Quarantine
from pipelines.bridge.progress import Received
from pipelines.bridge.reader import LOGGED_NOTICES_COUNT, Reader
from pipelines.bridge.upstream import Origin
from pipelines.captures import MAX_MESSAGE_BYTES
from pipelines.relay import SUBSCRIBE_PATH
from pipelines.subscriptions import error_frame, info_frame

DEADLINE_S = 20.0
POLL_S = 0.01
NOW_US = 1_790_000_000_000_000
MIB = 1024 * 1024


def identity(seq: int, *, fill: int = 0) -> bytes:
    payload = {"did": "did:web:a.example", "seq": seq, "time": wire.START_TIME}
    return wire.frame("#identity", payload | {"fill": bytes(fill)})


def at_second(seq: int, second: int) -> bytes:
    """An event that happened so many seconds after the year began."""
    time = f"2026-01-01T00:{second // 60:02}:{second % 60:02}Z"
    return wire.frame("#identity", {"did": "did:web:a.example", "seq": seq, "time": time})


class Text(bytes):
    """A message that is sent as text."""


@dataclass
class Connection:
    """What a script does with one connection, which then stays open, or is closed.

    Attributes:
        messages: what it sends.
        closes: whether it closes the connection after them.
        status: the HTTP status with which it refuses the connection, if it does.
        headers: of that refusal.
        answers_pings: whether it does.
    """

    messages: Sequence[bytes] = ()
    closes: bool = False
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    answers_pings: bool = True


class ScriptedRelay:
    """An upstream that treats its connections, one after another, as a script says.

    Attributes:
        cursors: the cursor of each connection, as it was asked for.
        sent_count: messages sent on all connections.
    """

    def __init__(self, *script: Connection) -> None:
        self._script = script
        self.cursors: list[str | None] = []
        self.sent_count = 0

    async def serve(self, request: web.Request) -> web.StreamResponse:
        connection = self._script[min(len(self.cursors), len(self._script) - 1)]
        self.cursors.append(request.query.get("cursor"))
        if connection.status is not None:
            return web.Response(status=connection.status, headers=connection.headers)
        socket = web.WebSocketResponse(autoping=connection.answers_pings, timeout=0.1)
        await socket.prepare(request)
        reading = asyncio.create_task(_read_all(socket))
        for message in connection.messages:
            kind = WSMsgType.TEXT if isinstance(message, Text) else WSMsgType.BINARY
            await socket.send_frame(message, kind)
            self.sent_count += 1
        if connection.closes:
            await socket.close(code=WSCloseCode.GOING_AWAY)
        await reading
        return socket


async def _read_all(socket: web.WebSocketResponse) -> None:
    async for _ in socket:
        pass


class ImpatientBackoff(Backoff):
    """Waits for nothing, and remembers what it was asked.

    Attributes:
        asked: the kind of each wait, and what the upstream asked for.
    """

    def __init__(self) -> None:
        super().__init__(lambda: 0.0)
        self.asked: list[tuple[Pause, float | None]] = []

    def next_pause_s(
        self, pause: Pause, *, connected_s: float, retry_after_s: float | None = None
    ) -> float:
        assert connected_s >= 0
        self.asked.append((pause, retry_after_s))
        return 0.0


class Story:
    """A reader at a scripted upstream."""

    def __init__(
        self,
        *script: Connection,
        cursor: int | None = None,
        is_proven: bool = True,
        start_us: int | None = None,
    ) -> None:
        self.relay = ScriptedRelay(*script)
        self.backoff = ImpatientBackoff()
        self.handover = Handover()
        last = None if cursor is None else Place(cursor, wire.START_TIME)
        self.intake = Intake(cursor, Continuity(last))
        self.start_us = start_us
        self.is_proven = is_proven
        self.received = Received()
        self.taken: list[Entry] = []
        self.reader: Reader | None = None

    @property
    def seqs(self) -> list[int]:
        """The numbers of the frames handed over."""
        return [entry.seq for entry in self.taken if isinstance(entry, Publish)]

    @property
    def quarantined(self) -> list[bytes]:
        return [entry.message for entry in self.taken if isinstance(entry, Quarantine)]

    def tell(self, until: Callable[[], bool]) -> None:
        """Runs the reader until a condition holds, taking what it hands over."""
        asyncio.run(self._tell(until))

    async def _tell(self, until: Callable[[], bool]) -> None:
        async with self.running() as reading:
            async with asyncio.timeout(DEADLINE_S):
                while not until() and not reading.done():
                    await asyncio.sleep(POLL_S)
                    self.take()

    def take(self) -> None:
        if self.handover.entries_count > 0:
            self.taken += [handed.entry for handed in self.handover.take()]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Task[None]]:
        app = web.Application()
        app.router.add_get(SUBSCRIBE_PATH, self.relay.serve)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.reader = Reader(
                f"ws://127.0.0.1:{runner.addresses[0][1]}",
                Origin("a.example", 1),
                self.intake,
                self.handover,
                self.backoff,
                is_proven=self.is_proven,
                clock_us=lambda: NOW_US,
                received=self.received,
                start_us=self.start_us,
            )
            reading = asyncio.create_task(self.reader.run())
            try:
                yield reading
            finally:
                reading.cancel()
                (outcome,) = await asyncio.gather(reading, return_exceptions=True)
            if isinstance(outcome, Exception):
                raise outcome
        finally:
            await runner.cleanup()


@pytest.fixture
def events() -> Iterator[list[str]]:
    """The events that the bridge logs, as they come."""
    found: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record.getMessage())

    logger = logging.getLogger("standpipe.bridge")
    collector, level = Collector(), logger.level
    logger.addHandler(collector)
    logger.setLevel(logging.INFO)
    yield found
    logger.removeHandler(collector)
    logger.setLevel(level)


def test_each_connection_continues_after_the_last_frame() -> None:
    """spec: F-22, F-23: a first start without cursor, then after what was taken in."""
    story = Story(
        Connection([identity(3), identity(7)], closes=True),
        Connection([identity(7), identity(9)], closes=True),
        Connection([identity(10)]),
    )
    story.tell(until=lambda: len(story.seqs) == 4)
    assert story.seqs == [3, 7, 9, 10]
    assert story.relay.cursors == [None, "7", "9"]
    assert story.backoff.asked == [(Pause.BACK_OFF, None)] * 2
    assert story.reader is not None
    assert story.reader.received.resent_count == 1


@pytest.mark.parametrize("cursor", [0, 17])
def test_a_given_cursor_is_asked_for(cursor: int) -> None:
    """spec: F-23, F-26"""
    story = Story(Connection([identity(18)]), cursor=cursor)
    story.tell(until=lambda: bool(story.seqs))
    assert story.relay.cursors == [str(cursor)]


def test_a_frame_keeps_its_bytes_and_the_time_it_was_received() -> None:
    frame = identity(1)
    story = Story(Connection([frame]))
    story.tell(until=lambda: bool(story.taken))
    (entry,) = story.taken
    assert isinstance(entry, Publish)
    assert (entry.frame, entry.received_us) == (frame, NOW_US)


def test_an_upstream_that_finds_us_slow_is_asked_again_at_once() -> None:
    """spec: F-27"""
    story = Story(
        Connection([identity(1), error_frame("ConsumerTooSlow", "")]), Connection([identity(2)])
    )
    story.tell(until=lambda: len(story.seqs) == 2)
    assert story.backoff.asked == [(Pause.AT_ONCE, None)]
    assert story.relay.cursors == [None, "1"]


def test_but_not_at_once_when_it_sent_nothing_new() -> None:
    story = Story(Connection([error_frame("ConsumerTooSlow", "")]), Connection([identity(2)]))
    story.tell(until=lambda: len(story.seqs) == 1)
    assert story.backoff.asked == [(Pause.BACK_OFF, None)]


def test_a_cursor_in_the_future_is_kept_and_tried_again_much_later(events: list[str]) -> None:
    """spec: F-25"""
    story = Story(Connection([error_frame("FutureCursor", "")]), cursor=17)
    story.tell(until=lambda: len(story.relay.cursors) >= 2)
    assert set(story.backoff.asked) == {(Pause.LONG, None)}
    assert set(story.relay.cursors) == {"17"}
    assert "cursor_in_future" in events


def test_what_an_upstream_says_about_itself_does_not_fill_the_log(events: list[str]) -> None:
    words = [info_frame("Word", f"{number}") for number in range(10 * LOGGED_NOTICES_COUNT)]
    story = Story(
        Connection([*words, identity(1)], closes=True), Connection([*words, identity(2)])
    )
    story.tell(until=lambda: len(story.seqs) == 2)
    assert events.count("upstream_info") == 2 * LOGGED_NOTICES_COUNT


def test_any_other_error_frame_ends_the_connection() -> None:
    """spec: F-14"""
    story = Story(
        Connection([error_frame("Whatever", "no reason"), identity(1)]), Connection([identity(2)])
    )
    story.tell(until=lambda: bool(story.seqs))
    assert story.seqs == [2]
    assert story.backoff.asked == [(Pause.BACK_OFF, None)]


def test_an_outdated_cursor_is_a_gap_and_the_connection_goes_on() -> None:
    """spec: F-24"""
    outdated = Connection([info_frame("OutdatedCursor", ""), identity(90), identity(91)])
    story = Story(outdated, cursor=17)
    story.tell(until=lambda: len(story.seqs) == 2)
    gaps = [entry.gap for entry in story.taken if isinstance(entry, Publish)]
    assert gaps == [Gap(GapReason.OUTDATED_CURSOR, Place(17, wire.START_TIME)), None]
    assert len(story.relay.cursors) == 1


def test_a_start_at_a_moment_asks_until_it_knows_the_cursor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The relay is away first, says something else first, and has nothing at some numbers."""
    monkeypatch.setattr(socket_module, "FIRST_EVENT_TIMEOUT_S", 0.1)
    story = Story(
        Connection(status=503),
        Connection([info_frame("Hello", ""), b"garbage", at_second(100, 0)]),
        Connection([at_second(104, 200)]),
        Connection([at_second(120, 500)]),
        Connection([error_frame("FutureCursor", "")], closes=True),
        Connection([at_second(170, 1_000)]),
        Connection(),
        Connection([at_second(131, 650)]),
        Connection([at_second(132, 1_000)]),
        start_us=wire.START_US + 720 * 1_000_000,
    )
    story.tell(until=lambda: bool(story.seqs))
    assert story.relay.cursors == ["0", "0", "104", "120", "184", "152", "136", "128", "131"]


def test_frames_that_are_behind_the_cursor_for_long_are_reported_once(
    events: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "RESENT_WARNING_COUNT", 3)
    story = Story(Connection([*map(identity, range(1, 8)), identity(18)]), cursor=17)
    story.tell(until=lambda: bool(story.seqs))
    assert events.count("sequence_behind_cursor") == 1


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_an_upstream_in_trouble_is_tried_again_when_it_wants(status: int) -> None:
    """spec: F-02"""
    refusal = Connection(status=status, headers={"Retry-After": "7"})
    story = Story(refusal, Connection([identity(1)]), is_proven=False)
    story.tell(until=lambda: bool(story.seqs))
    assert story.backoff.asked == [(Pause.BACK_OFF, 7.0)]


@pytest.mark.parametrize("status", [200, 400, 404, 405, 426, 501])
def test_an_address_without_event_stream_is_wrong_until_there_is_one(status: int) -> None:
    """spec: F-02"""
    story = Story(Connection(status=status), is_proven=False)
    story.tell(until=lambda: story.received.disconnected_by is not None)
    assert story.received.misaddressed_us == NOW_US
    assert (story.received.disconnected_by or "").startswith("the host ")
    assert set(story.backoff.asked) == {(Pause.LONG, None)}
    story = Story(Connection(status=status), Connection([identity(1)]), is_proven=False)
    story.tell(until=lambda: bool(story.seqs))
    assert story.received.misaddressed_us is None


def test_an_address_that_was_good_before_is_tried_again_much_later() -> None:
    story = Story(
        Connection([identity(1)], closes=True),
        Connection(status=404),
        Connection([identity(2)]),
        is_proven=False,
    )
    story.tell(until=lambda: len(story.seqs) == 2)
    assert [pause for pause, _ in story.backoff.asked] == [Pause.BACK_OFF, Pause.LONG]
    assert story.received.misaddressed_us is None


def test_a_stream_of_garbage_is_given_up_and_passed_in_the_end(events: list[str]) -> None:
    """spec: F-13"""
    junk = [b"junk %d" % number for number in range(UNDECODABLE_IN_ROW_LIMIT + 2)]
    stream = Connection([identity(1), *junk, identity(2)])
    story = Story(stream)
    story.tell(until=lambda: len(story.seqs) == 2)
    assert story.quarantined == junk
    assert story.seqs == [1, 2]
    assert story.relay.cursors == [None, "1"]
    assert "garbled" in events


def test_text_that_is_not_even_utf_8_does_not_end_the_connection() -> None:
    story = Story(Connection([Text(b"\xff"), Text(b"text"), identity(1)]))
    story.tell(until=lambda: bool(story.seqs))
    assert story.quarantined == [b"\xff", b"text"]
    assert len(story.relay.cursors) == 1


def test_a_message_over_the_limit_of_the_socket_ends_the_connection(events: list[str]) -> None:
    """spec: F-16"""
    story = Story(Connection([bytes(MAX_MESSAGE_BYTES + 1)]), Connection([identity(1)]))
    story.tell(until=lambda: bool(story.seqs))
    assert "disconnected" in events


def test_a_full_queue_stops_the_reading_and_nothing_is_lost() -> None:
    """More is sent than queue and sockets can hold; the sender has to wait."""
    total = 3 * HANDOVER_BYTES // MIB
    story = Story(Connection([identity(seq, fill=MIB) for seq in range(1, total + 1)]))

    async def scenario() -> None:
        async with story.running():
            async with asyncio.timeout(DEADLINE_S):
                while not story.handover.is_full:  # noqa: ASYNC110 - no event for it
                    await asyncio.sleep(POLL_S)
                assert story.handover.entries_count * MIB <= HANDOVER_BYTES
                assert story.relay.sent_count < total
                while len(story.seqs) < total:
                    await asyncio.sleep(POLL_S)
                    story.take()

    asyncio.run(scenario())
    assert story.seqs == list(range(1, total + 1))
    assert len(story.relay.cursors) == 1


def test_a_peer_that_answers_no_ping_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """spec: F-17"""
    monkeypatch.setattr(socket_module, "PING_INTERVAL_S", 0.1)
    story = Story(Connection([identity(1)], answers_pings=False), Connection([identity(2)]))
    story.tell(until=lambda: len(story.seqs) == 2)
    assert story.relay.cursors == [None, "1"]
