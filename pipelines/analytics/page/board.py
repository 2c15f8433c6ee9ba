"""What the page shows: the last minutes and hours, and what of them changed since when. Pure.

    minutes, trends ─► Board.add_… ─► a new version ─► Board.changes_since(version) ─► a reader

A reader that asks seldom gets everything since in one answer, so nothing waits for anybody. The
bounds of memory:

    MINUTES_SHOWN, HOURS_SHOWN   older ones are forgotten
    MAX_COUNTS                   counts (keys of the topic) of all minutes; with more, the earliest
                                 minute is forgotten, so that what is shown stays whole
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from pipelines.analytics.minutes import MINUTE_US, MinuteCount, minute_of, minute_text
from pipelines.analytics.trends import HOUR_US, HourTrend, Listing, Trend, hour_of, sum_by_hour

MINUTES_SHOWN: Final = 180
HOURS_SHOWN: Final = 24
# Some 300 a minute and 4 partitions. A count takes about 200 bytes.
MAX_COUNTS: Final = 300_000
# Of each list; the topic has more.
LISTED_COUNT: Final = 25


class Changes(NamedTuple):
    """What a reader does not know yet.

    Attributes:
        version: of the board; what the reader knows once it has these.
        value: for JSON: `minutes` and `hours` that changed, each as a whole, and `since`, the
            earliest minute that is shown, or None.
    """

    version: int
    value: Mapping[str, Any]


class Board:
    """What is shown now."""

    def __init__(self) -> None:
        self.version = 0
        self._minutes: dict[int, _Minute] = {}
        self._hours: dict[int, _Hour] = {}
        self._counts_count = 0
        # Minutes before it were forgotten, or are too old to be shown.
        self._first_minute_us = 0

    def add_minute(self, count: MinuteCount) -> None:
        """Takes over a message of the topic `minutes`; the last one for a key is valid."""
        minute_us = count.cell.minute_us
        if minute_us < self._first_minute_us:
            return
        minute = self._minutes.setdefault(minute_us, _Minute())
        self._counts_count += minute.add(count)
        minute.version = self.version = self.version + 1
        while self._counts_count > MAX_COUNTS and len(self._minutes) > 1:
            self._forget_minute(min(self._minutes))

    def add_trend(self, trend: Trend) -> None:
        """Takes over a message of the topic `trends`; the last one for a key is valid."""
        hour = self._hours.setdefault(trend.hour_us, _Hour())
        hour.parts[trend.key] = trend
        hour.summary = None
        hour.version = self.version = self.version + 1

    def forget_old(self, now_us: int) -> None:
        """Forgets what is too old to be shown.

        Args:
            now_us: the time, microseconds since the epoch.
        """
        first_us = minute_of(now_us) - (MINUTES_SHOWN - 1) * MINUTE_US
        for minute_us in [found for found in self._minutes if found < first_us]:
            self._forget_minute(minute_us)
        self._first_minute_us = max(self._first_minute_us, first_us)
        first_hour_us = hour_of(now_us) - (HOURS_SHOWN - 1) * HOUR_US
        self._hours = {us: hour for us, hour in self._hours.items() if us >= first_hour_us}

    def changes_since(self, version: int) -> Changes:
        """Returns what changed after a version.

        Args:
            version: what the reader knows; 0 for nothing.
        """
        minutes = {
            minute_text(us): minute.shown()
            for us, minute in sorted(self._minutes.items())
            if minute.version > version
        }
        hours = {
            minute_text(us): hour.shown()
            for us, hour in sorted(self._hours.items())
            if hour.version > version
        }
        since = minute_text(min(self._minutes)) if self._minutes else None
        return Changes(self.version, {"minutes": minutes, "hours": hours, "since": since})

    def _forget_minute(self, minute_us: int) -> None:
        self._counts_count -= len(self._minutes.pop(minute_us).counts)
        self._first_minute_us = max(self._first_minute_us, minute_us + MINUTE_US)


@dataclass(slots=True)
class _Minute:
    """The counts of a minute by key, and their sums."""

    version: int = 0
    counts: dict[bytes, MinuteCount] = field(default_factory=dict)
    collections: Counter[str] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)
    deletes_count: int = 0

    def add(self, count: MinuteCount) -> bool:
        """Takes over a count; returns whether its key is new."""
        before = self.counts.get(count.key)
        self.counts[count.key] = count
        if before is not None:
            self._sum(before, -1)
        self._sum(count, 1)
        return before is None

    def _sum(self, count: MinuteCount, sign: int) -> None:
        total_count = sign * count.operations.total_count
        self.collections[count.cell.collection] += total_count
        self.languages[count.cell.language] += total_count
        self.deletes_count += sign * count.operations.deletes_count

    def shown(self) -> dict[str, Any]:
        return {
            "collections": dict(self.collections.most_common()),
            "languages": dict(self.languages.most_common()),
            "deletes": self.deletes_count,
        }


@dataclass(slots=True)
class _Hour:
    """The parts of an hour by key, and what they are together."""

    version: int = 0
    parts: dict[bytes, Trend] = field(default_factory=dict)
    summary: HourTrend | None = None

    def shown(self) -> dict[str, Any]:
        if self.summary is None:
            [self.summary] = sum_by_hour(self.parts.values()).values()
        return {
            "records": self.summary.records_count,
            "accounts": self.summary.accounts_count,
            **{kind.value: _shown(listing) for kind, listing in self.summary.listings.items()},
        }


def _shown(listing: Listing) -> list[dict[str, Any]]:
    return [mention._asdict() for mention in listing.mentions[:LISTED_COUNT]]
