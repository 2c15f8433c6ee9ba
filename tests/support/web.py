"""HTTP servers on loopback for tests of what asks them."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from aiohttp import web

# Bounds a test that would otherwise hang; nothing is measured by it.
DEADLINE_S = 20.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """An HTTP server on loopback that answers everything with one handler, and counts."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self.url = ""
        self.port = 0
        self.paths: list[str] = []
        self.connections: set[object] = set()
        self.running = 0
        self.most_running = 0
        self._arrival = asyncio.Condition()

    async def has_received(self, count: int) -> None:
        """Waits until that many requests have arrived."""
        async with self._arrival:
            await self._arrival.wait_for(lambda: len(self.paths) >= count)

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[None]:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self.port = runner.addresses[0][1]
            self.url = f"http://127.0.0.1:{self.port}"
            yield
        finally:
            await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.paths.append(request.raw_path)
        self.connections.add(request.transport)
        async with self._arrival:
            self._arrival.notify_all()
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            return await self._handler(request)
        finally:
            self.running -= 1


def with_server(
    handler: Handler,
    story: Callable[[Server], Awaitable[None]],
) -> None:
    async def play() -> None:
        server = Server(handler)
        async with asyncio.timeout(DEADLINE_S), server.serve():
            await story(server)

    asyncio.run(play())


@contextmanager
def running_server(handler: Handler) -> Iterator[Server]:
    """A server in a thread of its own, for what is not written for an event loop."""
    server = Server(handler)
    loop = asyncio.new_event_loop()
    is_up, may_end = threading.Event(), asyncio.Event()

    async def serve() -> None:
        async with server.serve():
            is_up.set()
            await may_end.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), name="server")
    thread.start()
    try:
        assert is_up.wait(DEADLINE_S)
        yield server
    finally:
        loop.call_soon_threadsafe(may_end.set)
        thread.join(DEADLINE_S)
        loop.close()


def answer(status: int, body: bytes | str = b"", **headers: str) -> Handler:
    async def handler(_request: web.Request) -> web.StreamResponse:
        raw = body.encode() if isinstance(body, str) else body
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=status, body=raw, headers=named)

    return handler


@contextmanager
def no_event_stream() -> Iterator[str]:
    """An address where somebody answers, but not with events: `ws://127.0.0.1:port`."""
    with running_server(answer(404)) as server:
        yield f"ws://127.0.0.1:{server.port}"
