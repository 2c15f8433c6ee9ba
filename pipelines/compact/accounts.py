"""The status of an account, and what it does to its repository. Pure.

    active again    the records are still there, and the repository is asked for: something may
                    be missing (H-11)
    not active      the records stay, for readers to hide, or go (`OnInactive`); commits are
                    ignored (H-10)
    in doubt        not active by upstream's word, and something signed came after it: the
                    account's server is asked, whose word is newer; until it answers, nothing
                    changes (H-05, H-06)
    deleted         the same at once; the records go when it is confirmed: the account's server
                    says that it has no repository, or the directory that the account has no
                    identity; at the latest after `Policy.purge_after_s`

That is about the status that counts: what the operator says (`overrides.py`) or else what was last
said upstream. The two are kept apart, so that upstream's present word counts once an override is
lifted. A deletion by the operator needs no confirmation; one by upstream goes its way under
an override, except under one that says that the account is active.

A deletion that waits is in the state, and so in `repos`: who gets the partition finds it there.

Source: atproto.com/specs/account. spec: H-01, H-02, H-04, H-05, H-06, H-10, H-11,
H-12
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from pipelines.atproto.syntax import parse_datetime
from pipelines.compact.events import Source
from pipelines.compact.overrides import Override, OverrideStatus, override_source
from pipelines.compact.state import AccountMark, RepoState, Sync
from pipelines.compact.tracking import EVERYTHING, Tracked

DELETED: Final = "deleted"

# How long the records of a deleted account wait for a confirmation: a server that is away for a
# night can still be asked, and nobody has to read on the next day what was deleted.
DEFAULT_PURGE_AFTER_S: Final = 86_400.0

# What its server said of an account is not doubted for so long, whatever comes signed meanwhile:
# one that is hidden and goes on writing costs its server a question an hour.
SERVER_WORD_US: Final = 3_600_000_000


class OnInactive(StrEnum):
    """What becomes of the records of an account that is not active and not deleted."""

    KEEP = "keep"  # readers hide them, by `repos`
    PURGE = "purge"  # they get their tombstones, as those of a deleted account


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator decides.

    Attributes:
        is_repairing: whether servers are asked for repositories.
        on_inactive: what becomes of the records of accounts that are not active.
        purge_after_s: how long those of a deleted account wait for a confirmation at most,
            seconds; with 0 they go at once, and nobody is asked.
        tracked: which repositories are taken up.
    """

    is_repairing: bool = True
    on_inactive: OnInactive = OnInactive.KEEP
    purge_after_s: float = DEFAULT_PURGE_AFTER_S
    tracked: Tracked = EVERYTHING

    def purges_at_once(self, state: RepoState) -> bool:
        """Tells whether the records of an account go now, whatever anybody confirms."""
        if state.active or is_in_doubt(state):
            return False
        is_waiting = state.deletion_us is not None
        return self.on_inactive is OnInactive.PURGE or (is_waiting and self.purge_after_s == 0)

    def is_overdue(self, deletion_us: int, now_us: int) -> bool:
        """Tells whether a deletion has waited for long enough.

        Args:
            deletion_us: since when it waits, microseconds since the epoch.
            now_us: the time of day, likewise.
        """
        return now_us - deletion_us >= self.purge_after_s * 1_000_000


def with_status(
    state: RepoState, source: Source, mark: AccountMark, *, active: bool, status: str | None
) -> RepoState:
    """Returns the state after something was said of the account, by an upstream or a server.

    Args:
        state: before.
        source: where that comes from.
        mark: who said it, and when.
        active: whether the account may be shown.
        status: why not, or None.
    """
    state = replace(
        state, source=source, upstream_active=active, upstream_status=status, account=mark
    )
    return _standing(state, mark.received_us)


def with_override(state: RepoState, override: Override | None, received_us: int) -> RepoState:
    """Returns the state after the operator said something of the account.

    Args:
        state: before.
        override: what counts from now on; None if upstream's word does again.
        received_us: when that was said, microseconds since the epoch.
    """
    state = replace(state, source=override_source(received_us), override=override)
    return _standing(state, received_us)


def _standing(state: RepoState, received_us: int) -> RepoState:
    """Returns the state with what its status means for its records."""
    if state.active:
        return replace(state, deletion_us=None)
    # What is missing by then is asked for when the account returns.
    state = replace(state, requested_us=None)
    if state.override is not None and state.override.status is OverrideStatus.DELETED:
        return without_repository(state)
    if state.upstream_active or state.upstream_status != DELETED:
        return replace(state, deletion_us=None)
    if state.head is None and state.applying is None:
        return without_repository(state)
    return replace(
        state, deletion_us=received_us if state.deletion_us is None else state.deletion_us
    )


def puts_in_doubt(state: RepoState, source: Source) -> bool:
    """Tells whether something signed makes it doubtful that its account is not active.

    Who is not active writes nothing that is passed on. What upstream says of an account is signed
    by nobody, comes from hop to hop, and may be of a server that the account has left. A deletion
    is asked about anyway, and what the operator says nobody doubts.

    Args:
        state: of an account that is not active.
        source: where the signed event comes from.
    """
    account = state.account
    is_by_upstream = state.override is None and account is not None
    if not is_by_upstream or state.upstream_status == DELETED or state.applying is not None:
        return False
    assert account is not None
    patience_us = SERVER_WORD_US if account.seq is None else 0
    return source.received_us - account.received_us > patience_us


def is_in_doubt(state: RepoState) -> bool:
    """Tells whether something signed changed the state of an account that is not active."""
    account = state.account
    is_hidden = not state.active and state.override is None and state.deletion_us is None
    is_by_event = state.source.frame_offset is not None
    return (
        is_hidden
        and is_by_event
        and account is not None
        and state.source.received_us > account.received_us
    )


def is_older(mark: AccountMark, known: AccountMark | None) -> bool:
    """Tells whether a status was said before the one we have: no chain orders the two."""
    if known is None:
        return False
    if mark.seq is None or known.seq is None:
        # What was received after the host had been asked is newer than its answer, whatever their
        # clocks say: so the last event that comes decides, and no clock holds it up.
        return mark.received_us < known.received_us
    if mark.host != known.host:
        # Sequence numbers of different hosts say nothing about each other; their clocks may.
        return parse_datetime(mark.time) < parse_datetime(known.time)
    # One that was set back begins its numbers anew, and its clock goes on.
    is_earlier = parse_datetime(mark.time) <= parse_datetime(known.time)
    return mark.seq <= known.seq and is_earlier


def without_repository(state: RepoState) -> RepoState:
    """Returns the state of an account whose records are to go, up to the newest known revision."""
    revs = [signed.rev for signed in (state.seen, state.head and state.head.signed) if signed]
    if state.deleted_rev is not None:
        revs.append(state.deleted_rev)
    return replace(
        state,
        sync=Sync.UNKNOWN,
        reason=None,
        desynchronized_us=None,
        requested_us=None,
        head=None,
        seen=None,
        waiting=(),
        applying=None,
        deletion_us=None,
        deleted_rev=max(revs, default=None),
        is_purging=state.is_purging or state.head is not None or state.applying is not None,
    )
