"""A message of the topic `trends`: what an hour was about, to bytes and back, and added up. Pure.

The form of a message is that of `schemas/json/trends/`. One message is about the records of one
partition number that one life of a process counted; the numbers of an hour are those of all its
messages together: lists and their bounds are added, sketches of accounts are united. Accounts are
counted with a HyperLogLog sketch of Apache DataSketches, whose bytes other languages read, too.
"""

import base64
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import datasketches
import orjson

from pipelines.analytics.mentions import Kind
from pipelines.analytics.minutes import minute_text, parse_time

TOPIC: Final = "trends"
HOUR_US: Final = 3_600_000_000
# In each list of a message.
MAX_LISTED_COUNT: Final = 100
# Registers of a HyperLogLog sketch, as a power of two: 2 kB, and off by 1.6 % (standard error).
ACCOUNTS_LG_K: Final = 12


class Mention(NamedTuple):
    """How often something was mentioned, as far as is known.

    Attributes:
        item: what; see `mentions.mentions_of`.
        low: at least so often.
        high: at most so often.
    """

    item: str
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Listing:
    """The most frequent mentions of one kind.

    Attributes:
        mentions: the most frequent first.
        unlisted_high: what is not listed was mentioned so often at most.
    """

    mentions: tuple[Mention, ...] = ()
    unlisted_high: int = 0


@dataclass(frozen=True, slots=True)
class Trend:
    """One message.

    Attributes:
        hour_us: start of the hour, microseconds since the epoch.
        partition: of the record topics, and of the message.
        collection: of the first record counted: its NSID where it has a record topic of its own,
            else `other`.
        first_offset: of that record in its topic. No other message's first record is this one.
        records_count: records counted, of any collection and operation.
        accounts: sketch of the DIDs of their repositories.
        listings: by kind.
    """

    hour_us: int
    partition: int
    collection: str
    first_offset: int
    records_count: int
    accounts: datasketches.hll_sketch
    listings: Mapping[Kind, Listing]

    @property
    def key(self) -> bytes:
        """The message key, under which a later message replaces this one."""
        hour = minute_text(self.hour_us)
        return f"{hour}/{self.partition}/{self.collection}/{self.first_offset}".encode()

    @property
    def value(self) -> bytes:
        """The message value."""
        fields: dict[str, Any] = {
            "hour": minute_text(self.hour_us),
            "partition": self.partition,
            "collection": self.collection,
            "first_offset": self.first_offset,
            "records": self.records_count,
            "accounts": round(self.accounts.get_estimate()),
            "accounts_sketch": base64.b64encode(self.accounts.serialize_compact()).decode(),
        }
        for kind in Kind:
            listing = self.listings[kind]
            fields[kind.value] = [mention._asdict() for mention in listing.mentions]
            fields[f"{kind}_unlisted_high"] = listing.unlisted_high
        return orjson.dumps(fields)


@dataclass(frozen=True, slots=True)
class HourTrend:
    """An hour as far as it was counted.

    Attributes:
        records_count: records counted.
        accounts_count: distinct accounts, estimated.
        listings: by kind.
    """

    records_count: int
    accounts_count: int
    listings: Mapping[Kind, Listing]


def parse_trend(value: bytes) -> Trend:
    """Returns what a message value says.

    Raises:
        ValueError: it is no message of the topic.
    """
    try:
        fields = orjson.loads(value)
        sketch = base64.b64decode(fields["accounts_sketch"], validate=True)
        return Trend(
            hour_us=parse_time(fields["hour"]),
            partition=fields["partition"],
            collection=fields["collection"],
            first_offset=fields["first_offset"],
            records_count=fields["records"],
            accounts=datasketches.hll_sketch.deserialize(sketch),
            listings={
                kind: Listing(
                    tuple(Mention(**mention) for mention in fields[kind]),
                    fields[f"{kind}_unlisted_high"],
                )
                for kind in Kind
            },
        )
    # The sketch's library raises RuntimeError for bytes that are none.
    except (KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f"not a message of the topic {TOPIC}: {error}") from None


def sum_by_hour(trends: Iterable[Trend]) -> dict[int, HourTrend]:
    """Adds up the messages of each hour.

    Args:
        trends: the last message of each key.

    Returns:
        By start of the hour, microseconds since the epoch, the earliest first.
    """
    by_hour: dict[int, list[Trend]] = defaultdict(list)
    for trend in trends:
        by_hour[trend.hour_us].append(trend)
    return {
        hour_us: HourTrend(
            records_count=sum(trend.records_count for trend in parts),
            accounts_count=count_accounts(trend.accounts for trend in parts),
            listings={
                kind: _sum_listings([trend.listings[kind] for trend in parts]) for kind in Kind
            },
        )
        for hour_us, parts in sorted(by_hour.items())
    }


def count_accounts(sketches: Iterable[datasketches.hll_sketch]) -> int:
    """Returns how many distinct accounts are in any of some sketches, estimated."""
    union = datasketches.hll_union(ACCOUNTS_LG_K)
    for sketch in sketches:
        union.update(sketch)
    estimate: float = union.get_estimate()
    return round(estimate)


def hour_of(time_us: int) -> int:
    """Returns the start of the hour that a time lies in; both microseconds since the epoch."""
    return time_us - time_us % HOUR_US


def _sum_listings(listings: list[Listing]) -> Listing:
    """Adds up lists: what one of them does not list may still have been counted there."""
    unlisted_high = sum(listing.unlisted_high for listing in listings)
    lows: dict[str, int] = defaultdict(int)
    highs: dict[str, int] = defaultdict(lambda: unlisted_high)
    for listing in listings:
        for mention in listing.mentions:
            lows[mention.item] += mention.low
            highs[mention.item] += mention.high - listing.unlisted_high
    mentions = [Mention(item, low, highs[item]) for item, low in lows.items()]
    return most_frequent(mentions, unlisted_high)


def most_frequent(mentions: Iterable[Mention], unlisted_high: int) -> Listing:
    """Returns the list of the most frequent ones.

    Args:
        mentions: in any order.
        unlisted_high: what is not among them was mentioned so often at most.
    """
    ranked = sorted(mentions, key=lambda mention: (-mention.low, -mention.high, mention.item))
    rest = (mention.high for mention in ranked[MAX_LISTED_COUNT:])
    return Listing(tuple(ranked[:MAX_LISTED_COUNT]), max(unlisted_high, *rest, 0))
