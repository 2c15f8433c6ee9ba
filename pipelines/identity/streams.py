"""Bodies that are handed on while they arrive, with limits of size, time and slowness.

A host that sends a byte a second keeps a slot busy for ever; one that sends without end fills the
disk. So there is a largest size, a longest time, and a lowest speed, which has to be kept up over
each window of time spent waiting for the host. The time that the taker needs does not count
against the host, except to the longest time. (spec: M-07)

Pure, but for the clock of the event loop.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

# 20 kB a second: far below any server that means to answer.
DEFAULT_WINDOW_S: Final = 30.0
DEFAULT_WINDOW_BYTES: Final = 600_000
# Small pieces of the network are joined before they are handed on.
PIECE_BYTES: Final = 256 * 1024

# Takes the next piece; the host is not read meanwhile.
Sink: TypeAlias = Callable[[bytes], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """Bounds of a stream.

    Attributes:
        total_bytes: its largest size.
        total_s: the longest time from the first byte to the last.
        window_s: a window of waiting; also the longest wait for a next piece.
        window_bytes: what has to come in each window.
    """

    total_bytes: int
    total_s: float
    window_s: float = DEFAULT_WINDOW_S
    window_bytes: int = DEFAULT_WINDOW_BYTES


class Pieces(Protocol):
    """A body as an HTTP client gives it."""

    async def readany(self) -> bytes:
        """Returns what has come, at least a byte; nothing at the end."""


class TooSlowError(TimeoutError):
    """A stream is slower than it may be."""


class SpeedCheck:
    """Whether a stream keeps up the lowest speed."""

    def __init__(self, limits: StreamLimits) -> None:
        self._limits = limits
        self._waited_s = 0.0
        self._count = 0

    def took(self, waited_s: float, size_bytes: int) -> None:
        """Notes a piece.

        Args:
            waited_s: how long it was waited for.
            size_bytes: its size.

        Raises:
            TooSlowError: a window of waiting is over and brought too little.
        """
        self._waited_s += waited_s
        self._count += size_bytes
        if self._waited_s < self._limits.window_s:
            return
        if self._count < self._limits.window_bytes:
            raise TooSlowError(f"only {self._count} bytes in {self._waited_s:.0f} s")
        self._waited_s, self._count = 0.0, 0


async def pour(body: Pieces, sink: Sink, limits: StreamLimits) -> bool:
    """Hands a body on, piece by piece.

    Args:
        body: where it comes from.
        sink: where it goes.
        limits: bounds.

    Returns:
        Whether that was all; False as soon as it is larger than it may be.

    Raises:
        TimeoutError: it is too slow, or takes too long.
    """
    try:
        async with asyncio.timeout(limits.total_s) as deadline:
            return await _pour(body, sink, limits)
    except TimeoutError:
        if deadline.expired():
            raise TimeoutError(f"not at its end after {limits.total_s:g} s") from None
        raise


async def _pour(body: Pieces, sink: Sink, limits: StreamLimits) -> bool:
    clock = asyncio.get_running_loop().time
    speed = SpeedCheck(limits)
    total_bytes = 0
    waiting = bytearray()
    while True:
        asked_s = clock()
        piece = await body.readany()
        if not piece:
            break
        speed.took(clock() - asked_s, len(piece))
        total_bytes += len(piece)
        if total_bytes > limits.total_bytes:
            return False
        waiting += piece
        if len(waiting) >= PIECE_BYTES:
            await sink(bytes(waiting))
            waiting.clear()
    if waiting:
        await sink(bytes(waiting))
    return True
