"""`com.atproto.sync.subscribeRepos` out of the topic `frames`: one upstream, as it sent it.

Frames go out byte for byte, in the order of the epochs. One reader follows the topic into a ring
in memory; whoever begins further back, or falls behind the ring, has a reader of its own until it
has come up to it. Nothing is queued for a subscriber but what its socket holds: it takes, it is
not given. So a slow one holds up nobody, and costs no memory.

    no cursor       what comes from now on
    cursor=0        everything there is
    cursor=N        what is above N; see `cursors.py` for upstreams that began anew
    too old         the info frame OutdatedCursor, then everything there is
    in the future   the error frame FutureCursor, and the end

What a subscriber may see when it is not served any more; it may come again with its last number,
and misses nothing and gets nothing twice:

    HTTP 400          its cursor is no number
    HTTP 503          there are MAX_SUBSCRIBERS, or the broker does not answer
    ConsumerTooSlow   it took nothing for `send_timeout_s`, or what comes next was deleted before
                      it came so far (error frame and close code 1008)
    1001              the server stops
    1011              the epochs do not tell the order of what comes next
    cut               it said nothing for HEARTBEAT_S and did not answer a ping for half of that

While the broker is away, subscribers stay, and go on when it is back.

spec: F-01, F-10, F-14, F-18, F-22 to F-27
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, TypeVar

from aiohttp import WSCloseCode, web

from pipelines import logs
from pipelines.config import KafkaConfig
from pipelines.errors import BrokerUnavailableError, OffsetLostError
from pipelines.kafka.messages import Position
from pipelines.relay import SUBSCRIBE_PATH
from pipelines.replay.epochs import EpochsError
from pipelines.replay.planning import Request
from pipelines.serving.cursors import Cursors, FutureCursorError, Start
from pipelines.serving.frames_planning import Served, frame_starts, plan_serving
from pipelines.serving.frames_reader import Reader
from pipelines.serving.ring import RING_BYTES, Batch, Place, Ring
from pipelines.subscriptions import (
    CONSUMER_TOO_SLOW,
    FUTURE_CURSOR,
    OUTDATED_CURSOR,
    CursorTextError,
    Sockets,
    converse,
    ignore_messages,
    invalid_request,
    parse_cursor,
)
from pipelines.web_server import listening

# Each has a socket and its buffers, of some 200 kB and one frame.
MAX_SUBSCRIBERS: Final = 100
# Each has a Kafka client, which takes up to 80 MB.
MAX_READERS: Final = 8
HEARTBEAT_S: Final = 120.0
_STOP_POLL_S: Final = 0.1
_RETRY_S: Final = 1.0
# What a subscriber says is not listened to, so it has to be short.
_MAX_MESSAGE_BYTES: Final = 64 * 1024

_Answer = TypeVar("_Answer")

_log = logs.get_logger("serve")


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be chosen.

    Attributes:
        ring_bytes: of the latest frames in memory.
        send_timeout_s: how long a subscriber may take nothing at all.
        farewell_s: how long one that was too slow may take to read what is on its way to it, the
            error behind it included.
        behind_s: how long a number above all that the ring has seen may be one that a reader of
            its own brought: after an outage they differ by what Kafka's client waits before it
            connects again.
    """

    ring_bytes: int = RING_BYTES
    send_timeout_s: float = 30.0
    farewell_s: float = 10.0
    behind_s: float = 15.0


def serve(
    kafka: KafkaConfig,
    request: Request,
    address: tuple[str, int],
    on_listening: Callable[[str, str], None],
    should_stop: Callable[[], bool],
    limits: Limits | None = None,
) -> None:
    """Serves the frames of one upstream until it is asked to stop.

    Args:
        kafka: the cluster.
        request: what of `frames`; checked by `check_request`.
        address: host and port where to listen; port 0 for any that is free.
        on_listening: called once, with the upstream and the address of the stream.
        should_stop: asked several times a second.
        limits: others than usual.

    Raises:
        BrokerUnavailableError: no broker answers at the start.
        ConfigError: it cannot listen there, or the topics have not what is asked for.
        EpochsError: the frames' order cannot be told.
        OffsetLostError: messages were deleted before they could be read, though they were new.
    """
    served, cursors, place = plan_serving(kafka, request)
    # Readers, the one that follows, and questions of new subscribers.
    with ThreadPoolExecutor(MAX_READERS + 4, "serve") as threads:
        server = _Server(kafka, served, cursors, place, limits or Limits(), threads)
        asyncio.run(server.run(address, on_listening, should_stop))


