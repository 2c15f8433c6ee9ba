"""What every server of event streams here has in common: cursors, what it says, open sockets.

Info and error frames are worded as the reference
PDS words them. Nothing here knows where frames come from.

Source: atproto.com/specs/event-stream; lexicon com.atproto.sync.subscribeRepos.
spec: F-10 to F-14, F-18, F-20, F-22 to F-27
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from typing import Any, Final

import cbor2
from aiohttp import WSCloseCode, web

# A sequence number has 16 digits at most (spec: F-20), microseconds since 1970 as many for long.
# Longer texts are no cursors, and `int` refuses very long ones.
_match_cursor = re.compile(r"[0-9]{1,18}").fullmatch

# How long a subscriber may take to answer the closing handshake; then the socket is cut.
CLOSE_TIMEOUT_S: Final = 1.0

# Of a message of a subscriber, where it has nothing to say.
MAX_SUBSCRIBER_BYTES: Final = 4 * 1024 * 1024


class CursorTextError(Exception):
    """What a subscriber sent as its cursor is none."""


def parse_cursor(text: str | None) -> int | None:
    """Returns the cursor of a subscription.

    Args:
        text: the parameter, or None if there is none.

    Raises:
        CursorTextError: it is not a decimal integer of at most 18 digits.
    """
    if text is None:
        return None
    if not _match_cursor(text):
        raise CursorTextError("cursor is not a decimal integer")
    return int(text)


def info_frame(name: str, message: str) -> bytes:
    """Returns an `#info` frame."""
    return encode_message("#info", {"name": name, "message": message})


def error_frame(error: str, message: str) -> bytes:
    """Returns an error frame; the connection has to be closed after it."""
    return cbor2.dumps({"op": -1}) + cbor2.dumps({"error": error, "message": message})


def encode_message(type_name: str, payload: dict[str, Any]) -> bytes:
    """Returns a message frame.

    Args:
        type_name: as `#commit`.
        payload: its keys are in canonical order already, which is kept.
    """
    return cbor2.dumps({"t": type_name, "op": 1}) + cbor2.dumps(payload)


OUTDATED_CURSOR: Final = info_frame(
    "OutdatedCursor", "Requested cursor exceeded limit. Possibly missing events"
)
FUTURE_CURSOR: Final = "FutureCursor"
CONSUMER_TOO_SLOW: Final = "ConsumerTooSlow"
ERROR_TEXTS: Final = {
    FUTURE_CURSOR: "Cursor in the future.",
    CONSUMER_TOO_SLOW: "Stream consumer too slow",
}


def refusal_frame(error: str) -> bytes:
    """Returns the error frame for one of `ERROR_TEXTS`."""
    return error_frame(error, ERROR_TEXTS[error])


def invalid_request(message: str) -> web.Response:
    """Returns the answer to a subscription that cannot be understood."""
    body = {"error": "InvalidRequest", "message": message}
    return web.json_response(body, status=HTTPStatus.BAD_REQUEST)


class Sockets:
    """The open sockets of a server."""

    def __init__(self, ping_s: float | None = None) -> None:
        """Has none.

        Args:
            ping_s: a subscriber is pinged so often, in seconds, and its socket is cut where it
                does not answer within half of that; None for never. spec: F-17
        """
        self._ping_s = ping_s
        self._transports: dict[web.WebSocketResponse, asyncio.Transport] = {}

    def __len__(self) -> int:
        return len(self._transports)

    @asynccontextmanager
    async def open(
        self,
        request: web.Request,
        *,
        is_compressed: bool = False,
        max_message_bytes: int = MAX_SUBSCRIBER_BYTES,
    ) -> AsyncIterator[web.WebSocketResponse | web.Response]:
        """Takes up the connection of a subscriber while the block runs.

        Args:
            request: its request.
            is_compressed: whether messages are compressed for who asks for it (RFC 7692).
            max_message_bytes: of the subscriber; a larger one ends the connection.

        Yields:
            The socket; what to answer instead if the request is none for a socket.

        Raises:
            ConnectionResetError: the subscriber has left; the web server knows what to do.
        """
        socket = web.WebSocketResponse(
            timeout=CLOSE_TIMEOUT_S,
            compress=is_compressed,
            max_msg_size=max_message_bytes,
            heartbeat=self._ping_s,
        )
        if not socket.can_prepare(request):
            yield web.Response(status=HTTPStatus.UPGRADE_REQUIRED)
            return
        await socket.prepare(request)
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the subscriber has left")
        self._transports[socket] = transport
        try:
            yield socket
        finally:
            del self._transports[socket]

    def cut(self, socket: web.WebSocketResponse) -> None:
        """Closes a connection without a word, once what is under way is sent."""
        self._transports[socket].close()

    async def dismiss(self, socket: web.WebSocketResponse, code: WSCloseCode, text: str) -> None:
        """Closes a socket with a reason; a subscriber that does not read is cut.

        Args:
            socket: it is open, or was: nothing is done then.
            code: of RFC 6455 or the registry behind it.
            text: the reason; at most 123 bytes in UTF-8.
        """
        transport = self._transports.get(socket)
        if transport is None:
            return
        try:
            async with asyncio.timeout(2 * CLOSE_TIMEOUT_S):
                await socket.close(code=code, message=text.encode())
        except TimeoutError:
            # The subscriber does not read: even the closing frame finds no room.
            transport.abort()

    async def refuse(
        self, socket: web.WebSocketResponse, error: str, *, farewell_s: float
    ) -> None:
        """Ends a connection with an error frame. spec: F-14.

        Args:
            socket: it is open, or was.
            error: one of `ERROR_TEXTS`.
            farewell_s: how long the subscriber may take to read what is on its way to it, and the
                frame behind that; then the socket is cut.
        """
        asyncio.get_running_loop().call_later(farewell_s, self._transports[socket].abort)
        with suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(farewell_s):
                await socket.send_bytes(refusal_frame(error))
                await socket.close(code=WSCloseCode.POLICY_VIOLATION, message=error.encode())

    async def close_all(self, text: str = "") -> None:
        """Closes every socket with a reason; those whose subscribers do not read are cut."""
        going_away = WSCloseCode.GOING_AWAY
        sockets = list(self._transports)
        await asyncio.gather(*(self.dismiss(socket, going_away, text) for socket in sockets))


async def converse(sending: Awaitable[None], reading: Awaitable[None]) -> None:
    """Runs both halves of a connection until one ends; it is no error if the subscriber leaves.

    Args:
        sending: sends the stream.
        reading: takes what the subscriber sends, and so notices that it is gone.
    """
    tasks = [asyncio.ensure_future(sending), asyncio.ensure_future(reading)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception) and not isinstance(result, ConnectionError):
            raise result


async def ignore_messages(socket: web.WebSocketResponse) -> None:
    """Reads a socket to its end. spec: F-18."""
    async for _ in socket:
        pass
