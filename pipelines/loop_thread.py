"""An event loop in a thread of its own, for work that waits while its owner computes."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, Final

# For what is cut off when the thread ends.
CLOSE_TIMEOUT_S: Final = 5.0


class LoopThread:
    """Runs coroutines. Every method is for one thread, that of the owner."""

    def __init__(self, name: str) -> None:
        """Starts the thread; `close` ends it.

        Args:
            name: of the thread.
        """
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Starts something, which hands over by itself what comes of it."""
        asyncio.run_coroutine_threadsafe(work, self._loop)

    def cancel(self) -> None:
        """Cuts off what is under way, and does not wait for its end."""
        self._loop.call_soon_threadsafe(self._cancel_all)

    def close(self, last: Coroutine[Any, Any, None]) -> None:
        """Cuts off what is under way, runs something last, and ends the thread."""
        if self._loop.is_closed():
            last.close()
            return
        closing = asyncio.run_coroutine_threadsafe(_close(last), self._loop)
        closing.result(CLOSE_TIMEOUT_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CLOSE_TIMEOUT_S)

    def _cancel_all(self) -> None:
        for task in asyncio.all_tasks(self._loop):
            task.cancel()

    def _run(self) -> None:
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()


async def _close(last: Coroutine[Any, Any, None]) -> None:
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await last
