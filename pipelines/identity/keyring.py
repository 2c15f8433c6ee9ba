"""The keys that a worker uses: from memory, from what is kept of the topic, or looked up now.

    memory      parsed keys, and behind them a table of millions (`pipelines.identity.memory`)
    shelf       what the topic `identities` says; filled by whoever owns the ring
    look-up     the directory, or the account's own host (`pipelines.identity.lookups`)

A worker hands over the DIDs of a batch (`prefetch`). What is not known is looked up side by side,
and the batch waits for it, but only so long; whoever asks for a key that is not there by then is
told that nobody knows now, and the look-up goes on.

A key goes out of use in one of three ways: the account announces a change (`forget`), a signature
does not fit it (`refreshed_key`), or it has reached its age. A key that is merely old stays in use
while nobody can say whether it still holds; one that was announced to change does not.

Whether a failed look-up means anything is kept apart: that a DID has no identity is known for
minutes, that nobody could say for seconds.
"""

import contextlib
import copy
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, NamedTuple, Protocol

from pipelines import logs
from pipelines.atproto.errors import IdentityError, Reason
from pipelines.atproto.keys import VerifyingKey
from pipelines.atproto.syntax import Did
from pipelines.errors import ConfigError, IdentityUnavailableError
from pipelines.identity.documents import Identity
from pipelines.identity.entries import (
    IdentityEntry,
    entry_of_document,
    entry_of_refusal,
    stale,
)
from pipelines.identity.flapping import Flapping
from pipelines.identity.lifetimes import (
    NEGATIVE_LIFETIME_US,
    NEW_DID_US,
    SECOND_US,
    history_lifetime_us,
    is_fresh,
    is_usable,
    refusal_lifetime_us,
    unavailable_lifetime_us,
)
from pipelines.identity.lookups import DidResolver, Failure, Kind, Landed, method_of
from pipelines.identity.memory import DEFAULT_KEYS_COUNT, KeyMemory, Recent, RememberedKey
from pipelines.identity.pace import TokenBucket
from pipelines.identity.plc import KeyHistory, key_at
from pipelines.identity.waiting import BatchLookups
from pipelines.relay import host_of

# One forced look-up per DID: whoever sends bad signatures without end causes no more than that.
REFRESH_INTERVAL_US: Final = 60 * SECOND_US
# And of all accounts of the directory together, a second and at once.
REFRESHES_PER_S: Final = 10.0
REFRESHES_BURST_COUNT: Final = 50
# Lines in the log about accounts that announce changes without end, as outsiders cause them.
TOLD_PER_S: Final = 0.1
TOLD_BURST_COUNT: Final = 10
# When to look again for an outcome that is still to come.
RECHECK_S: Final = 0.5

# Failed look-ups and forced ones remembered, some 200 bytes each. Of histories it is the changes
# of keys that count, some 300 bytes each: most accounts have two, a log of 8 MiB has 20,000.
MAX_FAILURES: Final = 100_000
MAX_REFRESHES: Final = 100_000
MAX_HISTORY_CHANGES: Final = 50_000


_log = logs.get_logger("identity")


class Shelf(Protocol):
    """What is kept of identities beyond this process's memory."""

    def get(self, did: Did) -> IdentityEntry | None:
        """Returns what is known of a DID."""

    def keep(self, entry: IdentityEntry) -> None:
        """Takes over something newer."""


class NoShelf:
    """For whoever keeps nothing."""

    def get(self, did: Did) -> IdentityEntry | None:  # noqa: ARG002 - has none
        """Knows nobody."""
        return None

    def keep(self, entry: IdentityEntry) -> None:
        """Keeps nothing."""


def _now_us() -> int:
    return time.time_ns() // 1_000


class _Failed(NamedTuple):
    """A look-up that gave no key."""

    error: Failure
    expires_us: int


class _History(NamedTuple):
    """A history, or why there is none."""

    outcome: KeyHistory | Failure | None
    expires_us: int


