"""What the topic `identities` has of an account, and what a worker makes of it."""

from collections.abc import Iterator
from enum import StrEnum
from typing import Any, Final, assert_never

import orjson

from pipelines.atproto.errors import IdentityError
from pipelines.atproto.syntax import Did
from pipelines.cli.identity_view import member_lines
from pipelines.config import KafkaConfig
from pipelines.identity.documents import Identity
from pipelines.identity.entries import IdentityEntry, encode_entry, parse_entry
from pipelines.identity.lifetimes import NEGATIVE_LIFETIME_US, SECOND_US, is_fresh, is_usable
from pipelines.identity.memory import RememberedKey
from pipelines.kafka.admin import check_partitions
from pipelines.kafka.partition import partition_for
from pipelines.kafka.reading import read_to_end
from pipelines.mirror.service import TOPIC

_OTHER_KEY: Final = f"{TOPIC} has another signing key than the document, and workers use it"


class CacheState(StrEnum):
    """What a worker does with an entry."""

    ABSENT = "absent"
    FRESH = "fresh"
    OLD = "old"
    EXPIRED = "expired"
    STALE = "stale"

    @property
    def meaning(self) -> str:
        """The same as a sentence."""
        match self:
            case CacheState.ABSENT:
                return "workers ask for the account when they meet it"
            case CacheState.FRESH:
                return "workers use it without asking"
            case CacheState.OLD:
                return "workers ask again, and use it while nobody answers"
            case CacheState.EXPIRED:
                return "workers ask again, and wait for the answer"
            case CacheState.STALE:
                return "the account announced a change since: workers ask again, and wait"
            case _:
                assert_never(self)


def cache_state(entry: IdentityEntry | None, now_us: int) -> CacheState:
    """Returns what a worker does with an entry.

    Args:
        entry: the newest one of an account.
        now_us: the time, microseconds since the epoch.
    """
    if entry is None:
        return CacheState.ABSENT
    if entry.is_stale:
        return CacheState.STALE
    if entry.signing_key is None:
        is_over = entry.fetched_us + NEGATIVE_LIFETIME_US <= now_us
        return CacheState.EXPIRED if is_over else CacheState.FRESH
    key = RememberedKey(entry.signing_key, entry.as_of_us, entry.fetched_us // SECOND_US)
    if is_fresh(key, now_us):
        return CacheState.FRESH
    return CacheState.OLD if is_usable(key, now_us) else CacheState.EXPIRED


def agrees(entry: IdentityEntry, document: Identity | IdentityError | None) -> bool | None:
    """Tells whether an entry has the key that the document has; None if there is no document.

    Args:
        entry: the newest one of an account.
        document: what was served just now, or why there is no identity.
    """
    match document:
        case None:
            return None
        case Identity():
            return entry.signing_key == document.signing_key
        case IdentityError():
            return entry.signing_key is None


def read_cached(account: Did, kafka: KafkaConfig) -> IdentityEntry | None:
    """Reads the newest entry of an account; one partition is read from its beginning.

    Raises:
        ConfigError: the topic is missing.
        BrokerUnavailableError: no broker answers.
    """
    partition = partition_for(account, check_partitions(kafka, [TOPIC])[TOPIC])
    newest: IdentityEntry | None = None
    for message in read_to_end(kafka, [kafka.topic(TOPIC)], [partition]):
        if message.key == account.encode():
            entry = None if message.value is None else parse_entry(message.value)
            if entry is None or entry.supersedes(newest):
                newest = entry
    return newest


def cached_as_json(
    entry: IdentityEntry | None, document: Identity | IdentityError | None, now_us: int
) -> dict[str, Any]:
    """Returns an entry and what it is worth, as values of JSON.

    Args:
        entry: the newest one of an account.
        document: as for `agrees`.
        now_us: the time, microseconds since the epoch.
    """
    state = cache_state(entry, now_us)
    does_agree = None if entry is None else agrees(entry, document)
    is_used = state in (CacheState.FRESH, CacheState.OLD)
    return {
        "state": state,
        "agrees": does_agree,
        "problems": [_OTHER_KEY] if is_used and does_agree is False else [],
        "entry": None if entry is None else orjson.loads(encode_entry(entry)),
    }


def cached_as_text(shown: dict[str, Any]) -> Iterator[str]:
    """Yields the lines of the same for a person."""
    yield f"in the topic {TOPIC}: {shown['state']}, {shown['state'].meaning}"
    if shown["entry"] is not None:
        yield from member_lines(shown["entry"])
    yield from (f"  FAILED   {problem}" for problem in shown["problems"])
