"""What the answer of a server does to a repository: the repair of what events left broken. Pure.

    reduce_answer        an answer comes: a snapshot is to be applied, or the account has a status
    differences          what the next records of a snapshot change (`merging.py`)
    after_slice, lost    how far the snapshot is applied; that the rest of it is gone
    replay               what waited is judged, in order, once all records are there
    request_for          the request that a broken repository needs

    desynchronized ──► applying ──► what waits is judged ──► synchronized, or broken anew
                        │   ▲ another snapshot
                        └───┘ chunks are lost half-way

The rules, in the order of their checks:

    H-05        a deletion that the account's own server contradicts, by giving the repository,
                was none: what the server says counts from the moment it was asked. So does a
                repository that it gives of an account of which upstream says that it is not
                active, if something signed put that in doubt
    H-10        a snapshot of an account that is not active is ignored otherwise
    I-05        a revision below what is decided comes from a stale copy, and is ignored
    G-32        the head's root: the head moves, and nothing has to be applied; unless an audit
                asked for it, which found that the records are not those of that root
    I-04        otherwise records are created, updated and deleted until they are the snapshot's
    I-02, I-03  what came meanwhile and is above it is judged then, as if it came now
    I-08        a server that has no repository to give says why: that is the account's status;
                that it knows none confirms a deletion
    H-11        an account that returns is asked for, because something may be missing
    H-12        a deletion is asked for, too: it may be none

Source: atproto.com/specs/sync "Record-Level Synchronization"; draft-holmgren-at-repository
"Re-synchronization".
"""

from dataclasses import replace
from datetime import UTC, datetime
from typing import assert_never

from pipelines.compact.accounts import (
    DELETED,
    is_in_doubt,
    is_older,
    with_status,
    without_repository,
)
from pipelines.compact.events import Event, Signed, Source, UnresolvedEvent
from pipelines.compact.reducer import (
    Outcome,
    Reduction,
    decided_rev,
    desynchronized,
    reduce_event,
    waiting_above,
)
from pipelines.compact.state import (
    AccountMark,
    Applying,
    Desync,
    Head,
    RepoState,
    Sync,
)
from pipelines.repair.manifests import Absent, Manifest, Snapshot
from pipelines.repair.requests import Cause, Request

# After so long a request is taken for lost: it is about to leave its topic.
REQUEST_LIFE_US = 6 * 86_400_000_000


def reduce_answer(known: RepoState | None, manifest: Manifest, snapshot_offset: int) -> Reduction:
    """Applies the answer of a server to a repository; its records are not merged yet.

    Args:
        known: the state before; None for a repository that was never heard of.
        manifest: of this repository.
        snapshot_offset: where it is in `snapshots`, in the repository's partition.
    """
    source = _source(manifest, snapshot_offset)
    state = RepoState(manifest.did, source) if known is None else known
    match manifest:
        case Snapshot():
            return _reduce_snapshot(state, manifest, source, snapshot_offset)
        case Absent():
            return _reduce_absent(state, manifest, source)
        case _:
            assert_never(manifest)


def snapshot_source(applying: Applying) -> Source:
    """Returns where the records of a snapshot come from."""
    return _source(applying.snapshot, applying.snapshot_offset)


def after_slice(
    state: RepoState, next_chunk_offset: int, next_chunk_index: int, after_path: str | None
) -> RepoState:
    """Returns the state after some records of a snapshot were applied.

    Args:
        state: before.
        next_chunk_offset: from which offset on chunks have still to be applied.
        next_chunk_index: which chunk of the snapshot comes there; the number of chunks if all
            records are applied: then what waits comes next.
        after_path: path up to which everything is applied; None if nothing is yet.
    """
    applying = _applying(state)
    if state.deleted_rev == applying.snapshot.rev:
        # It came back as it was: its records are not those that went, whose tombstones are out.
        state = replace(state, deleted_rev=None)
    if next_chunk_index < max(applying.snapshot.chunks_count, 1):
        progress = replace(
            applying,
            next_chunk_offset=next_chunk_offset,
            next_chunk_index=next_chunk_index,
            after_path=after_path,
            is_partial=True,
        )
        return replace(state, source=snapshot_source(applying), applying=progress)
    return _merged(state, applying)


