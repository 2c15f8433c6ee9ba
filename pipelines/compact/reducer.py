"""What an event does to a repository: the one place that judges continuity.

A pure function; ARCHITECTURE.md shows it as a table. Its rules, in the order of their checks:

    H-10        commits and syncs of an account that is not active are ignored
    H-05        unless nobody but an upstream says so, and said it before: then they wait, and the
                account's server is asked (`repair.py`)
    H-04        whether it is active the operator decides, or else what was said upstream
    G-04, G-31  a revision that is not above the head (or went with a deletion) is ignored
    G-18        an unknown repository begins with its first commit; anything else lacks history
    G-16, G-19  a commit continues the head if `since` is its revision and `prev_data` its root
    G-32, G-33  a newer sync with the head's root moves the head; with another root it does not
                continue it
    G-12        a refused commit is authentic: the repository changed in a way nobody proved
    E-18        one that could not be resolved may be authentic: what is known may be old
    I-02        what comes while a snapshot is applied waits for its end

What does not continue the head desynchronizes the repository. Its records then stay as they are
at the head, which is proven, until it is repaired (`repair.py`); or until the chain closes by
itself, because what was missing came after all. Pointers to what came meanwhile are kept.

Source: draft-holmgren-at-repository "Commit Validation", "Re-synchronization";
atproto.com/specs/sync; atproto.com/specs/account.
"""

from dataclasses import replace
from enum import StrEnum
from typing import NamedTuple, assert_never

from pipelines.atproto.cid import encode_cid
from pipelines.atproto.mst import EMPTY_ROOT_CID
from pipelines.atproto.syntax import Did, Tid
from pipelines.compact.accounts import is_older, puts_in_doubt, with_override, with_status
from pipelines.compact.events import (
    AccountEvent,
    CommitEvent,
    Event,
    EventOp,
    IdentityEvent,
    RefusedEvent,
    Signed,
    SignedEvent,
    Source,
    SyncEvent,
    UnresolvedEvent,
)
from pipelines.compact.overrides import Override, override_source
from pipelines.compact.state import (
    MAX_WAITING_COUNT,
    AccountMark,
    Desync,
    Head,
    RepoState,
    Sync,
    Waiting,
)

_EMPTY_ROOT = encode_cid(EMPTY_ROOT_CID)


class Outcome(StrEnum):
    """What became of an event or an answer; a label of the stage's counters."""

    APPLIED = "applied"  # the head moved, with the records of the commit
    APPLYING = "applying"  # of an answer: its records are being taken over
    WAITING = "waiting"  # it is judged once the snapshot that is being applied is there
    DESYNCHRONIZED = "desynchronized"  # it does not continue the head
    STALE = "stale"  # there before, or older
    INACTIVE = "inactive"  # of an account that is not active
    ACCOUNT = "account"  # what was said of the account was taken over
    IGNORED = "ignored"  # nothing of it concerns the state of a repository
    UNTRACKED = "untracked"  # of a repository that is not taken up


class Reduction(NamedTuple):
    """The result of one event or answer.

    Attributes:
        outcome: what became of it.
        state: the repository's new state; None if nothing changed.
        ops: operations to carry out on the records.
    """

    outcome: Outcome
    state: RepoState | None = None
    ops: tuple[EventOp, ...] = ()


def reduce_event(known: RepoState | None, event: Event, events_offset: int) -> Reduction:
    """Applies an event to a repository.

    Args:
        known: the state before; None for a repository that was never heard of.
        event: of this repository.
        events_offset: where it is in `events`, in the repository's partition.
    """
    state = RepoState(event.did, event.source) if known is None else known
    match event:
        case IdentityEvent():
            return Reduction(Outcome.IGNORED)
        case AccountEvent():
            return _reduce_account(state, event)
        case UnresolvedEvent():
            return _reduce_unresolved(state, event, events_offset)
        case CommitEvent() | SyncEvent() | RefusedEvent():
            return _reduce_signed(state, event, events_offset)
        case _:
            assert_never(event)


def reduce_override(
    known: RepoState | None, did: Did, override: Override | None, received_us: int
) -> Reduction:
    """Applies what the operator says of an account.

    Args:
        known: the state before; None for a repository that was never heard of.
        did: the account.
        override: what counts from now on; None if upstream's word does again.
        received_us: when that was said, microseconds since the epoch.
    """
    state = RepoState(did, override_source(received_us)) if known is None else known
    if override == state.override:
        return Reduction(Outcome.STALE)
    return Reduction(Outcome.ACCOUNT, with_override(state, override, received_us))


def _reduce_account(state: RepoState, event: AccountEvent) -> Reduction:
    source = event.source
    mark = AccountMark(source.host, source.seq, source.time or "", source.received_us)
    if is_older(mark, state.account):
        return Reduction(Outcome.STALE)
    changed = with_status(state, source, mark, active=event.active, status=event.status)
    return Reduction(Outcome.ACCOUNT, changed)


