"""The JSON stream that readers of Bluesky's Jetstream know, at `/subscribe`, from `events`.

Each subscriber has a reader of its own, without a group, so it may begin anywhere in what Kafka
keeps and holds up nobody. Nothing is kept for it beyond what is under way: while its socket is
full, nothing more is read. What a subscriber may see when it is not served any more:

    HTTP 400    its parameters cannot be understood, or are not offered
    HTTP 503    there are `MAX_SUBSCRIBERS`, or the broker does not answer
    1001        the server stops
    1008        it took nothing for `SEND_TIMEOUT_S`, or its `options_update` cannot be understood,
                or what comes next was deleted before it came so far
    1013        the broker does not answer

Each time it may come again with the last `time_us` that it has seen.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Final

from aiohttp import WSCloseCode, WSMsgType, web

from pipelines import logs
from pipelines.config import KafkaConfig
from pipelines.errors import BrokerUnavailableError, OffsetLostError
from pipelines.kafka.admin import check_partitions
from pipelines.kafka.messages import Position
from pipelines.serving.jetstream_options import (
    MAX_UPDATE_BYTES,
    OptionsError,
    Subscription,
    Wanted,
    parse_query,
    parse_update,
)
from pipelines.serving.jetstream_reader import Reader, find_starts
from pipelines.subscriptions import Sockets, converse
from pipelines.web_server import listening

TOPIC: Final = "events"
PATH: Final = "/subscribe"
# Each has a Kafka client, which takes 40 MB while it catches up.
MAX_SUBSCRIBERS: Final = 20
SEND_TIMEOUT_S: Final = 30.0
PING_S: Final = 60.0
_STOP_POLL_S: Final = 0.1
# Of a reason to close, in bytes (RFC 6455, section 5.5).
_REASON_BYTES: Final = 123

_log = logs.get_logger("jetstream")


def serve(
    kafka: KafkaConfig,
    host: str,
    port: int,
    on_listening: Callable[[str, int], None],
    should_stop: Callable[[], bool],
) -> None:
    """Serves the stream until it is asked to stop.

    Args:
        kafka: the cluster.
        host: where to listen.
        port: likewise; 0 for any that is free.
        on_listening: called once with host and port where it listens.
        should_stop: asked several times a second.

    Raises:
        BrokerUnavailableError: no broker answers at the start.
        ConfigError: it cannot listen there, or there is no topic `events`.
    """
    count = check_partitions(kafka, [TOPIC])[TOPIC]
    wheres = [(kafka.topic(TOPIC), number) for number in range(count)]
    # A read that nobody waits for any more may still be under way.
    with ThreadPoolExecutor(2 * MAX_SUBSCRIBERS, "jetstream") as threads:
        server = _Server(kafka, wheres, threads)
        asyncio.run(server.run(host, port, on_listening, should_stop))


class _DismissedError(Exception):
    """A subscriber is not served any more."""

    def __init__(self, code: WSCloseCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class _Options:
    """What one subscriber wants at present.

    Attributes:
        wanted: may change while the connection lasts.
        is_told: set once anything may be sent.
    """

    def __init__(self, subscription: Subscription) -> None:
        self.wanted: Wanted = subscription.wanted
        self.is_told = asyncio.Event()
        if not subscription.waits_for_hello:
            self.is_told.set()


class _Server:
    def __init__(
        self, kafka: KafkaConfig, wheres: Collection[Position], threads: ThreadPoolExecutor
    ) -> None:
        self._kafka = kafka
        self._wheres = wheres
        self._threads = threads
        self._sockets = Sockets(PING_S)
        self._subscribers_count = 0

    async def run(
        self,
        host: str,
        port: int,
        on_listening: Callable[[str, int], None],
        should_stop: Callable[[], bool],
    ) -> None:
        app = web.Application()
        app.router.add_get(PATH, self._subscribe)
        app.on_shutdown.append(self._close_sockets)
        async with listening(app, host, port) as found:
            on_listening(*found)
            while not should_stop():  # noqa: ASYNC110 - asked by polling
                await asyncio.sleep(_STOP_POLL_S)

    async def _close_sockets(self, _app: web.Application) -> None:
        await self._sockets.close_all("the server stops: come again with your cursor")

    async def _subscribe(self, request: web.Request) -> web.StreamResponse:
        query = {name: request.query.getall(name) for name in request.query}
        try:
            if "zstd" in request.headers.get("Socket-Encoding", ""):
                query["compress"] = ["true"]
            subscription = parse_query(query)
        except OptionsError as error:
            return _refusal(HTTPStatus.BAD_REQUEST, str(error))
        if self._subscribers_count >= MAX_SUBSCRIBERS:
            text = f"{MAX_SUBSCRIBERS} subscribers are here already: try again later"
            return _refusal(HTTPStatus.SERVICE_UNAVAILABLE, text)
        self._subscribers_count += 1
        try:
            return await self._answer(request, subscription)
        finally:
            self._subscribers_count -= 1

    async def _answer(
        self, request: web.Request, subscription: Subscription
    ) -> web.StreamResponse:
        loop = asyncio.get_running_loop()
        cursor_us = subscription.cursor_us
        try:
            starts = await loop.run_in_executor(
                self._threads, find_starts, self._kafka, self._wheres, cursor_us
            )
        except BrokerUnavailableError as error:
            _log.warning("broker_unavailable", detail=str(error))
            return _refusal(HTTPStatus.SERVICE_UNAVAILABLE, "Kafka does not answer: try again")
        async with self._sockets.open(
            request, is_compressed=True, max_message_bytes=MAX_UPDATE_BYTES
        ) as answer:
            if isinstance(answer, web.WebSocketResponse):
                _log.info("subscribed", cursor=cursor_us, subscribers=self._subscribers_count)
                await self._converse(answer, starts, _Options(subscription))
                _log.info("unsubscribed", cursor=cursor_us, code=answer.close_code)
        return answer

    async def _converse(
        self, socket: web.WebSocketResponse, starts: Mapping[Position, int], options: _Options
    ) -> None:
        try:
            await converse(self._send(socket, starts, options), _listen(socket, options))
        except _DismissedError as error:
            _log.info("dismissed", code=error.code, reason=error.reason)
            reason = error.reason.encode()[:_REASON_BYTES].decode(errors="ignore")
            await self._sockets.dismiss(socket, error.code, reason)

    async def _send(
        self, socket: web.WebSocketResponse, starts: Mapping[Position, int], options: _Options
    ) -> None:
        await options.is_told.wait()
        loop = asyncio.get_running_loop()
        reader = Reader(self._kafka, starts)
        try:
            while True:
                texts = await loop.run_in_executor(
                    self._threads, reader.read, lambda: options.wanted
                )
                async with asyncio.timeout(SEND_TIMEOUT_S):
                    for text in texts:
                        await socket.send_frame(text, WSMsgType.TEXT)
        except TimeoutError:
            raise _DismissedError(
                WSCloseCode.POLICY_VIOLATION,
                f"too slow: nothing was taken for {SEND_TIMEOUT_S:.0f} s; come again with your "
                "cursor",
            ) from None
        except OffsetLostError:
            raise _DismissedError(
                WSCloseCode.POLICY_VIOLATION,
                "too far behind: what comes next was deleted; come again with your cursor",
            ) from None
        except BrokerUnavailableError as error:
            _log.warning("broker_unavailable", detail=str(error))
            raise _DismissedError(
                WSCloseCode.TRY_AGAIN_LATER, "Kafka does not answer: come again with your cursor"
            ) from None
        finally:
            # Not waited for: the thread of a read that was cut off ends it first.
            self._threads.submit(reader.close)


async def _listen(socket: web.WebSocketResponse, options: _Options) -> None:
    async for message in socket:
        if message.type is WSMsgType.ERROR:
            return  # a message that is too large, or none; the socket is closed by now
        try:
            wanted = parse_update(message.data)
        except OptionsError as error:
            raise _DismissedError(WSCloseCode.POLICY_VIOLATION, str(error)) from None
        if wanted is None:
            _log.debug("message_ignored")
        else:
            options.wanted = wanted
            options.is_told.set()


def _refusal(status: HTTPStatus, text: str) -> web.Response:
    return web.Response(status=status, text=f"{text}\n")
