"""What a worker makes of an entry of `identities`, as `standpipe inspect did --cached` tells it.

The states are compared with what a key ring does with the same entry.
"""

from dataclasses import replace

import pytest
from support.identities import ALICE, NEW_KEY, OLD_KEY, SECOND_US, Clock, FakeResolver, FakeShelf

from pipelines.atproto.errors import IdentityError, Reason
from pipelines.cli.identity_cached import (
    CacheState,
    agrees,
    cache_state,
    cached_as_json,
    cached_as_text,
)
from pipelines.errors import IdentityUnavailableError
from pipelines.identity.documents import Identity
from pipelines.identity.entries import (
    IdentityEntry,
    entry_of_document,
    entry_of_refusal,
    stale,
)
from pipelines.identity.keyring import KeyRing

_HOUR_S = 3_600
_NOW_US = Clock().now_us
_DOCUMENT = Identity(ALICE, OLD_KEY, "https://pds.example.com", None)
_GONE = IdentityError(Reason.IDENTITY_NOT_FOUND, "no such DID", did=ALICE)


def _entry(age_s: float) -> IdentityEntry:
    asked_us = _NOW_US - int(age_s * SECOND_US)
    return entry_of_document(_DOCUMENT, "https://plc.directory", asked_us)


def _refusal(age_s: float) -> IdentityEntry:
    asked_us = _NOW_US - int(age_s * SECOND_US)
    return entry_of_refusal(_GONE, ALICE, "https://plc.directory", asked_us)


@pytest.mark.parametrize(
    ("entry", "state", "is_asked", "is_used"),
    [
        (None, CacheState.ABSENT, True, False),
        (_entry(23 * _HOUR_S), CacheState.FRESH, False, True),
        (_entry(25 * _HOUR_S), CacheState.OLD, True, True),
        (_entry(8 * 24 * _HOUR_S), CacheState.EXPIRED, True, False),
        (stale(_entry(1)), CacheState.STALE, True, False),
        (_refusal(100), CacheState.FRESH, False, False),
        (_refusal(400), CacheState.EXPIRED, True, False),
    ],
    ids=["none", "day", "older", "week", "stale", "refused", "refused long ago"],
)
def test_the_state_is_what_a_key_ring_does(
    entry: IdentityEntry | None, state: CacheState, is_asked: bool, is_used: bool
) -> None:
    assert cache_state(entry, _NOW_US) is state
    shelf, resolver = FakeShelf(), FakeResolver()
    if entry is not None:
        shelf.entries[ALICE] = entry
    resolver.unavailable[ALICE] = None
    ring = KeyRing(resolver, shelf, clock_us=Clock())
    try:
        used = ring.current_key(ALICE) == OLD_KEY
    except (IdentityError, IdentityUnavailableError):
        used = False
    finally:
        ring.close()
    assert (resolver.fetched[ALICE] > 0, used) == (is_asked, is_used)


@pytest.mark.parametrize(
    ("entry", "document", "expected"),
    [
        (_entry(1), None, None),
        (_entry(1), _DOCUMENT, True),
        (_entry(1), replace(_DOCUMENT, signing_key=NEW_KEY), False),
        (_entry(1), _GONE, False),
        (_refusal(1), _GONE, True),
    ],
)
def test_an_entry_agrees_with_the_document_or_not(
    entry: IdentityEntry, document: Identity | IdentityError | None, expected: bool | None
) -> None:
    assert agrees(entry, document) is expected


def test_a_key_that_is_used_and_not_the_document_s_is_a_problem() -> None:
    changed = replace(_DOCUMENT, signing_key=NEW_KEY)
    used = cached_as_json(_entry(1), changed, _NOW_US)
    problem = "identities has another signing key than the document, and workers use it"
    assert used["problems"] == [problem]
    assert list(cached_as_text(used))[-1] == f"  FAILED   {problem}"
    for entry, document in ((_entry(1), _DOCUMENT), (stale(_entry(1)), changed), (None, changed)):
        assert cached_as_json(entry, document, _NOW_US)["problems"] == []


def test_it_is_shown_with_what_it_is_worth() -> None:
    lines = list(cached_as_text(cached_as_json(_entry(1), _DOCUMENT, _NOW_US)))
    assert lines[0] == "in the topic identities: fresh, workers use it without asking"
    assert f"  signing key  {OLD_KEY.did_key()}" in lines
    absent = cached_as_json(None, _DOCUMENT, _NOW_US)
    assert list(cached_as_text(absent)) == [
        "in the topic identities: absent, workers ask for the account when they meet it"
    ]
