"""What a cursor means: from an upstream's sequence number to a place in its order. Pure.

A cursor is the last number that a subscriber has; it gets the ones above it. spec: F-22 to F-26

An upstream that begins its numbers anew has several rows of them, and a number may be in more than
one. A cursor means the latest row that has it, and what follows it is the rest of that row and all
later ones:

    rows                   1 … 900 | 1 … 40
    cursor 30              the second row, from 31 on
    cursor 500             the first row, from 501 on, then the second one
    cursor 901             above all: it is from the future
    a cursor between rows, or below all of them: it is outdated, so everything there is

One mark is kept for every `MARK_EPOCHS` epochs. So a subscriber begins a little before its cursor,
and what it has is left out; and the oldest frames that are served are those from the first mark
on behind which nothing was deleted.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from pipelines.kafka.messages import Position
from pipelines.serving.ring import Place

# Half a minute of a bridge that writes ten a second.
MARK_EPOCHS: Final = 256
# Some 300 bytes each for sixteen partitions; twenty days of such a bridge.
MAX_MARKS_COUNT: Final = 65_536


class FutureCursorError(Exception):
    """A cursor is above all numbers there are."""


class Start(NamedTuple):
    """Where a subscriber begins.

    Attributes:
        place: where reading begins.
        after_seq: of what is read up to `skip_end`, only numbers above this one are sent.
        skip_end: an offset of `epochs`.
        is_outdated: whether what follows its cursor may be gone.
    """

    place: Place
    after_seq: int = 0
    skip_end: int = 0
    is_outdated: bool = False


class _Mark(NamedTuple):
    lowest_seq: int
    place: Place


@dataclass(slots=True)
class _Row:
    """Numbers that rise.

    Attributes:
        start: offset of `epochs` of its first epoch.
        lowest_seq: the lowest that is still there.
        highest_seq: the highest one.
        marks: places in it.
    """

    start: int
    lowest_seq: int
    highest_seq: int
    marks: deque[_Mark] = field(default_factory=deque)


class Cursors:
    """Where the numbers of an upstream are."""

    def __init__(
        self, *, mark_epochs: int = MARK_EPOCHS, max_marks_count: int = MAX_MARKS_COUNT
    ) -> None:
        """Knows no numbers yet.

        Args:
            mark_epochs: as `MARK_EPOCHS`.
            max_marks_count: beyond it the oldest go, as if what is there was deleted.
        """
        self._mark_epochs = mark_epochs
        self._max_marks_count = max_marks_count
        self._rows: deque[_Row] = deque()
        self._marks_count = 0
        self._unmarked_count = 0
        self._is_first = True
        self._end = 0
        self._highest_seq = self._last_seq = 0
        self._last_place: Place = {}

    def add(self, offset: int, seqs: tuple[int, int], before: Place, after: Place) -> None:
        """Takes in an epoch.

        Args:
            offset: of the epoch, rising.
            seqs: its lowest and its highest number.
            before: the place before its frames. Of the first epoch it may be too low, as nobody
                knows where one that was deleted ended; so the second one is marked as well.
            after: the one behind them.
        """
        lowest_seq, highest_seq = seqs
        self._end = offset + 1
        self._last_place = after
        if not self._rows or lowest_seq <= self._rows[-1].highest_seq:
            self._rows.append(_Row(offset, lowest_seq, highest_seq))
            self._unmarked_count = 0
        row = self._rows[-1]
        row.highest_seq = self._last_seq = highest_seq
        self._highest_seq = max(self._highest_seq, highest_seq)
        if self._unmarked_count == 0:
            row.marks.append(_Mark(lowest_seq, before))
            self._marks_count += 1
            if self._marks_count > self._max_marks_count:
                self._drop_mark()
        self._unmarked_count = (self._unmarked_count + 1) % self._mark_epochs
        if self._is_first:
            self._is_first, self._unmarked_count = False, 0

    def find(self, cursor: int, present: Place, log_starts: Mapping[Position, int]) -> Start:
        """Returns where a subscriber begins.

        Args:
            cursor: 0 for everything there is.
            present: the place behind all that was taken in.
            log_starts: for each partition of `frames`, the offset of the first message there is.

        Raises:
            FutureCursorError: it is above all numbers.
        """
        while self._rows and self._is_deleted(self._rows[0].marks[0], log_starts):
            self._drop_mark()
        if cursor > self._highest_seq:
            raise FutureCursorError
        if cursor and cursor == self._last_seq:
            return Start(present)
        if cursor:
            end = self._end
            for row in reversed(self._rows):
                if row.lowest_seq - 1 <= cursor <= row.highest_seq:
                    found = bisect_right(row.marks, cursor + 1, key=lambda mark: mark.lowest_seq)
                    return Start(_begun(row.marks[found - 1].place, log_starts), cursor, end)
                end = row.start
        oldest = _begun(self._rows[0].marks[0].place, log_starts) if self._rows else present
        return Start(oldest, is_outdated=cursor > 0)

    def _is_deleted(self, mark: _Mark, log_starts: Mapping[Position, int]) -> bool:
        """Returns whether frames behind a mark may be gone.

        In a partition that the upstream has no more frames in, it does not matter.
        """
        return any(
            mark.place[where] < min(start, self._last_place[where])
            for where, start in log_starts.items()
        )

    def _drop_mark(self) -> None:
        row = self._rows[0]
        row.marks.popleft()
        self._marks_count -= 1
        if row.marks:
            row.lowest_seq = row.marks[0].lowest_seq
        else:
            self._rows.popleft()


def _begun(place: Place, log_starts: Mapping[Position, int]) -> Place:
    return {where: max(offset, log_starts.get(where, 0)) for where, offset in place.items()}