def lost(state: RepoState) -> RepoState:
    """Returns the state when chunks of a snapshot are gone or not what its manifest says.

    The records are still the head's if none was changed. Otherwise nothing proves them until
    another snapshot comes.
    """
    applying = _applying(state)
    state = replace(state, source=snapshot_source(applying), requested_us=None)
    if applying.is_partial:
        return replace(state, applying=replace(applying, is_lost=True))
    return replace(state, sync=Sync.DESYNCHRONIZED, applying=None)


def replay(state: RepoState, event: Event | None) -> Reduction:
    """Judges the first message that waits, as if it came now.

    Args:
        state: all records of its snapshot are applied, and something waits.
        event: what waits; None if the topic no longer has it.
    """
    applying, (first, *rest) = _applying(state), state.waiting
    # A frame that nobody could prove, but received before the server was asked, is in the answer.
    is_covered = (
        isinstance(event, UnresolvedEvent)
        and event.source.received_us <= applying.snapshot.fetched_us
    )
    if event is None or is_covered:
        return Reduction(Outcome.IGNORED, _settled(replace(state, waiting=tuple(rest))))
    bare = replace(state, sync=Sync.SYNCHRONIZED, applying=None, waiting=())
    reduction = reduce_event(bare, event, first.events_offset)
    after = reduction.state or bare
    if reduction.outcome is Outcome.DESYNCHRONIZED:
        # It and all that follows wait for the next snapshot.
        return reduction._replace(state=replace(after, waiting=(*after.waiting, *rest)))
    after = replace(after, sync=Sync.APPLYING, applying=applying, waiting=tuple(rest))
    return reduction._replace(state=_settled(after))


def request_for(known: RepoState | None, state: RepoState, now_us: int) -> Request | None:
    """Returns the request that a repository needs, or None if it needs none or has one.

    Args:
        known: the state before; None for a repository that was never heard of.
        state: the state now.
        now_us: microseconds since the epoch.
    """
    seen_rev = None if state.seen is None else state.seen.rev
    is_back = known is not None and state.active and not known.active
    if is_back and state.source.snapshot_offset is None:
        # Nobody was to pass on what happened meanwhile, and a deletion may be taken back. Only
        # who comes back by an answer has a repository with it.
        return Request(state.did, Cause.REACTIVATION, state.reason, seen_rev, None, now_us)
    if state.deletion_us is not None and (known is None or known.deletion_us is None):
        return Request(state.did, Cause.DELETION, None, None, None, now_us)
    is_lost = state.applying is not None and state.applying.is_lost
    is_asked_about = state.active or is_in_doubt(state)
    if not is_asked_about or (state.sync is not Sync.DESYNCHRONIZED and not is_lost):
        return None
    if state.requested_us is not None and now_us - state.requested_us < REQUEST_LIFE_US:
        return None
    return Request(state.did, Cause.DESYNCHRONIZED, state.reason, seen_rev, None, now_us)


def _reduce_snapshot(
    state: RepoState, snapshot: Snapshot, source: Source, snapshot_offset: int
) -> Reduction:
    is_back = _contradicts(state, snapshot)
    if not state.active and not is_back:
        return Reduction(Outcome.INACTIVE)
    if snapshot.rev < decided_rev(state):
        # Whoever asked for it did so in vain.
        is_broken = state.sync is Sync.DESYNCHRONIZED
        return Reduction(Outcome.STALE, replace(state, requested_us=None) if is_broken else None)
    if is_back:
        state = with_status(state, source, _mark(snapshot), active=True, status=None)
    before = state.applying
    if before is not None and not before.is_lost and not is_back:
        return Reduction(Outcome.IGNORED)
    head = state.head
    has_root = before is None and head is not None and head.signed.data == snapshot.data
    is_held = has_root and snapshot.cause is not Cause.AUDIT
    is_current = head is not None and head.signed.rev == snapshot.rev
    is_complete = is_held and is_current and state.sync is Sync.SYNCHRONIZED
    if is_complete or not state.active:  # which an override may say of one that is back upstream
        return Reduction(Outcome.ACCOUNT, state) if is_back else Reduction(Outcome.STALE)
    signed = _signed(snapshot)
    # Of two commits with one revision the server's own counts.
    seen = signed if state.seen is None or signed.rev >= state.seen.rev else state.seen
    applying = Applying(
        snapshot,
        snapshot_offset,
        snapshot.first_chunk_offset,
        is_partial=before is not None,
    )
    if is_held:
        state = replace(state, source=source, seen=seen)
        return Reduction(Outcome.APPLIED, _merged(state, applying))
    reason = Desync.HISTORY_UNKNOWN if head is None else Desync.SYNC_DATA
    state = replace(
        desynchronized(state, source, reason), sync=Sync.APPLYING, seen=seen, applying=applying
    )
    return Reduction(Outcome.APPLYING, state)


