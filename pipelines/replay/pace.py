"""Messages as slowly as they once came, or some times faster."""

import time
from collections.abc import Callable, Iterator
from typing import Final

# Longest sleep without a look whether to stop.
_SLEEP_S: Final = 0.2
# What a wait has to be worth: shorter ones are made up for by the next.
_LEAST_S: Final = 0.002


class Pace:
    """Lets messages go at the pace of their timestamps.

    These are the times of arrival at the bridge, in all topics that come from frames.
    """

    def __init__(
        self,
        speed: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Begins with the first message.

        Args:
            speed: how many times faster than they came.
            clock: seconds that only grow.
            sleep: waits for so many seconds.
        """
        self._speed = speed
        self._clock = clock
        self._sleep = sleep
        self._first: tuple[int, float] | None = None

    def wait_for(self, time_ms: int) -> Iterator[None]:
        """Waits until a message is due, and yields before each piece of that.

        Args:
            time_ms: timestamp of the message; one that is older than the one before is due.
        """
        if self._first is None:
            self._first = (time_ms, self._clock())
        first_ms, begun_s = self._first
        due_s = begun_s + (time_ms - first_ms) / 1000 / self._speed
        while (left_s := due_s - self._clock()) > _LEAST_S:
            yield
            self._sleep(min(left_s, _SLEEP_S))
