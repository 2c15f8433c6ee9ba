"""The keys that a worker uses, fetched when they are first needed and kept in memory.

A worker is synchronous: it hands over the DIDs of a batch (`prefetch`), which are then looked up
side by side, and afterwards asks for one key after the other. The outcome of every look-up is
kept, the bad ones too, each with its own lifetime: that a DID does not exist for minutes, that a
host is away for seconds.

A cached key goes out of use in one of three ways: the account announces a change (`forget`), a
signature does not fit it (`refreshed_key`), or it has reached its age.
"""

import asyncio
import copy
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

from pipelines.atproto.errors import IdentityError
from pipelines.atproto.keys import VerifyingKey
from pipelines.atproto.syntax import Did
from pipelines.errors import IdentityUnavailableError
from pipelines.identity.documents import Identity
from pipelines.identity.plc import KeyHistory, key_at

# How long a revoked key is still trusted if the announcement of its change was lost; relays in
# use have the same. Shorter means more requests to the directory, for every active account.
IDENTITY_LIFETIME_S: Final = 24 * 3600.0
# That a DID does not exist, or has no usable key. An announcement ends it sooner.
NEGATIVE_LIFETIME_S: Final = 300.0
# That a host is away: long enough that a batch does not ask it once per commit.
UNAVAILABLE_LIFETIME_S: Final = 5.0
# The longest that a host may make us wait by asking us to.
MAX_RETRY_AFTER_S: Final = 300.0
# A history is only asked for when the current key fails, and must not miss a change that has
# just been made.
AUDIT_LOG_LIFETIME_S: Final = 60.0
# One forced fetch per DID: whoever sends bad signatures without end causes no more than that.
REFRESH_INTERVAL_S: Final = 60.0
# How long a batch waits for its look-ups; what has no answer by then counts as unavailable.
PREFETCH_BUDGET_S: Final = 15.0

# About 0.9 kB each. One worker sees a share of the accounts that are active on a day.
MAX_IDENTITIES: Final = 100_000
MAX_AUDIT_LOGS: Final = 1_000

T = TypeVar("T")


class DidResolver(Protocol):
    """Where identities come from; see `pipelines.identity.resolver` for what the calls raise."""

    async def resolve(self, did: Did) -> Identity:
        """Returns what the DID's document says."""

    async def audit_log(self, did: Did) -> KeyHistory | None:
        """Returns the history of the DID's keys, or None where there is none."""

    async def close(self) -> None:
        """Gives up what the resolver holds."""


@dataclass(slots=True)
class _Entry(Generic[T]):
    """The outcome of a look-up: a value, or the error to raise."""

    outcome: T | IdentityError | IdentityUnavailableError
    expires_s: float
    refreshed_s: float = -math.inf  # when it was last fetched by force

    def value(self) -> T:
        if isinstance(self.outcome, IdentityError | IdentityUnavailableError):
            # A copy: an error that is raised again and again collects tracebacks without end.
            raise copy.copy(self.outcome)
        return self.outcome


class _Cache(Generic[T]):
    """Outcomes by DID, a bounded number: the one unused for longest is dropped first."""

    def __init__(self, max_count: int) -> None:
        self._max_count = max_count
        self._entries: OrderedDict[Did, _Entry[T]] = OrderedDict()

    def latest(self, did: Did) -> _Entry[T] | None:
        """Returns a DID's entry, which may be past its lifetime."""
        return self._entries.get(did)

    def fresh(self, did: Did, now_s: float) -> _Entry[T] | None:
        """Returns a DID's entry if it is within its lifetime."""
        entry = self._entries.get(did)
        if entry is None or entry.expires_s <= now_s:
            return None
        self._entries.move_to_end(did)
        return entry

    def keep(self, did: Did, entry: _Entry[T]) -> _Entry[T]:
        """Puts an entry in, over the DID's former one."""
        self._entries[did] = entry
        self._entries.move_to_end(did)
        if len(self._entries) > self._max_count:
            self._entries.popitem(last=False)
        return entry


