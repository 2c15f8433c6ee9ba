"""What a subscriber of the JSON stream wants, as it says it: in the address, or later. Pure.

The parameters and the message `options_update` are those that Bluesky's Jetstream documents for
`/subscribe`, with its limits. What cannot be understood is an `OptionsError`, and nothing else is
raised for whatever a subscriber sends. Where we differ, on purpose: what Jetstream quietly takes
for "no limit" (a `maxMessageSizeBytes` that is no number) is an error here, as is the prefix of a
pattern that could not be one of any collection; and its own compression is not offered.

Source: github.com/bluesky-social/jetstream, README ("Query Parameters", "Subscriber Sourced
messages").
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from pipelines.atproto.errors import ProtocolError
from pipelines.atproto.syntax import MAX_NSID_LENGTH, parse_did, parse_nsid
from pipelines.subscriptions import CursorTextError, parse_cursor

# Jetstream's own limits, of different ones each.
MAX_COLLECTIONS: Final = 100
MAX_DIDS: Final = 10_000
# The largest message of a subscriber, which has room for that many DIDs.
MAX_UPDATE_BYTES: Final = 10_000_000
_UPDATE: Final = "options_update"
_EVERYTHING_BELOW: Final = ".*"
_match_size = re.compile(r"-?[0-9]{1,18}").fullmatch
_match_prefix = re.compile(r"[a-zA-Z][a-zA-Z0-9-]{0,62}(\.[a-zA-Z0-9-]{1,63})*").fullmatch


class OptionsError(Exception):
    """What a subscriber asks for cannot be understood, or is not offered; the text says why."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a subscriber wants to get.

    Attributes:
        dids: the accounts; empty for all.
        collections: the collections of records; with no prefixes either, all.
        prefixes: beginnings of names of collections, each with its last dot.
        max_bytes: of a message, in UTF-8; what is larger is left out. 0 for no limit.
    """

    dids: frozenset[str] = frozenset()
    collections: frozenset[str] = frozenset()
    prefixes: tuple[str, ...] = ()
    max_bytes: int = 0

    def takes_account(self, did: str) -> bool:
        """Returns whether anything of an account is wanted."""
        return not self.dids or did in self.dids

    def takes_collection(self, collection: str) -> bool:
        """Returns whether records of a collection are wanted."""
        if collection in self.collections:
            return True
        if self.prefixes:
            return collection.startswith(self.prefixes)
        return not self.collections


@dataclass(frozen=True, slots=True)
class Subscription:
    """What an address says.

    Attributes:
        wanted: what is sent.
        cursor_us: where to begin, microseconds since 1970; None for what comes from now on.
        waits_for_hello: whether nothing is sent before the first `options_update`.
    """

    wanted: Wanted
    cursor_us: int | None
    waits_for_hello: bool


def parse_query(query: Mapping[str, Sequence[str]]) -> Subscription:
    """Reads the parameters of an address.

    Args:
        query: all values of each parameter, decoded, in their order; unknown ones do not matter.

    Raises:
        OptionsError: with the first fault.
    """
    if _first(query, "compress") == "true":
        raise OptionsError(
            "zstd with Jetstream's dictionary is not offered: leave out compress=true; "
            "permessage-deflate is, to clients that ask for it in the handshake"
        )
    size = _first(query, "maxMessageSizeBytes") or "0"
    if not _match_size(size):
        raise OptionsError("maxMessageSizeBytes is not a decimal integer")
    try:
        cursor_us = parse_cursor(_first(query, "cursor") or None)
    except CursorTextError:
        raise OptionsError("cursor is not a time in microseconds since 1970") from None
    wanted = _wanted(query.get("wantedCollections", ()), query.get("wantedDids", ()), int(size))
    return Subscription(wanted, cursor_us, _first(query, "requireHello") == "true")


def parse_update(message: str | bytes) -> Wanted | None:
    """Reads a message of a subscriber.

    Args:
        message: at most `MAX_UPDATE_BYTES`.

    Returns:
        What is wanted from now on, in place of everything before; None for a message of a type
        that means nothing here.

    Raises:
        OptionsError: with the first fault.
    """
    try:
        found = orjson.loads(message)
    except orjson.JSONDecodeError:
        raise OptionsError("the message is not JSON") from None
    if not isinstance(found, dict) or not isinstance(found.get("type"), str):
        raise OptionsError('the message is not an object like {"type": …, "payload": …}')
    if found["type"] != _UPDATE:
        return None
    payload = found.get("payload")
    if not isinstance(payload, dict):
        raise OptionsError(f"{_UPDATE} has no payload")
    size = payload.get("maxMessageSizeBytes") or 0
    if isinstance(size, bool) or not isinstance(size, int):
        raise OptionsError("maxMessageSizeBytes is not an integer")
    return _wanted(_texts(payload, "wantedCollections"), _texts(payload, "wantedDids"), size)


def _first(query: Mapping[str, Sequence[str]], name: str) -> str | None:
    values = query.get(name, ())
    return values[0] if values else None


def _texts(payload: Mapping[str, Any], name: str) -> list[str]:
    values = payload.get(name)
    if values is None:
        return []
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise OptionsError(f"{name} is not an array of strings")
    return values


def _wanted(collections: Iterable[str], dids: Iterable[str], max_bytes: int) -> Wanted:
    patterns = set(collections)
    if len(patterns) > MAX_COLLECTIONS:
        raise OptionsError(f"{len(patterns)} wantedCollections: at most {MAX_COLLECTIONS}")
    accounts = frozenset(dids)
    if len(accounts) > MAX_DIDS:
        raise OptionsError(f"{len(accounts)} wantedDids: at most {MAX_DIDS}")
    prefixes = {text for text in patterns if text.endswith(_EVERYTHING_BELOW)}
    try:
        for text in patterns - prefixes:
            parse_nsid(text)
        for did in accounts:
            parse_did(did)
    except ProtocolError as error:
        raise OptionsError(error.detail) from None
    for text in prefixes:
        head = text.removesuffix(_EVERYTHING_BELOW)
        if len(text) > MAX_NSID_LENGTH or not _match_prefix(head):
            raise OptionsError(f"{text[:100]!r} is not like app.bsky.graph.*")
    return Wanted(
        accounts,
        frozenset(patterns - prefixes),
        tuple(sorted(text.removesuffix("*") for text in prefixes)),
        max(0, max_bytes),
    )