def _reduce_signed(state: RepoState, event: SignedEvent, events_offset: int) -> Reduction:
    # A refused one may be anybody's: it is no reason to ask.
    is_refused = isinstance(event, RefusedEvent)
    if not state.active and (is_refused or not puts_in_doubt(state, event.source)):
        return Reduction(Outcome.INACTIVE)
    signed = event.signed
    if signed.rev <= decided_rev(state):
        return Reduction(Outcome.STALE)
    seen = signed if state.seen is None or signed.rev > state.seen.rev else state.seen
    waiting = _waiting(state, signed.rev, events_offset)
    if state.applying is not None:
        state = replace(state, source=event.source, seen=seen, waiting=waiting)
        return Reduction(Outcome.WAITING, state)
    if not state.active:
        state = desynchronized(state, event.source, Desync.ACCOUNT_INACTIVE)
        return Reduction(Outcome.INACTIVE, replace(state, seen=seen, waiting=waiting))
    reason = _why_not_continued(state, event)
    if reason is None:
        assert not isinstance(event, RefusedEvent)
        ops = event.ops if isinstance(event, CommitEvent) else ()
        # It may fill a gap before something newer that was seen: then it does not close the chain.
        is_current = seen.commit == signed.commit
        state = replace(
            state,
            source=event.source,
            head=Head(signed, event.commit_block),
            seen=seen,
            sync=Sync.SYNCHRONIZED if is_current else Sync.DESYNCHRONIZED,
            reason=None if is_current else state.reason,
            desynchronized_us=None if is_current else state.desynchronized_us,
            requested_us=None if is_current else state.requested_us,
            waiting=() if is_current else waiting_above(state, signed.rev),
        )
        return Reduction(Outcome.APPLIED, state, ops)
    state = replace(desynchronized(state, event.source, reason), seen=seen, waiting=waiting)
    return Reduction(Outcome.DESYNCHRONIZED, state)


def _reduce_unresolved(state: RepoState, event: UnresolvedEvent, events_offset: int) -> Reduction:
    if not state.active:
        return Reduction(Outcome.INACTIVE)
    if state.sync is Sync.UNKNOWN:
        # Nothing is held that could be old, and outsiders can make up accounts. A real one lacks
        # its beginning from now on: its next commit will tell.
        return Reduction(Outcome.IGNORED)
    waiting = _waiting(state, None, events_offset)
    if state.applying is not None:
        state = replace(state, source=event.source, waiting=waiting)
        return Reduction(Outcome.WAITING, state)
    state = desynchronized(state, event.source, event.reason)
    return Reduction(Outcome.DESYNCHRONIZED, replace(state, waiting=waiting))


def desynchronized(state: RepoState, source: Source, reason: str) -> RepoState:
    """Returns the state after something showed that a part of the repository is missing.

    Args:
        state: before.
        source: what showed it.
        reason: what is wrong. The first reason stays: what follows a break is broken by it.
    """
    is_first = state.reason is None
    return replace(
        state,
        source=source,
        sync=Sync.DESYNCHRONIZED,
        reason=reason if is_first else state.reason,
        desynchronized_us=source.received_us if is_first else state.desynchronized_us,
    )


def _waiting(state: RepoState, rev: Tid | None, events_offset: int) -> tuple[Waiting, ...]:
    return (*state.waiting, Waiting(rev, events_offset))[-MAX_WAITING_COUNT:]


def waiting_above(state: RepoState, rev: Tid) -> tuple[Waiting, ...]:
    """Returns what still waits once everything up to a revision is there."""
    return tuple(
        [waiting for waiting in state.waiting if waiting.rev is None or waiting.rev > rev]
    )


def decided_rev(state: RepoState) -> Tid | str:
    """Returns the revision up to which everything is decided; "" is below any revision."""
    if state.applying is not None:
        return state.applying.snapshot.rev
    if state.head is not None:
        return state.head.signed.rev
    return state.deleted_rev or ""


def _why_not_continued(state: RepoState, event: SignedEvent) -> str | None:
    """Returns why an event does not continue the head, or None if it does."""
    match event:
        case RefusedEvent():
            return event.reason
        case SyncEvent() if state.head is not None:
            return None if event.signed.data == state.head.signed.data else Desync.SYNC_DATA
        case CommitEvent() if state.head is not None:
            return _why_not_next(state.head.signed, event)
        case CommitEvent() if event.since is None and event.prev_data in (None, _EMPTY_ROOT):
            return None
        case CommitEvent() | SyncEvent():
            return Desync.HISTORY_UNKNOWN
        case _:
            assert_never(event)


def _why_not_next(head: Signed, event: CommitEvent) -> str | None:
    if event.since is None:
        return Desync.CHAIN_RESTARTED
    if event.since != head.rev:
        return Desync.CHAIN_SINCE
    return None if event.prev_data == head.data else Desync.CHAIN_PREV_DATA
