"""The time of a generated network, which passes from event to event and by no other clock."""

from datetime import UTC, datetime
from random import Random
from typing import Final

from pipelines.atproto.syntax import Tid, make_tid

# 2026-01-01T00:00:00Z: so far back that a network may run at many times its own pace for long
# before it meets the present.
START_US: Final = 1_767_225_600_000_000
# The mean of the live network: 350 events a second.
_MEAN_STEP_US: Final = 2_857
# More than the TIDs that one event takes, so that two events never share one.
_MIN_STEP_US: Final = 500


class Clock:
    """The clock of one host.

    Attributes:
        now_us: microseconds since the epoch.
    """

    def __init__(self, clock_id: int) -> None:
        """Starts at `START_US`; `clock_id` is what all its TIDs have in common."""
        self.now_us = START_US
        self._clock_id = clock_id
        self._second = -1
        self._second_text = ""

    def pass_time(self, random: Random) -> None:
        """Moves on to the next event."""
        spread_us = 2 * (_MEAN_STEP_US - _MIN_STEP_US)
        self.now_us += _MIN_STEP_US + int(spread_us * random.random())

    def tid(self) -> Tid:
        """Returns a TID that is higher than every earlier one."""
        self.now_us += 1
        return make_tid(self.now_us, self._clock_id)

    def text(self) -> str:
        """Returns the time as records and messages have it: RFC 3339 with milliseconds."""
        second, below_us = divmod(self.now_us, 1_000_000)
        if second != self._second:
            self._second = second
            self._second_text = f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}"
        return f"{self._second_text}.{below_us // 1_000:03}Z"