class _TooSlowError(Exception):
    """A subscriber is too slow."""


class _Server:
    def __init__(
        self,
        kafka: KafkaConfig,
        served: Served,
        cursors: Cursors,
        place: Place,
        limits: Limits,
        threads: ThreadPoolExecutor,
    ) -> None:
        self._kafka = kafka
        self._served = served
        self._cursors = cursors
        self._limits = limits
        self._threads = threads
        self._ring = Ring(place[served.epochs], place, limits.ring_bytes)
        self._sockets = Sockets(HEARTBEAT_S)
        self._subscribers_count = 0
        self._readers = asyncio.Semaphore(MAX_READERS)
        self._grown = asyncio.Event()

    async def run(
        self,
        address: tuple[str, int],
        on_listening: Callable[[str, str], None],
        should_stop: Callable[[], bool],
    ) -> None:
        app = web.Application()
        app.router.add_get(SUBSCRIBE_PATH, self._subscribe)
        app.on_shutdown.append(self._close_sockets)
        async with self._following() as following, listening(app, *address) as (host, port):
            shown = f"[{host}]" if ":" in host else host
            on_listening(self._served.host, f"ws://{shown}:{port}{SUBSCRIBE_PATH}")
            while not should_stop() and not following.done():  # noqa: ASYNC110 - polled
                await asyncio.sleep(_STOP_POLL_S)

    async def _close_sockets(self, _app: web.Application) -> None:
        await self._sockets.close_all("the server stops: come again with your cursor")

    @contextlib.asynccontextmanager
    async def _following(self) -> AsyncIterator[asyncio.Task[None]]:
        """Fills the ring while the block runs; what ends that by itself is raised behind it."""
        following = asyncio.create_task(self._follow())
        try:
            yield following
        finally:
            following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await following

    async def _follow(self) -> None:
        if not self._served.is_following:
            await asyncio.Event().wait()  # nothing will come
        async with contextlib.aclosing(self._read(self._ring.place)) as batches:
            async for batch in batches:
                if batch.frames:
                    seqs = batch.frames[0][0], batch.frames[-1][0]
                    self._cursors.add(batch.end - 1, seqs, self._ring.place, batch.place)
                self._ring.add(batch)
                grown, self._grown = self._grown, asyncio.Event()
                grown.set()

    async def _read(self, place: Place) -> AsyncGenerator[Batch, None]:
        """Yields what Kafka has from a place on; begins anew when the broker was away."""
        while True:
            reader = Reader(self._kafka, self._served, place)
            try:
                while True:
                    for batch in await self._run(reader.read):
                        place = batch.place
                        yield batch
            except BrokerUnavailableError as error:
                _log.warning("broker_unavailable", detail=str(error))
            finally:
                reader.stop()
                # Not waited for: the thread of a read that was cut off ends it first.
                self._threads.submit(reader.close)
            await asyncio.sleep(_RETRY_S)

    async def _subscribe(self, request: web.Request) -> web.StreamResponse:
        try:
            cursor = parse_cursor(request.query.get("cursor"))
        except CursorTextError as error:
            return invalid_request(str(error))
        if self._subscribers_count >= MAX_SUBSCRIBERS:
            return _unavailable(f"{MAX_SUBSCRIBERS} subscribers are here already")
        self._subscribers_count += 1
        try:
            return await self._answer(request, cursor)
        finally:
            self._subscribers_count -= 1

    async def _answer(self, request: web.Request, cursor: int | None) -> web.StreamResponse:
        log_starts: Mapping[Position, int] = {}
        if cursor is not None:
            try:
                log_starts = await self._run(frame_starts, self._kafka, self._served)
            except BrokerUnavailableError as error:
                _log.warning("broker_unavailable", detail=str(error))
                return _unavailable("Kafka does not answer")
        async with self._sockets.open(request, max_message_bytes=_MAX_MESSAGE_BYTES) as answer:
            if isinstance(answer, web.WebSocketResponse):
                _log.info("subscribed", cursor=cursor, subscribers=self._subscribers_count)
                await self._converse(answer, cursor, log_starts)
                _log.info("unsubscribed", cursor=cursor, code=answer.close_code)
        return answer

    async def _converse(
        self,
        socket: web.WebSocketResponse,
        cursor: int | None,
        log_starts: Mapping[Position, int],
    ) -> None:
        start = Start(self._ring.place)
        try:
            if cursor is not None:
                start = await self._find(cursor, log_starts)
            await converse(self._send(socket, start), ignore_messages(socket))
        except FutureCursorError:
            _log.info("cursor_refused", cursor=cursor)
            await self._refuse(socket, FUTURE_CURSOR)
        except (_TooSlowError, OffsetLostError) as error:
            _log.info("too_slow", cursor=cursor, detail=str(error))
            await self._refuse(socket, CONSUMER_TOO_SLOW)
        except EpochsError as error:
            _log.error("epochs_unusable", cursor=cursor, detail=str(error))
            text = "the order of what comes next is not known"
            await self._sockets.dismiss(socket, WSCloseCode.INTERNAL_ERROR, text)

    async def _find(self, cursor: int, log_starts: Mapping[Position, int]) -> Start:
        """Returns where a cursor is, once the ring can have come up to whoever was ahead of it.

        Raises:
            FutureCursorError: it is above all numbers, also after `Limits.behind_s`.
        """
        deadline_s = time.monotonic() + self._limits.behind_s
        while True:
            try:
                return self._cursors.find(cursor, self._ring.place, log_starts)
            except FutureCursorError:
                left_s = deadline_s - time.monotonic()
                if left_s <= 0 or not self._served.is_following:
                    raise
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._grown.wait(), left_s)

    async def _send(self, socket: web.WebSocketResponse, start: Start) -> None:
        if start.is_outdated:
            await socket.send_bytes(OUTDATED_CURSOR)
        async with contextlib.aclosing(self._feed(start.place)) as batches:
            async for batch in batches:
                is_skipping = batch.end <= start.skip_end
                for seq, frame in batch.frames:
                    if is_skipping and seq <= start.after_seq:
                        continue
                    try:
                        async with asyncio.timeout(self._limits.send_timeout_s):
                            await socket.send_bytes(frame)
                    except TimeoutError:
                        raise _TooSlowError(f"frame {seq} was not taken") from None
                await asyncio.sleep(0)  # the others get their turn

    async def _feed(self, place: Place) -> AsyncGenerator[Batch, None]:
        """Yields everything from a place on: from the ring what it has, else from Kafka."""
        epochs = self._served.epochs
        while True:
            if not self._ring.has(place[epochs]):
                async with self._readers, contextlib.aclosing(self._read(place)) as batches:
                    async for batch in batches:
                        place = batch.place
                        yield batch
                        if self._ring.has(place[epochs]):
                            break
            grown = self._grown
            batch_there = self._ring.after(place[epochs])
            if batch_there is None:
                # What has no frames for it is passed; its own reader may be ahead of the ring.
                if self._ring.end > place[epochs]:
                    place = self._ring.place
                await grown.wait()
            else:
                place = batch_there.place
                yield batch_there

    async def _refuse(self, socket: web.WebSocketResponse, error: str) -> None:
        await self._sockets.refuse(socket, error, farewell_s=self._limits.farewell_s)

    async def _run(self, function: Callable[..., _Answer], *arguments: Any) -> _Answer:
        """Calls what waits for Kafka in a thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, function, *arguments)


def _unavailable(text: str) -> web.Response:
    return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE, text=f"{text}: try again later\n")
