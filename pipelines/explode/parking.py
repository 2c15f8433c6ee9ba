"""The frames of one partition that wait: whose they are, in which order, and when to try again.

    queues      pointers by account, in the order of the frames
    due         when to look at which account again

The frames of an account leave in order. While there is one, the next waits behind it; other
accounts go on. Pure: time comes in as microseconds since the epoch.

What is full, and what happens then:

    all frames of the partition    MAX_PARKED_COUNT        `is_full`: the worker waits
    those of one account           MAX_OF_ACCOUNT_COUNT    its first is given up
    those of did:web accounts      MAX_OF_WEB_COUNT        the first of the account that waits for
                                                           longest is given up
    age of a frame                 `limit_us`              it is given up

The directory serves practically everybody: when it is away, the worker has to wait at some time.
A did:web account has a host of its own, and whoever owns a domain can make up any number of them:
they cannot stop the others.
"""

from bisect import bisect_left
from collections.abc import Iterable
from heapq import heappop, heappush
from itertools import islice
from operator import attrgetter
from typing import Final

from pipelines.atproto.syntax import Did
from pipelines.explode.pointers import Pointer

# 0.3 to 0.7 kB each. At 350 frames a second, of which one in ten is of an account that is not
# known, four partitions take an outage of three hours.
MAX_PARKED_COUNT: Final = 100_000
# A busy account has some frames a second; longer than some minutes only robots do.
MAX_OF_ACCOUNT_COUNT: Final = 2_000
MAX_OF_WEB_COUNT: Final = 10_000

_WEB: Final = "did:web:"

_offset = attrgetter("frame_offset")


class Parking:
    """The waiting frames of one partition.

    Attributes:
        frames_count: how many there are.
    """

    def __init__(self, limit_us: int) -> None:
        """Starts empty.

        Args:
            limit_us: how long a frame may wait.
        """
        self.frames_count = 0
        self._limit_us = limit_us
        self._queues: dict[Did, list[Pointer]] = {}
        self._due_us: dict[Did, int] = {}
        self._schedule: list[tuple[int, Did]] = []  # a heap; entries may be out of date
        self._crowded: dict[Did, None] = {}  # accounts with too many frames
        self._web: dict[Did, None] = {}  # did:web accounts, those that wait for longest first
        self._web_count = 0

    @property
    def accounts_count(self) -> int:
        """How many accounts' frames wait."""
        return len(self._queues)

    @property
    def is_full(self) -> bool:
        """Whether no more may be parked."""
        return self.frames_count >= MAX_PARKED_COUNT

    def __contains__(self, did: Did) -> bool:
        return did in self._queues

    def add(self, pointer: Pointer, due_us: int) -> None:
        """Parks a frame, behind those of its account that come before it.

        A frame that waits already is met again if somebody moved the group back.

        Args:
            pointer: the frame.
            due_us: when to look at the account; counts only for its first frame.
        """
        did = pointer.did
        queue = self._queues.get(did)
        if queue is None:
            queue = self._queues[did] = []
            self.postpone(did, due_us)
            if did.startswith(_WEB):
                self._web[did] = None
        place = len(queue)
        if queue and queue[-1].frame_offset >= pointer.frame_offset:
            place = bisect_left(queue, pointer.frame_offset, key=_offset)
            if queue[place].frame_offset == pointer.frame_offset:
                return
        queue.insert(place, pointer)
        self.frames_count += 1
        self._web_count += did in self._web
        if len(queue) > MAX_OF_ACCOUNT_COUNT:
            self._crowded[did] = None

    def restore(self, pointers: Iterable[Pointer], due_us: int) -> None:
        """Takes over what was parked before.

        Args:
            pointers: in any order.
            due_us: when to look at their accounts.
        """
        for pointer in sorted(pointers, key=_offset):
            self.add(pointer, due_us)

    def remove(self, pointer: Pointer) -> None:
        """Ends the waiting of a frame, which is the first of its account."""
        did = pointer.did
        queue = self._queues[did]
        first = queue.pop(0)
        assert first.frame_offset == pointer.frame_offset
        self.frames_count -= 1
        self._web_count -= did in self._web
        if len(queue) <= MAX_OF_ACCOUNT_COUNT:
            self._crowded.pop(did, None)
        if not queue:
            del self._queues[did]
            self._due_us.pop(did, None)
            self._web.pop(did, None)

    def postpone(self, did: Did, due_us: int) -> None:
        """Sets when to look at an account again."""
        self._due_us[did] = due_us
        heappush(self._schedule, (due_us, did))

    def take_due(self, now_us: int, max_count: int) -> list[Did]:
        """Returns accounts to look at now: those without room first, then those due for longest.

        Whoever takes one has to postpone it, unless nothing of it is left.

        Args:
            now_us: the time.
            max_count: how many at most.
        """
        found = list(islice(self._crowded, max_count))
        if self._web_count > MAX_OF_WEB_COUNT:
            found.append(next(iter(self._web)))
        while self._schedule and self._schedule[0][0] <= now_us and len(found) < max_count:
            due_us, did = heappop(self._schedule)
            if self._due_us.get(did) == due_us:
                del self._due_us[did]
                found.append(did)
        return list(dict.fromkeys(found))

    def first_of(self, did: Did, count: int) -> list[Pointer]:
        """Returns the first waiting frames of an account."""
        return self._queues[did][:count]

    def must_give_up(self, pointer: Pointer, now_us: int) -> bool:
        """Tells whether a frame, the first of its account, may not wait any longer."""
        if now_us - pointer.parked_us >= self._limit_us or pointer.did in self._crowded:
            return True
        return self._web_count > MAX_OF_WEB_COUNT and next(iter(self._web)) == pointer.did
