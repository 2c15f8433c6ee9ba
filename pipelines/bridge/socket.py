"""The upstream's websocket: opening it, and reading messages from it.

Limits: a message has at most `MAX_MESSAGE_BYTES`; of what was received and not yet read, aiohttp
holds 128 kB and then stops reading, so that TCP slows the upstream down.

spec: F-01, F-10, F-16, F-17
"""

import asyncio
import contextlib
from importlib.metadata import version
from typing import Literal, NamedTuple, TypeAlias

import aiohttp

from pipelines.atproto.errors import ProtocolError
from pipelines.atproto.frames import parse_envelope
from pipelines.atproto.syntax import parse_datetime
from pipelines.bridge.timeseek import Sighting
from pipelines.captures import MAX_MESSAGE_BYTES

CONNECT_TIMEOUT_S = 20.0
CLOSE_TIMEOUT_S = 2.0  # what the upstream gets to answer the closing handshake
# A ping goes out when nothing came for this long; without a pong within half of it the connection
# is dead. A quiet upstream is not: there is no other limit on silence. spec: F-17
PING_INTERVAL_S = 30.0
# What an upstream has comes at once; one that is silent for so long has nothing after the cursor.
FIRST_EVENT_TIMEOUT_S = 10.0

_USER_AGENT = f"standpipe/{version('standpipe')}"

Socket: TypeAlias = aiohttp.ClientWebSocketResponse[Literal[False]]


class SocketMessage(NamedTuple):
    """One websocket message.

    Attributes:
        data: its bytes; of a text message those it came as.
        is_text: whether it is a text message.
    """

    data: bytes
    is_text: bool


class SocketEnd(NamedTuple):
    """Nothing more will come from the socket.

    Attributes:
        detail: why, in a sentence for a person.
    """

    detail: str


def create_session() -> aiohttp.ClientSession:
    """Returns a session for `open_socket`; to be called, and closed, on the event loop."""
    return aiohttp.ClientSession(headers={"User-Agent": _USER_AGENT})


async def open_socket(session: aiohttp.ClientSession, url: str) -> Socket:
    """Opens the event stream; the caller closes it.

    Raises:
        aiohttp.ClientError: no connection, or it is no event stream; `pipelines.relay` says what
            that means.
        OSError: no connection; a time-out is one.
    """
    async with asyncio.timeout(CONNECT_TIMEOUT_S):
        return await session.ws_connect(
            url,
            max_msg_size=MAX_MESSAGE_BYTES,
            heartbeat=PING_INTERVAL_S,
            timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_TIMEOUT_S),
            # Text that is not UTF-8 would end the connection at the same place every time.
            decode_text=False,
        )


async def first_event(session: aiohttp.ClientSession, url: str) -> Sighting | None:
    """Opens the event stream for the first event that says when it happened.

    Args:
        session: as in `open_socket`.
        url: of the stream, with the cursor.

    Returns:
        The event; None if the stream brings none within `FIRST_EVENT_TIMEOUT_S`, or ends before,
        as it does for a cursor that is ahead of it.

    Raises:
        aiohttp.ClientError: as in `open_socket`.
        OSError: as in `open_socket`.
    """
    async with await open_socket(session, url) as socket:
        try:
            async with asyncio.timeout(FIRST_EVENT_TIMEOUT_S):
                while isinstance(message := await receive(socket), SocketMessage):
                    with contextlib.suppress(ProtocolError):
                        envelope = parse_envelope(message.data)
                        time_us = parse_datetime(envelope.time)
                        if envelope.seq is not None:
                            return Sighting(envelope.seq, time_us)
        except TimeoutError:
            pass
    return None


async def receive(socket: Socket) -> SocketMessage | SocketEnd:
    """Returns the next message, or that there will be none."""
    message = await socket.receive()
    kind = message.type
    if kind is aiohttp.WSMsgType.BINARY:
        return SocketMessage(message.data, is_text=False)
    if kind is aiohttp.WSMsgType.TEXT:
        return SocketMessage(message.data, is_text=True)
    if kind is aiohttp.WSMsgType.CLOSE:
        return SocketEnd(f"the upstream closed the connection (code {message.data})")
    cause = message.data if kind is aiohttp.WSMsgType.ERROR else socket.exception()
    return SocketEnd(f"the connection was lost ({cause or 'without a closing handshake'})")