def _reduce_absent(state: RepoState, absent: Absent, source: Source) -> Reduction:
    mark = _mark(absent)
    if is_older(mark, state.account):
        return Reduction(Outcome.STALE)
    if absent.status is None:
        if state.deletion_us is not None:
            return Reduction(Outcome.ACCOUNT, without_repository(replace(state, source=source)))
        # That one server does not have it is no reason to hide what the account published: it
        # may be moving, or the server lost it.
        return Reduction(Outcome.IGNORED)
    state = with_status(state, source, mark, active=False, status=absent.status)
    # That there is no identity any more needs no further confirmation.
    is_gone = absent.status == DELETED and not state.active
    return Reduction(Outcome.ACCOUNT, without_repository(state) if is_gone else state)


def _contradicts(state: RepoState, snapshot: Snapshot) -> bool:
    """Tells whether a snapshot shows that the account is active, whatever an upstream says.

    For a deletion, or in doubt, the account's own server is asked, which gives no repository of an
    account that is not active.
    """
    is_denied = state.deletion_us is not None and snapshot.cause is Cause.DELETION
    is_doubted = is_in_doubt(state) and snapshot.cause is Cause.DESYNCHRONIZED
    return (is_denied or is_doubted) and not is_older(_mark(snapshot), state.account)


def _mark(manifest: Manifest) -> AccountMark:
    """Returns who says by an answer what an account's status is, and when."""
    asked = datetime.fromtimestamp(manifest.fetched_us / 1_000_000, UTC)
    time = asked.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return AccountMark(manifest.host, None, time, manifest.fetched_us)


def _merged(state: RepoState, applying: Applying) -> RepoState:
    """Returns the state once the records are exactly those of a snapshot."""
    snapshot = applying.snapshot
    state = replace(
        state,
        source=snapshot_source(applying),
        sync=Sync.APPLYING,
        reason=None,
        desynchronized_us=None,
        requested_us=None,
        head=Head(_signed(snapshot), snapshot.commit_block),
        waiting=waiting_above(state, snapshot.rev),
        applying=replace(applying, after_path=None, is_merged=True),
    )
    return _settled(state)


def _settled(state: RepoState) -> RepoState:
    """Returns the state when nothing may wait any more; the same if something does."""
    if state.waiting:
        return state
    state = replace(state, sync=Sync.SYNCHRONIZED, applying=None)
    assert state.head is not None
    assert state.seen is not None
    if state.head.signed.commit == state.seen.commit:
        return state
    # A commit that was seen, and whose message is gone.
    return desynchronized(state, state.source, Desync.CHAIN_SINCE)


def _applying(state: RepoState) -> Applying:
    assert state.applying is not None
    return state.applying


def _signed(snapshot: Snapshot) -> Signed:
    return Signed(snapshot.rev, snapshot.commit, snapshot.data)


def _source(manifest: Manifest, snapshot_offset: int) -> Source:
    return Source(
        host=manifest.host,
        seq=None,
        time=None,
        received_us=manifest.fetched_us,
        frame_partition=None,
        frame_offset=None,
        snapshot_offset=snapshot_offset,
    )
