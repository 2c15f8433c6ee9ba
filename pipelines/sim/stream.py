"""The frames of a generated network: prepared ahead, emitted at a rate, kept for a while.

    0 ........... oldest ............. emitted ............. prepared
      emitted, no     what a cursor       exist, but nobody      not yet
      longer kept     may start in        has seen them          made

With a rate, frames come into being by the clock from the first subscription on. Without one they
do when the foremost subscriber takes them: so a network never runs away from its only reader, and
one without readers rests. What is told about accounts moves with the emission, event by event.

    what                         limit              when it is reached
    prepared frames              `prepared_bytes`   no more are made
    emitted frames               `retained_bytes`   the oldest go; who still needs them is too slow

A prepared frame takes about three times its size: its event also holds the records, and the nodes
in which its tree differs from the one before.

Frames are made ahead while nobody is served, and piece by piece once the prepared ones are gone:
both are work of the same thread, and a reader in a hurry gets all of it.

A network that runs faster than its own clock would write revisions from the future, which readers
refuse. So it waits when it has caught up with the present. spec: F-22 to F-27, G-05
"""

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from typing import Final

from pipelines.sim.events import Event
from pipelines.sim.ports import (
    READ_COUNT,
    CursorHabit,
    Emission,
    FutureCursorError,
    Start,
    SubscriberTooSlowError,
)
from pipelines.sim.truth import Truth, TruthLog

# Twenty-five thousand frames of the network's size: about a second of the fastest reader.
PREPARED_BYTES: Final = 128 * 1024 * 1024
# Fifty thousand frames: what a reader that was restarted may be behind.
RETAINED_BYTES: Final = 256 * 1024 * 1024

# How many sequence numbers a cursor may be ahead of a stream that begins: a run before this one
# may have been there. Beyond it the cursor is another network's; making a million takes minutes.
CATCH_UP_SEQS: Final = 1_000_000

# Pieces of work, so small that nobody waits long behind one: a few milliseconds.
_GENERATE_COUNT: Final = 16
_EMIT_COUNT: Final = 512

_IDLE_S: Final = 0.02
_PRESENT_S: Final = 0.1


class Stream:
    """The frames of a generated network as they come into being.

    Attributes:
        total_count: how many events there will ever be; None for no end.
        prepared_count: how many were made so far, emitted or not.
    """

    def __init__(
        self,
        events: Iterator[Event],
        truth: Truth,
        emission: Emission,
        *,
        wall_clock_us: Callable[[], int],
        events_count: int | None = None,
        prepared_bytes: int = PREPARED_BYTES,
        retained_bytes: int = RETAINED_BYTES,
        log: TruthLog | None = None,
    ) -> None:
        """Prepares a stream that has not begun.

        Args:
            events: what happens.
            truth: moves with the emission.
            emission: rate and habits.
            wall_clock_us: the time, microseconds since the epoch.
            events_count: how many events to emit; None for no end.
            prepared_bytes: frames made ahead; passed by one event at most.
            retained_bytes: emitted frames that are kept.
            log: gets each event that is emitted.
        """
        self.total_count = events_count
        self._events = events
        self._truth = truth
        self._emission = emission
        self._wall_clock_us = wall_clock_us
        self._log = log
        self._prepared: deque[Event] = deque()
        self._prepared_bytes = 0
        self._prepared_limit = prepared_bytes
        self._is_served = False
        self.prepared_count = 0
        self._last_made_us = 0
        self._retained = _Retained(retained_bytes, emission.retained_count)
        # `_base_count` frames existed at `_base_s`; None before the stream began.
        self._base_s: float | None = None
        self._base_count = 0

    def emitted_count(self, _now_s: float) -> int:
        """Returns how many frames exist."""
        return self._retained.next_index

    def wait_s(self, index: int, now_s: float) -> float | None:
        """Returns the seconds until a frame may exist, as `History` says."""
        if index < self._retained.next_index:
            return 0
        if self.total_count is not None and index >= self.total_count:
            return None
        if not self._prepared and self._has_met_the_present():
            return _PRESENT_S
        if self._emission.rate == 0:
            return 0
        assert self._base_s is not None
        due_s = self._base_s + (index + 1 - self._base_count) / self._emission.rate
        return max(0, due_s - now_s)

    def subscribe(self, cursor: int | None, now_s: float) -> Start | None:
        """Returns where a new subscriber starts, as `History` says.

        A cursor ahead of the stream is one of an earlier run of the same network: the frames up
        to it are emitted, piece by piece.
        """
        retained = self._retained
        if cursor is not None and cursor > retained.last_seq:
            if cursor - retained.last_seq > CATCH_UP_SEQS or not self._emit(_GENERATE_COUNT):
                raise FutureCursorError
            if cursor > retained.last_seq:
                return None
            self._base_s = None
        if self._base_s is None:
            self._base_s, self._base_count = now_s, retained.next_index
        if cursor is None:
            return Start(retained.next_index)
        is_inclusive = self._emission.cursor_habit is CursorHabit.INCLUSIVE
        first_seq = cursor if is_inclusive else cursor + 1
        is_outdated = cursor > 0 and first_seq <= retained.dropped_seq
        return Start(retained.index_of(first_seq), is_outdated=is_outdated)

    def read(self, index: int, now_s: float) -> Sequence[bytes]:
        """Returns existing messages from an index on, as `History` says."""
        if index < self._retained.oldest_index:
            raise SubscriberTooSlowError
        frames = self._retained.read(index, READ_COUNT)
        if not frames:  # only then: what is emitted takes the place of the oldest ones
            self._emit_due(now_s, wanted_count=index + READ_COUNT - self._retained.next_index)
            frames = self._retained.read(index, READ_COUNT)
        self._is_served |= bool(frames)
        return frames

    def work(self, now_s: float) -> float | None:
        """Emits the frames that are due, and makes some ahead unless somebody is served."""
        if self._base_s is not None and self._emission.rate:
            self._emit_due(now_s, wanted_count=0)
        is_served, self._is_served = self._is_served, False
        if not is_served:
            self._make(_GENERATE_COUNT)
        return 0 if self._may_make() else _IDLE_S

    def _emit_due(self, now_s: float, *, wanted_count: int) -> None:
        """Emits what the clock wants; without a rate, what a subscriber does."""
        if self._emission.rate:
            assert self._base_s is not None
            due_count = math.floor((now_s - self._base_s) * self._emission.rate)
            wanted_count = self._base_count + due_count - self._retained.next_index
        self._emit(min(wanted_count, _EMIT_COUNT))

    def _emit(self, count: int) -> bool:
        """Emits frames, making some if none are prepared; tells whether there were any."""
        if count > 0 and not self._prepared:
            self._make(_GENERATE_COUNT)
        events = [self._prepared.popleft() for _ in range(min(count, len(self._prepared)))]
        self._truth.apply(events)
        if self._log is not None:
            self._log.write(events)
        for event in events:
            self._prepared_bytes -= len(event.frame)
            self._retained.add(event.seq, event.frame)
        return bool(events)

    def _make(self, count: int) -> None:
        while count > 0 and self._may_make():
            event = next(self._events)
            self.prepared_count += 1
            self._last_made_us = event.time_us
            self._prepared_bytes += len(event.frame)
            self._prepared.append(event)
            count -= 1

    def _may_make(self) -> bool:
        return (
            self._prepared_bytes < self._prepared_limit
            and self.prepared_count != self.total_count
            and not self._has_met_the_present()
        )

    def _has_met_the_present(self) -> bool:
        return self._last_made_us > self._wall_clock_us()


