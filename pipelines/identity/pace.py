"""How fast one host may be asked: a token bucket, and pauses when it is away or asks for one.

Pure: time comes in as seconds from any starting point, chance as a number from 0 up to 1.

A host that fails several times in a row is suspect. It is left alone for a moment, then a single
request finds out whether it is back, while all others go on being held; each failure doubles the
moment. An outage so costs a request now and then, and nobody waits for its time-outs.
"""

import math
import re
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

# Failures in a row that make a host suspect: fewer would stop at single mishaps.
SUSPECT_FAILURES_COUNT: Final = 5
# The first pause of a host that is away or overloaded, and the longest.
MIN_PAUSE_S: Final = 1.0
MAX_PAUSE_S: Final = 60.0
# The longest that a host may make us wait by asking us to.
MAX_RETRY_AFTER_S: Final = 300.0

_match_seconds = re.compile("[0-9]{1,9}").fullmatch


@dataclass(frozen=True, slots=True)
class PaceLimits:
    """What one host is asked at most.

    Attributes:
        concurrent_count: requests at once.
        per_s: requests a second in the long run.
        burst_count: requests that may come at once after a quiet time.
    """

    concurrent_count: int
    per_s: float
    burst_count: int


class TokenBucket:
    """Spreads requests so that a rate is kept; a token may be taken before it is there."""

    def __init__(self, per_s: float, burst_count: int) -> None:
        """Starts full.

        Args:
            per_s: tokens that arrive a second.
            burst_count: tokens that fit in.
        """
        self._per_s = per_s
        self._burst_count = burst_count
        self._tokens = float(burst_count)
        self._at_s = -math.inf

    def reserve(self, now_s: float, max_wait_s: float) -> float | None:
        """Takes a token, if need be one that is still to come.

        Args:
            now_s: the time.
            max_wait_s: the longest wait that is worth it.

        Returns:
            Seconds until the token is there; None if that is longer, and nothing was taken.
        """
        if now_s > self._at_s:
            gained = (now_s - self._at_s) * self._per_s
            self._tokens = min(float(self._burst_count), self._tokens + gained)
            self._at_s = now_s
        wait_s = max(0.0, (1 - self._tokens) / self._per_s)
        if wait_s > max_wait_s:
            return None
        self._tokens -= 1
        return wait_s

    def drain(self, until_s: float) -> None:
        """Takes all tokens out; none arrives before a time."""
        self._tokens = min(self._tokens, 0.0)
        self._at_s = max(self._at_s, until_s)


class Pace:
    """What is known of one host's patience.

    Attributes:
        bucket: keeps the rate.
    """

    def __init__(self, limits: PaceLimits) -> None:
        """Starts with a host of which nothing bad is known.

        Args:
            limits: what it is asked at most. How many requests are under way is not counted here.
        """
        self.bucket = TokenBucket(limits.per_s, limits.burst_count)
        self._failures_count = 0
        self._pause_s = 0.0
        self._paused_at_s = -math.inf
        self._asked_until_s = -math.inf  # the host wants to be left alone until then
        self._held_until_s = -math.inf  # it is away, and not asked until then

    def admit(self, now_s: float, probe_s: float) -> float:
        """Asks whether a request may be sent now.

        Args:
            now_s: the time.
            probe_s: how long an answer may take. If the host is suspect, this request is the one
                that finds out, and others are held for so long.

        Returns:
            0 if it may, else the seconds for which the host is to be left alone.
        """
        held_s = self.held_s(now_s)
        if not held_s and self._failures_count >= SUSPECT_FAILURES_COUNT:
            self._held_until_s = now_s + probe_s
        return held_s

    def held_s(self, now_s: float) -> float:
        """Returns for how many seconds the host is still to be left alone."""
        return max(0.0, max(self._asked_until_s, self._held_until_s) - now_s)

    def answered(self, sent_s: float) -> None:
        """Notes that the host answered what was asked at `sent_s`."""
        self._failures_count = 0
        self._held_until_s = -math.inf
        if sent_s >= self._paused_at_s:
            self._pause_s = 0.0

    def failed(self, sent_s: float, now_s: float, chance: float) -> None:
        """Notes that the host did not answer, or answered that something is wrong with it.

        Args:
            sent_s: when it was asked. What was asked before the last pause tells nothing new.
            now_s: the time.
            chance: spreads the ends of pauses, so that many workers do not come back at once.
        """
        if sent_s < self._paused_at_s:
            return
        self._failures_count += 1
        if self._failures_count >= SUSPECT_FAILURES_COUNT:
            self._held_until_s = self._pause(now_s, chance)

    def overloaded(
        self, sent_s: float, now_s: float, retry_after_s: float | None, chance: float
    ) -> None:
        """Notes that the host asked for a pause.

        Args:
            sent_s: when it was asked, as for `failed`.
            now_s: the time.
            retry_after_s: for how long, or None if it did not say: then as long as one that is
                away. More than `MAX_RETRY_AFTER_S` counts as that.
            chance: as for `failed`; a pause that was asked for becomes longer, never shorter.
        """
        if retry_after_s is not None:
            wanted_s = min(retry_after_s, MAX_RETRY_AFTER_S) + chance * MIN_PAUSE_S
            self._asked_until_s = max(self._asked_until_s, now_s + wanted_s)
        elif sent_s >= self._paused_at_s:
            self._asked_until_s = max(self._asked_until_s, self._pause(now_s, chance))
        # Afterwards at the rate, without a burst: that would be the next one too many.
        self.bucket.drain(self._asked_until_s)

    def _pause(self, now_s: float, chance: float) -> float:
        """Returns the end of the next pause."""
        self._pause_s = min(MAX_PAUSE_S, max(MIN_PAUSE_S, 2 * self._pause_s))
        self._paused_at_s = now_s
        return now_s + self._pause_s * (1 + chance) / 2


def parse_retry_after(text: str | None, now_s: float) -> float | None:
    """Reads the header `Retry-After` (RFC 9110, 10.2.3): a number of seconds, or a date.

    Args:
        text: its value; None where there is no such header.
        now_s: the time of day, seconds since the epoch.

    Returns:
        Seconds from now, at least 0 and at most `MAX_RETRY_AFTER_S`: whoever asks for more is
        asked again nevertheless. None if there is nothing to read.
    """
    text = (text or "").strip()
    if _match_seconds(text):
        return min(float(text), MAX_RETRY_AFTER_S)
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    # One of the three forms names no zone; all are in GMT.
    left_s = date.replace(tzinfo=date.tzinfo or UTC).timestamp() - now_s
    return min(max(0.0, left_s), MAX_RETRY_AFTER_S)
