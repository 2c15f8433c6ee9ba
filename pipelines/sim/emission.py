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
from enum import StrEnum

from pipelines.sim.network import CapturedFrame


class CursorHabit(StrEnum):
    """Whether the frame that a cursor names is sent again. spec: F-23."""

    EXCLUSIVE = "exclusive"  # seq > cursor: deployed relays and hosts
    INCLUSIVE = "inclusive"  # seq >= cursor: the specification


class FutureCursorError(Exception):
    """A cursor is ahead of everything the relay has."""


@dataclass(frozen=True, slots=True)
class Start:
    """Where a subscriber starts.

    Attributes:
        index: of the first frame to send.
        is_outdated: whether frames that the cursor asks for are no longer kept.
    """

    index: int
    is_outdated: bool = False


class History:
    """The frames of a capture as they come into being."""

    def __init__(
        self,
        frames: Sequence[CapturedFrame],
        *,
        rate: float = 0,
        cursor_habit: CursorHabit = CursorHabit.EXCLUSIVE,
        retained_count: int | None = None,
    ) -> None:
        """Prepares a history that has not begun.

        Args:
            frames: in order; a frame without sequence number stands with the one after it.
            rate: frames per second; 0 for all at once.
            cursor_habit: whether a cursor includes the frame it names.
            retained_count: how many emitted frames are kept for cursors; None for all.
        """
        self.frames = frames
        self._rate = rate
        self._cursor_habit = cursor_habit
        self._retained_count = retained_count
        self._last_seq = max((frame.seq for frame in frames if frame.seq is not None), default=0)
        # `_base_count` frames existed at `_base_s`; None before the history began.
        self._base_s: float | None = None
        self._base_count = 0

    def emitted_count(self, now_s: float) -> int:
        """Returns how many frames exist."""
        if self._base_s is None:
            return 0
        if self._rate == 0:
            return len(self.frames)
        since_base = math.floor((now_s - self._base_s) * self._rate)
        return min(len(self.frames), self._base_count + since_base)

    def wait_s(self, index: int, now_s: float) -> float | None:
        """Returns the seconds until a frame exists: 0 if it does, None if it never will.

        Args:
            index: of the frame, in a history that has begun.
            now_s: the clock.
        """
        if index >= len(self.frames):
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

    def _index_of(self, cursor: int) -> int:
        """Returns the index of the first frame a cursor asks for.

        Frames without sequence number right before it belong to it: a subscriber that asks from
        the frame before them cannot be known to have them.
        """
        first = cursor if self._cursor_habit is CursorHabit.INCLUSIVE else cursor + 1
        index = next(
            (
                index
                for index, frame in enumerate(self.frames)
                if frame.seq is not None and frame.seq >= first
            ),
            len(self.frames),
        )
        while index > 0 and self.frames[index - 1].seq is None:
            index -= 1
        return index