class _Retained:
    """The emitted frames that are kept, by index.

    Attributes:
        next_index: how many frames were emitted.
        oldest_index: of the oldest frame that is kept.
        last_seq: of the newest frame; 0 before the first.
        dropped_seq: of the newest frame that is no longer kept; 0 while all are.
    """

    # Room at the front is given back when there is so much of it: moving the rest then costs
    # nothing worth mentioning.
    _COMPACT_COUNT: Final = 4_096

    def __init__(self, max_bytes: int, max_count: int | None) -> None:
        self.next_index = self.oldest_index = 0
        self.last_seq = self.dropped_seq = 0
        self._max_bytes = max_bytes
        self._max_count = max_count
        self._bytes = 0
        # Of the frames from `_first_index` on; those before `oldest_index` are empty.
        self._frames: list[tuple[int, bytes]] = []
        self._first_index = 0

    def add(self, seq: int, frame: bytes) -> None:
        """Adds the next frame and drops what is over the limits, never the frame itself."""
        self._frames.append((seq, frame))
        self._bytes += len(frame)
        self.last_seq = seq
        self.next_index += 1
        while self.next_index - self.oldest_index > 1 and self._is_over():
            self._drop()

    def read(self, index: int, count: int) -> list[bytes]:
        """Returns frames from an index on, which must be kept or not be there yet."""
        start = index - self._first_index
        return [frame for _, frame in self._frames[start : start + count]]

    def index_of(self, first_seq: int) -> int:
        """Returns the index of the first kept frame whose seq is not below a number."""
        low = self.oldest_index - self._first_index
        found = bisect_left(self._frames, first_seq, lo=low, key=itemgetter(0))
        return self._first_index + found

    def _is_over(self) -> bool:
        kept_count = self.next_index - self.oldest_index
        is_over_count = self._max_count is not None and kept_count > self._max_count
        return is_over_count or self._bytes > self._max_bytes

    def _drop(self) -> None:
        position = self.oldest_index - self._first_index
        self.dropped_seq, frame = self._frames[position]
        self._bytes -= len(frame)
        self._frames[position] = (self.dropped_seq, b"")
        self.oldest_index += 1
        if position >= self._COMPACT_COUNT:
            del self._frames[: position + 1]
            self._first_index = self.oldest_index
