"""Which of the repositories that a host lists have to be fetched. Pure.

What is listed is compared with what `repos` says. Too much is asked for rather than too little: a
repository that turns out to be what we have costs a request, and changes nothing.
"""

from enum import StrEnum
from typing import NamedTuple

from pipelines.atproto.syntax import Tid, tid_time_us
from pipelines.compact.state import RepoState, Sync
from pipelines.compact.tracking import EVERYTHING, Tracked
from pipelines.crawl.listing import Listing


class Known(NamedTuple):
    """What `repos` says of a repository, as far as it is compared.

    Attributes:
        is_synchronized: whether the records are complete up to that revision, or becoming so by a
            snapshot that is being taken over.
        rev: the newest revision known to be signed, or None.
        active: whether the account may be shown.
        status: why not, or None.
        host: the upstream of the last event that changed anything.
    """

    is_synchronized: bool
    rev: Tid | None
    active: bool
    status: str | None
    host: str


class Judgment(StrEnum):
    """What becomes of a listed repository."""

    REQUESTED = "requested"
    SYNCHRONIZED = "synchronized"  # what we have is as new
    INACTIVE = "inactive"  # there is nothing to be had
    ON_ITS_WAY = "on_its_way"  # we know of that revision, and its repair has been requested
    REPEATED = "repeated"  # another list had it before
    AGAIN = "again"  # this list had it before
    # Nothing of it was ever seen, and no change since the gap is known; or it is not tracked.
    OLDER = "older"


def known_of(state: RepoState) -> Known:
    """Returns what is compared of a repository's state."""
    revs = [signed.rev for signed in (state.head and state.head.signed, state.seen) if signed]
    if state.applying is not None:
        revs.append(state.applying.snapshot.rev)
    return Known(
        is_synchronized=state.sync in (Sync.SYNCHRONIZED, Sync.APPLYING),
        rev=max(revs, default=None),
        active=state.active,
        status=state.status,
        host=state.source.host,
    )


def judge_for_backfill(listing: Listing, known: Known | None) -> Judgment:
    """Tells whether a repository is wanted by whoever wants all that are listed.

    A repository that is desynchronized is, also if its repair has been requested: by whom, and
    whether at all, `repos` does not tell, and two requests have one fetch as their consequence.

    Args:
        listing: what a host says of it.
        known: what `repos` says; None if it has nothing.
    """
    if known is None:
        return Judgment.INACTIVE if listing.active is False else Judgment.REQUESTED
    if not known.active and listing.active is not True:
        return Judgment.INACTIVE
    if known.active is (listing.active is not False) and is_complete_to(known, listing.rev):
        return Judgment.SYNCHRONIZED
    return Judgment.REQUESTED


def judge_for_sweep(
    listing: Listing, known: Known | None, since_us: int | None, tracked: Tracked = EVERYTHING
) -> Judgment:
    """Tells whether a repository may have changed while we did not see its events.

    Args:
        listing: what the upstream says of it.
        known: what `repos` says; None if it has nothing.
        since_us: when the gap began, microseconds since the epoch; None where nobody knows. A
            repository that we have nothing of, and that is not known to have changed since then,
            is for a backfill to ask for.
        tracked: which repositories are taken up. What those that we have nothing of have records
            in, no list tells.
    """
    if known is None:
        is_tracked = tracked.names(listing.did)
        return _judge_unknown(listing, since_us) if is_tracked else Judgment.OLDER
    if listing.active is not None and listing.active is not known.active:
        return Judgment.REQUESTED
    if not known.active:
        is_same = listing.active is None or listing.status == known.status
        return Judgment.INACTIVE if is_same else Judgment.REQUESTED
    if is_complete_to(known, listing.rev):
        return Judgment.SYNCHRONIZED
    if known.rev is not None and listing.rev is not None and known.rev >= listing.rev:
        return Judgment.ON_ITS_WAY
    return Judgment.REQUESTED


def _judge_unknown(listing: Listing, since_us: int | None) -> Judgment:
    if listing.active is False:
        return Judgment.INACTIVE
    if since_us is None or (listing.rev is not None and tid_time_us(listing.rev) < since_us):
        return Judgment.OLDER
    return Judgment.REQUESTED


def is_missed(known: Known, host: str, listed_us: int) -> bool:
    """Tells whether a repository has to be looked at because its upstream does not list it.

    Relays list active accounts only, so one that went in a gap shows by its absence.

    Args:
        known: what `repos` says of it.
        host: the upstream whose list was read to its end, as `repos` names it.
        listed_us: when reading it began, microseconds since the epoch: what was made since may
            have come after its page.
    """
    is_newer = known.rev is not None and tid_time_us(known.rev) >= listed_us
    return known.active and known.host == host and not is_newer


def is_complete_to(known: Known, rev: Tid | None) -> bool:
    """Tells whether a repository is complete here, up to a revision.

    Args:
        known: what `repos` says of it.
        rev: the revision; None where nobody knows it.
    """
    return known.is_synchronized and (rev is None or (known.rev is not None and known.rev >= rev))
