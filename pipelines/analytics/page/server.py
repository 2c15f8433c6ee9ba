"""Serves the page: three static files, and a stream of what changes.

The stream is `text/event-stream` (WHATWG HTML, server-sent events), which browsers take up again
by themselves: each event is what changed since the one before, the first is everything. A reader
that is slow gets fewer and larger events. Nothing is kept for anybody, and there are at most
`MAX_READERS` at a time.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping
from importlib import resources
from typing import Final

import orjson
from aiohttp import web

from pipelines.analytics.page import reading
from pipelines.analytics.page.board import Board
from pipelines.config import KafkaConfig
from pipelines.kafka.messages import Position
from pipelines.web_server import listening

MAX_READERS: Final = 100
# An event at most so often; one without changes shows that the connection lives.
EVENT_INTERVAL_S: Final = 1.0
STOP_POLL_S: Final = 0.1

_FILES: Final = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}
# Nothing from elsewhere, nothing inline: what users wrote can start no script and load no picture.
_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


def run(
    kafka: KafkaConfig,
    host: str,
    port: int,
    on_listening: Callable[[str, int], None],
    should_stop: Callable[[], bool],
) -> None:
    """Serves the page until it is asked to stop.

    Args:
        kafka: the cluster.
        host: where to listen.
        port: likewise; 0 for any that is free.
        on_listening: called once with host and port where it listens.
        should_stop: asked several times a second.

    Raises:
        BrokerUnavailableError: no broker answers at the start.
        ConfigError: it cannot listen there, or topics are missing.
    """
    starts = reading.find_starts(kafka)
    asyncio.run(_Service(kafka, starts).run(host, port, on_listening, should_stop))


class _Service:
    def __init__(self, kafka: KafkaConfig, starts: Mapping[Position, int]) -> None:
        self._kafka = kafka
        self._starts = starts
        self._board = Board()
        self._lock = threading.Lock()
        self._is_stopping = False
        self._readers_count = 0

    async def run(
        self,
        host: str,
        port: int,
        on_listening: Callable[[str, int], None],
        should_stop: Callable[[], bool],
    ) -> None:
        def is_stopping() -> bool:
            return self._is_stopping

        async with listening(self._app(), host, port) as found:
            on_listening(*found)
            follower = asyncio.create_task(
                asyncio.to_thread(
                    reading.follow, self._kafka, self._starts, self._board, self._lock, is_stopping
                )
            )
            try:
                while not should_stop() and not follower.done():  # noqa: ASYNC110 - asked by polling
                    await asyncio.sleep(STOP_POLL_S)
            finally:
                self._is_stopping = True
                await follower

    def _app(self) -> web.Application:
        app = web.Application()
        for path, (name, content_type) in _FILES.items():
            app.router.add_get(path, _static(name, content_type))
        app.router.add_get("/changes", self._stream)
        return app

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        if self._readers_count >= MAX_READERS:
            raise web.HTTPServiceUnavailable(text=f"{MAX_READERS} readers are here already\n")
        response = web.StreamResponse(headers={**_HEADERS, "Content-Type": "text/event-stream"})
        await response.prepare(request)
        self._readers_count += 1
        version = 0
        try:
            while not self._is_stopping:
                with self._lock:
                    version, value = self._board.changes_since(version)
                # A slow reader holds up itself alone.
                await response.write(b"data: " + orjson.dumps(value) + b"\n\n")
                await asyncio.sleep(EVENT_INTERVAL_S)
        except ConnectionError:
            pass  # the reader left
        finally:
            self._readers_count -= 1
        return response


def _static(name: str, content_type: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    body = resources.files(__package__).joinpath("static", name).read_bytes()

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(
            body=body, content_type=content_type, charset="utf-8", headers=_HEADERS
        )

    return answer
