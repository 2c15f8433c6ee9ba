"""HTTP servers of ours: where they listen, and how they end."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

from pipelines.errors import ConfigError

# What answers are given to finish when a server stops.
_REQUEST_TIMEOUT_S: Final = 2.0


@asynccontextmanager
async def listening(app: web.Application, host: str, port: int) -> AsyncIterator[tuple[str, int]]:
    """Serves an application while the block runs.

    Args:
        app: the application.
        host: where to listen.
        port: likewise; 0 for any that is free.

    Yields:
        Host and port where it listens.

    Raises:
        ConfigError: it cannot listen there.
    """
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_REQUEST_TIMEOUT_S)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {host}:{port} ({error.strerror}): "
                "choose another port, or 0 for any free one"
            ) from None
        address = runner.addresses[0]
        yield address[0], address[1]
    finally:
        await runner.cleanup()
