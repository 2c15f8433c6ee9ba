"""The open sockets of a server, where they close while it does something with them."""

import asyncio

from aiohttp import ClientSession, WSCloseCode, web

from pipelines.subscriptions import Sockets
from pipelines.web_server import listening


def test_a_socket_that_closed_before_its_dismissal_is_passed_over() -> None:
    async def conversation() -> None:
        sockets = Sockets()
        closed = asyncio.Event()
        opened: list[web.WebSocketResponse] = []

        async def serve(request: web.Request) -> web.StreamResponse:
            async with sockets.open(request) as answer:
                assert isinstance(answer, web.WebSocketResponse)
                opened.append(answer)
            closed.set()
            return answer

        app = web.Application()
        app.router.add_get("/", serve)
        async with (
            listening(app, "127.0.0.1", 0) as (host, port),
            ClientSession() as session,
            session.ws_connect(f"http://{host}:{port}/"),
        ):
            await closed.wait()
            assert len(sockets) == 0
            [socket] = opened
            await sockets.dismiss(socket, WSCloseCode.GOING_AWAY, "too late")
            assert socket.close_code != WSCloseCode.GOING_AWAY

    asyncio.run(conversation())
