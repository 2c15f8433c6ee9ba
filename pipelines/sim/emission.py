"""Which captured frames exist at a moment, and where a subscriber starts to read them.

The frames of a capture are one history that all subscribers share. It begins when the first
subscriber connects; from then on frames come into being at a fixed rate, whether somebody reads
them or not. Nothing runs in the background: what exists follows from the clock, which callers pass
in as seconds of a monotonic clock.

    0 ............ oldest ............ emitted ............ total
      emitted, no     what a cursor      not yet,
      longer kept     may start in       a live subscriber
                                         starts at `emitted`

A cursor inside the capture but ahead of what this run has emitted is not in the future: an
earlier run served it, and a relay keeps its history over a restart. It moves `emitted` up.

spec: F-22 to F-26
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.sim.ports import (
    READ_COUNT,
    CursorHabit,
    Emission,
    FutureCursorError,
    Start,
)


@dataclass(frozen=True, slots=True)
class CapturedFrame:
    """One websocket message.

    Attributes:
        seq: its sequence number; None where it has none or none that can be read.
        message: bytes of a binary message, or the text of a text message (which no relay sends;
            tests do).
    """

    seq: int | None
    message: bytes | str


class CapturedHistory:
    """The frames of a capture as they come into being."""

    def __init__(self, frames: Sequence[CapturedFrame], emission: Emission) -> None:
        """Prepares a history that has not begun.

        Args:
            frames: in order; a frame without sequence number stands with the one after it.
            emission: rate (0: all at once) and habits.
        """
        self.total_count = self.prepared_count = len(frames)
        self._frames = frames
        self._rate = emission.rate
        self._cursor_habit = emission.cursor_habit
        self._retained_count = emission.retained_count
        self._last_seq = max((frame.seq for frame in frames if frame.seq is not None), default=0)
        # `_base_count` frames existed at `_base_s`; None before the history began.
        self._base_s: float | None = None
        self._base_count = 0

    def emitted_count(self, now_s: float) -> int:
        """Returns how many frames exist."""
        if self._base_s is None:
            return 0
        if self._rate == 0:
            return len(self._frames)
        since_base = math.floor((now_s - self._base_s) * self._rate)
        return min(len(self._frames), self._base_count + since_base)

    def wait_s(self, index: int, now_s: float) -> float | None:
        """Returns the seconds until a frame exists: 0 if it does, None if it never will.

        Args:
            index: of the frame, in a history that has begun.
            now_s: the clock.
        """
        if index >= len(self._frames):
            return None
        if index < self.emitted_count(now_s):
            return 0
        assert self._base_s is not None
        due_s = self._base_s + (index + 1 - self._base_count) / self._rate
        return max(0, due_s - now_s)

    def subscribe(self, cursor: int | None, now_s: float) -> Start:
        """Returns where a new subscriber starts; the history begins if it has not.

        Args:
            cursor: last sequence number the subscriber has; 0 for everything that is kept; None
                for what is emitted from now on.
            now_s: the clock.

        Raises:
            FutureCursorError: the cursor is over the last sequence number of the capture.
        """
        if cursor is not None and cursor > self._last_seq:
            raise FutureCursorError
        emitted = self.emitted_count(now_s)
        if self._base_s is None:
            self._base_s = now_s
        if cursor is None:
            return Start(emitted)
        index = self._index_of(cursor)
        if index > emitted:
            self._base_s, self._base_count = now_s, index
        emitted = self.emitted_count(now_s)
        oldest = 0 if self._retained_count is None else max(0, emitted - self._retained_count)
        if index >= oldest:
            return Start(index)
        return Start(oldest, is_outdated=cursor > 0)

    def read(self, index: int, now_s: float) -> list[bytes | str]:
        """Returns existing messages from an index on, as `History` says: all are kept."""
        end = min(index + READ_COUNT, self.emitted_count(now_s))
        return [frame.message for frame in self._frames[index:end]]

    def work(self, _now_s: float) -> None:
        """There is nothing to do that nobody asks for."""

    def _index_of(self, cursor: int) -> int:
        """Returns the index of the first frame a cursor asks for.

        Frames without sequence number right before it belong to it: a subscriber that asks from
        the frame before them cannot be known to have them.
        """
        first = cursor if self._cursor_habit is CursorHabit.INCLUSIVE else cursor + 1
        index = next(
            (
                index
                for index, frame in enumerate(self._frames)
                if frame.seq is not None and frame.seq >= first
            ),
            len(self._frames),
        )
        while index > 0 and self._frames[index - 1].seq is None:
            index -= 1
        return index
