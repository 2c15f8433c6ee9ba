"""The relay's socket: com.atproto.sync.subscribeRepos over a history of frames.

Each subscriber walks the shared history by index and waits whenever its socket is full, so a slow
one costs no memory and does not hold up the others. One whose next frame is no longer kept is told
so and let go, as real relays do (spec: F-27); a capture keeps all its frames.

Info and error frames are worded as the reference PDS words them. spec: F-10 to F-14, F-18
"""

import asyncio
import re
import time
from collections.abc import Sequence
from http import HTTPStatus

from aiohttp import WSCloseCode, web

from pipelines import logs
from pipelines.sim.messages import error_frame, info_frame
from pipelines.sim.ports import FutureCursorError, History, Start, SubscriberTooSlowError
from pipelines.sim.state import FAULTS, Faults

log = logs.get_logger("sim")

# A sequence number has 16 digits at most (spec: F-20). Longer texts are no cursors, and `int`
# refuses very long ones.
_CURSOR = re.compile(r"[0-9]{1,18}")

# How long a subscriber may take to answer the closing handshake; then the socket is cut.
_CLOSE_TIMEOUT_S = 1.0


_OUTDATED_TEXT = "Requested cursor exceeded limit. Possibly missing events"


class Relay:
    """The subscribers of one history."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._transports: dict[web.WebSocketResponse, asyncio.Transport] = {}

    async def work(self) -> None:
        """Does what the history has to do although nobody asks, until it is cancelled."""
        while True:
            wait_s = self._history.work(time.monotonic())
            if wait_s is None:
                return
            await asyncio.sleep(wait_s)

    def counts(self) -> dict[str, int | None]:
        """Returns the numbers of frames and subscribers as `/sim/status` has them."""
        return {
            "frames_emitted": self._history.emitted_count(time.monotonic()),
            "frames_prepared": self._history.prepared_count,
            "frames_total": self._history.total_count,
            "subscribers": len(self._transports),
        }

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answers one subscription; returns when its socket is closed."""
        text = request.query.get("cursor")
        if text is not None and not _CURSOR.fullmatch(text):
            body = {"error": "InvalidRequest", "message": "cursor is not a decimal integer"}
            return web.json_response(body, status=HTTPStatus.BAD_REQUEST)
        cursor = None if text is None else int(text)
        socket = web.WebSocketResponse(timeout=_CLOSE_TIMEOUT_S, compress=False)
        if not socket.can_prepare(request):
            return web.Response(status=HTTPStatus.UPGRADE_REQUIRED)
        await socket.prepare(request)
        transport = request.transport
        if transport is None:
            return socket  # the subscriber is gone already
        self._transports[socket] = transport
        try:
            await self._converse(socket, cursor, request.app[FAULTS])
        finally:
            del self._transports[socket]
        return socket

    async def close(self) -> None:
        """Closes every socket."""
        await asyncio.gather(*(_close(*item) for item in self._transports.items()))

    async def _converse(
        self, socket: web.WebSocketResponse, cursor: int | None, faults: Faults
    ) -> None:
        try:
            start, first = await self._subscribe(cursor)
        except FutureCursorError:
            log.info("cursor refused", cursor=cursor)
            await _refuse(socket, "FutureCursor", "Cursor in the future.")
            return
        log.info("subscribed", cursor=cursor, index=start.index)
        # Reading notices that the subscriber is gone; what it sends is ignored.
        sending = asyncio.create_task(self._send(socket, start, first, faults))
        reading = asyncio.create_task(_ignore_messages(socket))
        try:
            await asyncio.wait((sending, reading), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sending.cancel()
            reading.cancel()
            results = await asyncio.gather(sending, reading, return_exceptions=True)
        log.info("unsubscribed", cursor=cursor)
        for result in results:
            if isinstance(result, Exception) and not isinstance(result, ConnectionError):
                raise result

    async def _subscribe(self, cursor: int | None) -> tuple[Start, Sequence[bytes | str]]:
        """Returns where to start, and the first messages if they are about to be forgotten."""
        while True:
            now_s = time.monotonic()
            start = self._history.subscribe(cursor, now_s)
            if start is None:
                await asyncio.sleep(0)
            elif start.is_outdated:
                # The oldest frame goes with the next one that is emitted.
                return start, self._history.read(start.index, now_s)
            else:
                return start, ()

    async def _send(
        self,
        socket: web.WebSocketResponse,
        start: Start,
        messages: Sequence[bytes | str],
        faults: Faults,
    ) -> None:
        if start.is_outdated:
            await socket.send_bytes(info_frame("OutdatedCursor", _OUTDATED_TEXT))
        index = start.index
        try:
            while True:
                for message in messages:
                    if index % 100 < faults.withheld_percent:
                        pass  # it is lost, and the numbers do not tell
                    elif isinstance(message, bytes):
                        await socket.send_bytes(message)
                    else:
                        await socket.send_str(message)
                    index += 1
                    if _is_drop_due(faults, index - start.index):
                        self._transports[socket].close()
                        return
                wait_s = self._history.wait_s(index, time.monotonic())
                if wait_s is None:
                    break
                await asyncio.sleep(wait_s)  # 0 too: the other handlers get their turn
                messages = self._history.read(index, time.monotonic())
        except SubscriberTooSlowError:
            log.info("subscriber too slow", index=index)
            await _refuse(socket, "ConsumerTooSlow", "Stream consumer too slow")
            return
        await asyncio.Event().wait()  # nothing will come: the socket stays open and silent


def _is_drop_due(faults: Faults, sent_count: int) -> bool:
    return faults.drop_after_count is not None and sent_count >= faults.drop_after_count


async def _refuse(socket: web.WebSocketResponse, error: str, message: str) -> None:
    await socket.send_bytes(error_frame(error, message))
    await socket.close(code=WSCloseCode.POLICY_VIOLATION, message=error.encode())


async def _ignore_messages(socket: web.WebSocketResponse) -> None:
    async for _ in socket:
        pass


async def _close(socket: web.WebSocketResponse, transport: asyncio.Transport) -> None:
    try:
        async with asyncio.timeout(2 * _CLOSE_TIMEOUT_S):
            await socket.close(code=WSCloseCode.GOING_AWAY)
    except TimeoutError:
        # The subscriber does not read: even the closing frame finds no room.
        transport.abort()


RELAY = web.AppKey("relay", Relay)
