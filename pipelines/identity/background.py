"""A fetcher in a thread of its own, for callers that are not written for an event loop."""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self, TypeVar

from pipelines.identity.fetching import Fetcher

T = TypeVar("T")


class BackgroundFetcher:
    """Runs what uses a fetcher while the block lasts; what is under way at its end is cut off.

    Attributes:
        fetcher: for coroutines that are handed to `run`; it belongs to their event loop.
    """

    def __init__(self, fetcher: Fetcher, name: str) -> None:
        """Takes a fetcher over.

        Args:
            fetcher: not used yet.
            name: of the thread.
        """
        self.fetcher = fetcher
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def get(self, url: str, limit_bytes: int) -> Future[bytes]:
        """Begins to get a document; arguments and outcome as of `Fetcher.get`."""
        return self.run(self.fetcher.get(url, limit_bytes))

    def run(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Begins to run a coroutine in the fetcher's event loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _close(self) -> None:
        under_way = asyncio.all_tasks() - {asyncio.current_task()}
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        await self.fetcher.close()