class KeyRing:
    """Signing keys by DID, from a cache in front of a resolver.

    For one thread, and not for code that itself runs in an event loop: each call runs the
    resolver's coroutines in a loop of its own. Every call may raise `IdentityError` (there is no
    usable identity, for good) or `IdentityUnavailableError` (not known now, try again later).
    """

    def __init__(self, resolver: DidResolver, clock: Callable[[], float] = time.monotonic) -> None:
        """Takes the resolver over; `close` closes it.

        Args:
            resolver: asked for what the cache does not hold.
            clock: seconds from any starting point; never goes backwards.
        """
        self._resolver = resolver
        self._clock = clock
        self._runner = asyncio.Runner()
        self._identities: _Cache[Identity] = _Cache(MAX_IDENTITIES)
        self._audit_logs: _Cache[KeyHistory | None] = _Cache(MAX_AUDIT_LOGS)

    def prefetch(self, dids: Iterable[Did]) -> None:
        """Looks up all DIDs that the cache does not hold, side by side.

        Raises nothing about a DID: its outcome is raised by the call that asks for its key. Takes
        at most `PREFETCH_BUDGET_S` seconds.
        """
        now_s = self._clock()
        missing = [
            did for did in dict.fromkeys(dids) if self._identities.fresh(did, now_s) is None
        ]
        if missing:
            self._runner.run(self._fetch_identities(missing))

    def current_key(self, did: Did) -> VerifyingKey:
        """Returns the key in the DID's document, from the cache or fetched now."""
        entry = self._identities.fresh(did, self._clock())
        if entry is None:
            outcome = self._runner.run(_outcome(self._resolver.resolve(did)))
            entry = self._keep_identity(did, outcome)
        return entry.value().require_key()

    def refreshed_key(self, did: Did) -> VerifyingKey | None:
        """Fetches the DID's document anew, because a signature does not fit the cached key.

        Returns:
            The key, or None if it is the same as before, or if this DID was refreshed less than
            `REFRESH_INTERVAL_S` seconds ago. A fetch without an answer does not count.
        """
        known = self._identities.latest(did)
        now_s = self._clock()
        if known is not None and now_s - known.refreshed_s < REFRESH_INTERVAL_S:
            return None
        outcome = self._runner.run(_outcome(self._resolver.resolve(did)))
        if isinstance(outcome, IdentityUnavailableError):
            raise outcome
        entry = self._keep_identity(did, outcome)
        entry.refreshed_s = now_s
        signing_key = entry.value().require_key()
        if known is not None and isinstance(known.outcome, Identity):
            return signing_key if signing_key != known.outcome.signing_key else None
        return signing_key

    def key_at(self, did: Did, time_us: int) -> VerifyingKey | None:
        """Returns the key that was current at a time, microseconds since the epoch.

        None if there was none, or if there is no history to tell: for did:web, always.
        """
        entry = self._audit_logs.fresh(did, self._clock())
        if entry is None:
            outcome = self._runner.run(_outcome(self._resolver.audit_log(did)))
            expires_s = self._clock() + _lifetime_s(outcome, AUDIT_LOG_LIFETIME_S)
            entry = self._audit_logs.keep(did, _Entry(outcome, expires_s))
        audit_log = entry.value()
        return None if audit_log is None else key_at(audit_log, time_us)

    def forget(self, did: Did) -> None:
        """Has the DID looked up again at its next use: the account announced a change."""
        # Marked, not removed: the entry says when the last refresh was.
        for entry in (self._identities.latest(did), self._audit_logs.latest(did)):
            if entry is not None:
                entry.expires_s = -math.inf

    def close(self) -> None:
        """Closes the resolver and the event loop."""
        self._runner.run(self._resolver.close())
        self._runner.close()

    def _keep_identity(
        self, did: Did, outcome: Identity | IdentityError | IdentityUnavailableError
    ) -> _Entry[Identity]:
        has_key = isinstance(outcome, Identity) and outcome.signing_key is not None
        usual_s = IDENTITY_LIFETIME_S if has_key else NEGATIVE_LIFETIME_S
        entry = _Entry(outcome, self._clock() + _lifetime_s(outcome, usual_s))
        if (known := self._identities.latest(did)) is not None:
            entry.refreshed_s = known.refreshed_s
        return self._identities.keep(did, entry)

    async def _fetch_identities(self, dids: list[Did]) -> None:
        tasks = {asyncio.create_task(_outcome(self._resolver.resolve(did))): did for did in dids}
        try:
            done, late = await asyncio.wait(tasks, timeout=PREFETCH_BUDGET_S)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            self._keep_identity(tasks[task], task.result())
        for task in late:
            error = IdentityUnavailableError(
                f"{tasks[task]} was not resolved within {PREFETCH_BUDGET_S:g} s"
            )
            self._keep_identity(tasks[task], error)


async def _outcome(lookup: Awaitable[T]) -> T | IdentityError | IdentityUnavailableError:
    try:
        return await lookup
    except (IdentityError, IdentityUnavailableError) as error:
        return copy.copy(error)  # without its traceback, which would keep the frames alive


def _lifetime_s(outcome: object, usual_s: float) -> float:
    match outcome:
        case IdentityUnavailableError(retry_after_s=retry_after_s):
            return max(UNAVAILABLE_LIFETIME_S, min(retry_after_s or 0.0, MAX_RETRY_AFTER_S))
        case IdentityError():
            return NEGATIVE_LIFETIME_S
        case _:
            return usual_s
