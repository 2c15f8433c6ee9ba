"""The relay's socket: com.atproto.sync.subscribeRepos over a history of frames.

Each subscriber walks the shared history by index and waits whenever its socket is full, so a slow
one costs no memory and does not hold up the others. One whose next frame is no longer kept is told
so and let go, as real relays do (spec: F-27); a capture keeps all its frames.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from aiohttp import web

from pipelines import logs
from pipelines.sim.ports import FutureCursorError, History, Start, SubscriberTooSlowError
from pipelines.sim.state import FAULTS, Faults
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

# How long who is refused may take to read what is on its way to it.
_FAREWELL_S: Final = 30.0

log = logs.get_logger("sim")


class Relay:
    """The subscribers of one history."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._sockets = Sockets()

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
            "subscribers": len(self._sockets),
        }

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answers one subscription; returns when its socket is closed."""
        try:
            cursor = parse_cursor(request.query.get("cursor"))
        except CursorTextError as error:
            return invalid_request(str(error))
        async with self._sockets.open(request) as answer:
            if isinstance(answer, web.WebSocketResponse):
                await self._converse(answer, cursor, request.app[FAULTS])
        return answer

    async def close(self) -> None:
        """Closes every socket."""
        await self._sockets.close_all()

    async def _converse(
        self, socket: web.WebSocketResponse, cursor: int | None, faults: Faults
    ) -> None:
        try:
            start, first = await self._subscribe(cursor)
        except FutureCursorError:
            log.info("cursor refused", cursor=cursor)
            await self._sockets.refuse(socket, FUTURE_CURSOR, farewell_s=_FAREWELL_S)
            return
        log.info("subscribed", cursor=cursor, index=start.index)
        await converse(self._send(socket, start, first, faults), ignore_messages(socket))
        log.info("unsubscribed", cursor=cursor)

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
            await socket.send_bytes(OUTDATED_CURSOR)
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
                        self._sockets.cut(socket)
                        return
                wait_s = self._history.wait_s(index, time.monotonic())
                if wait_s is None:
                    break
                await asyncio.sleep(wait_s)  # 0 too: the other handlers get their turn
                messages = self._history.read(index, time.monotonic())
        except SubscriberTooSlowError:
            log.info("subscriber too slow", index=index)
            await self._sockets.refuse(socket, CONSUMER_TOO_SLOW, farewell_s=_FAREWELL_S)
            return
        await asyncio.Event().wait()  # nothing will come: the socket stays open and silent


def _is_drop_due(faults: Faults, sent_count: int) -> bool:
    return faults.drop_after_count is not None and sent_count >= faults.drop_after_count


RELAY = web.AppKey("relay", Relay)