def _changes_count(history: _History) -> int:
    """Returns what a history counts: 1 for one that there is not."""
    return len(history.outcome) if isinstance(history.outcome, tuple) else 1


class KeyRing:
    """Signing keys by DID.

    For one thread. A call that needs what is not known waits as long as the batch may still wait;
    then it raises. Every one that returns a key may raise `IdentityError` (there is no usable
    identity) or `IdentityUnavailableError` (not known now, ask again later).
    """

    def __init__(
        self,
        resolver: DidResolver,
        shelf: Shelf | None = None,
        *,
        max_keys: int = DEFAULT_KEYS_COUNT,
        clock_us: Callable[[], int] = _now_us,
    ) -> None:
        """Takes the resolver over; `close` closes it.

        Args:
            resolver: asked for what is not known.
            shelf: what is kept elsewhere; nothing by default.
            max_keys: how many keys are kept in memory.
            clock_us: the time of day, microseconds since the epoch.
        """
        self._resolver = resolver
        self._shelf = shelf or NoShelf()
        self._clock_us = clock_us
        self._lookups = BatchLookups(resolver, self._take)
        self._memory = KeyMemory(max_keys)
        self._failed: Recent[_Failed] = Recent(MAX_FAILURES)
        self._missing_since_us: Recent[int] = Recent(MAX_FAILURES)
        self._refreshed_us: Recent[int] = Recent(MAX_REFRESHES)
        self._histories: Recent[_History] = Recent(MAX_HISTORY_CHANGES, _changes_count)
        self._outdated: set[tuple[Did, Kind]] = set()
        self._flapping = Flapping()
        self._told = TokenBucket(TOLD_PER_S, TOLD_BURST_COUNT)
        self._refreshes = TokenBucket(REFRESHES_PER_S, REFRESHES_BURST_COUNT)
        self._directory_away_until_us = 0
        self._tally: Counter[str] = Counter()

    @property
    def groups(self) -> dict[str, dict[str, int]]:
        """What the ring did and has, for whoever watches: replaced, never changed."""
        return {"lookups": dict(self._tally), "keys": {"memory": self._memory.count}}

    # ---- for the judge ---------------------------------------------------------------------

    def current_key(self, did: Did) -> VerifyingKey:
        """Returns the key in the DID's document."""
        remembered = self._memory.get(did)
        now_us = self._clock_us()
        if remembered is not None and is_fresh(remembered, now_us):
            return remembered.key
        if not self._is_settled(did, now_us):
            self._look_up(did, Kind.DOCUMENT, now_us)
        remembered = self._recall(did, now_us)
        if remembered is not None and is_fresh(remembered, now_us):
            return remembered.key
        failed = self._failed_now(did, now_us)
        if isinstance(failed, IdentityError):
            raise copy.copy(failed)  # one that is raised again and again collects tracebacks
        if remembered is not None and is_usable(remembered, now_us):
            return remembered.key
        if failed is not None:
            raise copy.copy(failed)
        raise _still_looking(did)

    def refreshed_key(self, did: Did, since_us: int | None) -> VerifyingKey:
        """Returns the key in a document that was fetched past all caches.

        One such look-up serves for every signature that arrived before it; the next one of the
        DID has to wait until `REFRESH_INTERVAL_US` later. A look-up without an answer does not
        count.

        Args:
            did: the account.
            since_us: when the signature arrived that does not fit, microseconds since the epoch;
                None if nobody knows.
        """
        now_us = self._clock_us()
        refreshed_us = self._refreshed_us.get(did)
        if refreshed_us is not None and since_us is not None and refreshed_us >= since_us:
            return self.current_key(did)
        self._check_available(did, now_us)
        if self._lookups.asked_us(did, Kind.FRESH_DOCUMENT) is None:
            self._check_refresh_is_due(did, refreshed_us, now_us)
        self._look_up(did, Kind.FRESH_DOCUMENT, now_us)
        if self._refreshed_us.get(did) == refreshed_us:  # no answer
            self._check_available(did, now_us)
            raise _still_looking(did)
        return self.current_key(did)

    def key_at(self, did: Did, time_us: int) -> VerifyingKey | None:
        """Returns the key that was current at a time, microseconds since the epoch.

        None if there was none, or if there is no history to tell: for did:web, always.
        """
        now_us = self._clock_us()
        history = self._histories.get(did)
        if history is None or history.expires_us <= now_us:
            self._look_up(did, Kind.HISTORY, now_us)
            history = self._histories.get(did)
            if history is None or history.expires_us <= now_us:
                raise _still_looking(did)
        outcome = history.outcome
        if isinstance(outcome, IdentityError | IdentityUnavailableError):
            raise copy.copy(outcome)
        return None if outcome is None else key_at(outcome, time_us)

    def is_served_by(self, did: Did, host: str, since_us: int | None) -> bool:
        """Tells whether the DID's document names a server, fetched anew if it names another.

        A document of less than `REFRESH_INTERVAL_US` before is new enough: who speaks for others
        without end causes no more look-ups than that, and nobody has to wait for the next one. An
        account that moves announces it, which outdates what is known.

        Args:
            did: the account.
            host: of the server, as `pipelines.relay.host_of` has it.
            since_us: when the server spoke, microseconds since the epoch; None for now.

        Source: spec J-10.
        """
        for look_up in (self.current_key, partial(self.refreshed_key, since_us=since_us)):
            with contextlib.suppress(IdentityError):  # it may have a server and no usable key
                look_up(did)
            entry = self._shelf.get(did)
            if entry is None:
                continue
            if entry.pds is not None and _is_at(entry.pds, host):
                return True
            if since_us is not None and entry.as_of_us + REFRESH_INTERVAL_US > since_us:
                break
        return False

    # ---- for the worker --------------------------------------------------------------------

    def prefetch(self, dids: Iterable[Did], max_wait_s: float = math.inf) -> None:
        """Begins a batch: looks up what is not known of its DIDs, side by side, and waits for it.

        Raises nothing about a DID: its outcome is raised by the call that asks for its key.

        Args:
            dids: those of the batch.
            max_wait_s: the longest wait of the whole batch, further look-ups included.
        """
        now_us = self._clock_us()
        self._lookups.land_all()
        self._lookups.begin(max_wait_s)
        wanted = [did for did in dict.fromkeys(dids) if not self._is_settled(did, now_us)]
        for did in wanted:
            self._start(did, Kind.DOCUMENT, now_us)
        self._lookups.wait_for((did, Kind.DOCUMENT) for did in wanted)

    def forget(self, did: Did, announced_us: int) -> None:
        """Has the DID looked up again at its next use: the account announced a change.

        If it does so all the time, it is looked up later, and until then nobody knows its key.

        Args:
            did: the account.
            announced_us: when the announcement was received, microseconds since the epoch. What
                was asked for after that stays: servers announce a change once it is made.
        """
        for kind in Kind:
            asked_us = self._lookups.asked_us(did, kind)
            if asked_us is not None and asked_us < announced_us:
                self._outdated.add((did, kind))
        remembered = self._memory.get(did)
        if remembered is not None and remembered.as_of_us >= announced_us:
            return
        self._memory.remove(did)
        self._failed.remove(did)
        self._histories.remove(did)
        entry = self._shelf.get(did)
        if entry is not None and not entry.is_stale and entry.as_of_us < announced_us:
            self._shelf.keep(stale(entry))
        self._pace_announcements(did)

    def hear(self, entry: IdentityEntry) -> None:
        """Takes over what somebody else wrote, for a DID that is in use here."""
        remembered = self._memory.get(entry.did)
        if remembered is not None and entry.as_of_us >= remembered.as_of_us:
            self._apply(entry)

    def may_appear(self, did: Did, received_us: int) -> bool:
        """Tells whether a DID that does not exist may be one that was made just now.

        Args:
            did: the account, whose look-up said that it does not exist.
            received_us: when its frame was received, microseconds since the epoch.
        """
        since_us = self._missing_since_us.get(did)
        if since_us is None:
            return False
        return self._clock_us() - min(since_us, received_us) < NEW_DID_US

    def outlook(self, did: Did) -> float:
        """Tells when a frame that had to wait may be judged, and sees to a look-up until then.

        Returns:
            Seconds; 0 if its key is known now, or known that there is none.
        """
        now_us = self._clock_us()
        self._lookups.land_all()
        if any(self._lookups.asked_us(did, kind) is not None for kind in Kind):
            return RECHECK_S
        failed = self._failed.get(did)
        if failed is not None and isinstance(failed.error, IdentityUnavailableError):
            left_us = failed.expires_us - now_us
            if left_us > 0:
                return left_us / SECOND_US
        if self._is_settled(did, now_us):
            return 0.0
        if method_of(did) == "plc" and now_us < self._directory_away_until_us:
            return (self._directory_away_until_us - now_us) / SECOND_US
        self._start(did, Kind.DOCUMENT, now_us)
        return RECHECK_S

    def close(self) -> None:
        """Cuts off look-ups that are under way and closes the resolver."""
        self._lookups.close()

    def _pace_announcements(self, did: Did) -> None:
        """Has a DID wait that announces changes too often."""
        now_us = self._clock_us()
        due_us = self._flapping.due_us(did)
        if due_us > now_us:
            self._tally["put_off"] += 1
            error = IdentityUnavailableError(
                f"{did} announces changes too often", retry_after_s=(due_us - now_us) / SECOND_US
            )
            self._failed.put(did, _Failed(error, due_us))
            if self._told.reserve(time.monotonic(), 0.0) is not None:
                _log.warning("announces_too_often", did=did, detail=error.args[0])

    # ---- look-ups --------------------------------------------------------------------------

    def _is_settled(self, did: Did, now_us: int) -> bool:
        """Tells whether nothing has to be looked up to answer for a DID."""
        remembered = self._recall(did, now_us)
        if remembered is not None and is_fresh(remembered, now_us):
            return True
        return self._failed_now(did, now_us) is not None

    def _recall(self, did: Did, now_us: int) -> RememberedKey | None:
        """Returns a DID's key from memory, or from the shelf into memory."""
        remembered = self._memory.get(did)
        if remembered is not None:
            return remembered
        entry = self._shelf.get(did)
        if entry is None or entry.is_stale:
            return None
        if entry.signing_key is None and entry.fetched_us + NEGATIVE_LIFETIME_US <= now_us:
            return None
        self._tally["shelf"] += 1
        self._apply(entry)
        return self._memory.get(did)

    def _failed_now(self, did: Did, now_us: int) -> Failure | None:
        failed = self._failed.get(did)
        return None if failed is None or failed.expires_us <= now_us else failed.error

    def _check_available(self, did: Did, now_us: int) -> None:
        failed = self._failed_now(did, now_us)
        if isinstance(failed, IdentityUnavailableError):
            raise copy.copy(failed)

    def _check_refresh_is_due(self, did: Did, refreshed_us: int | None, now_us: int) -> None:
        left_us = 0 if refreshed_us is None else refreshed_us + REFRESH_INTERVAL_US - now_us
        if left_us > 0:
            raise IdentityUnavailableError(
                f"{did} was looked up anew a moment ago", retry_after_s=left_us / SECOND_US
            )
        is_web = method_of(did) == "web"  # whose host has a pace of its own
        if not is_web and self._refreshes.reserve(time.monotonic(), 0.0) is None:
            raise IdentityUnavailableError(
                "too many signatures do not fit their keys", retry_after_s=1 / REFRESHES_PER_S
            )

    def _look_up(self, did: Did, kind: Kind, now_us: int) -> None:
        """Looks something up and waits for it, as far as the batch may still wait."""
        self._start(did, kind, now_us)
        self._lookups.wait_for([(did, kind)])

    def _start(self, did: Did, kind: Kind, now_us: int) -> None:
        if self._lookups.start(did, kind, now_us):
            self._tally[kind.name.lower()] += 1
            if kind is not Kind.HISTORY:
                self._flapping.looked_up(did, now_us)

    def _take(self, landed: Landed) -> bool:
        """Takes over the outcome of a look-up; returns False if it had to be started again."""
        did, kind, outcome, asked_us, _ = landed
        now_us = self._clock_us()
        if (did, kind) in self._outdated:
            # A change was announced while it was under way: it may say what was before.
            self._outdated.discard((did, kind))
            if self._failed_now(did, now_us) is not None:
                return True  # and it has to wait for the next one
            self._start(did, kind, now_us)
            return False
        if isinstance(outcome, IdentityUnavailableError):
            self._tally["unavailable"] += 1
        if kind is Kind.HISTORY:
            assert not isinstance(outcome, Identity)
            self._histories.put(did, _History(outcome, now_us + history_lifetime_us(outcome)))
        elif isinstance(outcome, IdentityUnavailableError):
            expires_us = now_us + unavailable_lifetime_us(outcome)
            self._failed.put(did, _Failed(outcome, expires_us))
            if outcome.retry_after_s is not None and method_of(did) == "plc":
                self._directory_away_until_us = expires_us
        else:
            assert isinstance(outcome, Identity | IdentityError)
            if kind is Kind.FRESH_DOCUMENT:
                self._refreshed_us.put(did, asked_us)
            self._take_identity(did, outcome, asked_us)
        return True

    def _take_identity(self, did: Did, outcome: Identity | IdentityError, asked_us: int) -> None:
        remembered = self._memory.get(did)
        if isinstance(outcome, Identity):
            entry = entry_of_document(outcome, self._resolver.source_of(did), asked_us)
            self._missing_since_us.remove(did)
        else:
            if outcome.reason is Reason.IDENTITY_NOT_FOUND:
                since_us = self._missing_since_us.get(did)
                self._missing_since_us.put(did, asked_us if since_us is None else since_us)
            if self._shelf.get(did) is None:
                self._refuse(did, outcome, asked_us)
                return
            # Nobody may go on with the key that the topic has.
            entry = entry_of_refusal(outcome, did, self._resolver.source_of(did), asked_us)
        if remembered is None or remembered.key != entry.signing_key:
            self._histories.remove(did)
        self._apply(entry)
        self._shelf.keep(entry)

    def _apply(self, entry: IdentityEntry) -> None:
        """Takes an entry into memory."""
        did = entry.did
        if entry.signing_key is not None and not entry.is_stale:
            learned_s = entry.fetched_us // SECOND_US
            self._memory.put(did, RememberedKey(entry.signing_key, entry.as_of_us, learned_s))
            self._failed.remove(did)
            return
        self._memory.remove(did)
        self._failed.remove(did)
        if not entry.is_stale:
            assert entry.reason is not None
            detail = f"{entry.source} says that the account has no usable identity"
            error = IdentityError(Reason(entry.reason), detail, did=did)
            self._refuse(did, error, entry.fetched_us)

    def _refuse(self, did: Did, error: IdentityError, asked_us: int) -> None:
        """Notes that a DID has no usable identity."""
        self._memory.remove(did)
        lifetime_us = refusal_lifetime_us(asked_us, self._missing_since_us.get(did))
        self._failed.put(did, _Failed(error, asked_us + lifetime_us))


def _is_at(pds: str, host: str) -> bool:
    try:
        return host_of(pds) == host
    except ConfigError:  # a document may name what only looks like an address
        return False


def _still_looking(did: Did) -> IdentityUnavailableError:
    return IdentityUnavailableError(f"{did} is still being looked up", retry_after_s=RECHECK_S)
