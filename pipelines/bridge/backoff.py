"""How long to wait before connecting to the upstream again.

Pure: chance comes in as a function. The waits double with each failure and vary by half, so that
the many readers a relay loses at once do not all come back at once.
"""

from collections.abc import Callable
from enum import Enum, auto

FIRST_PAUSE_S = 1.0
MAX_PAUSE_S = 60.0
# For what a person has to mend, as a cursor ahead of the upstream: trying costs both sides
# something, and soon is as good as often.
LONG_PAUSE_S = 300.0
# A connection that lasted this long was a good one: the next failure is a first one again.
HEALTHY_S = 60.0
# An upstream may ask for more patience than ours (Retry-After), within reason.
MAX_RETRY_AFTER_S = 3600.0


class Pause(Enum):
    """What kind of wait a failure calls for."""

    AT_ONCE = auto()
    BACK_OFF = auto()
    LONG = auto()


class Backoff:
    """The waits between the connections to one upstream."""

    def __init__(self, random: Callable[[], float]) -> None:
        """Starts without failures.

        Args:
            random: gives numbers from 0 to 1.
        """
        self._random = random
        self._failures_count = 0

    def next_pause_s(
        self, pause: Pause, *, connected_s: float, retry_after_s: float | None = None
    ) -> float:
        """Returns the wait after a connection ended or could not be made.

        Args:
            pause: the kind of wait. At once goes only after a connection that was there for
                `FIRST_PAUSE_S`: an upstream could have us connect without end otherwise.
            connected_s: how long the connection lasted; 0 if there was none.
            retry_after_s: what the upstream asked for, if it did.
        """
        if connected_s >= HEALTHY_S:
            self._failures_count = 0
        if pause is Pause.AT_ONCE and connected_s >= FIRST_PAUSE_S:
            return 0.0
        if pause is Pause.LONG:
            longest_s = LONG_PAUSE_S
        else:
            longest_s = min(MAX_PAUSE_S, FIRST_PAUSE_S * 2.0**self._failures_count)
            # Beyond the limit counting on would only overflow.
            self._failures_count += longest_s < MAX_PAUSE_S
        pause_s = longest_s * (0.5 + 0.5 * self._random())
        return max(pause_s, min(retry_after_s or 0.0, MAX_RETRY_AFTER_S))
