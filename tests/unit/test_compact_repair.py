"""What answers of servers do to a repository, row by row; the whole course is a property test."""

from dataclasses import replace

import pytest
from support.answers import absent, chunk_values, record_cid, snapshot_of
from support.events import DID, account, commit, create, refused, rev, sync, unresolved

from pipelines.atproto.syntax import Tid
from pipelines.compact.events import Event, Source
from pipelines.compact.reducer import Outcome, reduce_event
from pipelines.compact.repair import (
    REQUEST_LIFE_US,
    after_slice,
    lost,
    reduce_answer,
    replay,
    request_for,
)
from pipelines.compact.state import (
    MAX_WAITING_COUNT,
    AccountMark,
    Desync,
    RepoState,
    Sync,
    Waiting,
    encode_repo,
    parse_repo,
)
from pipelines.repair.manifests import Manifest, RepoError
from pipelines.repair.requests import Cause, Request

FIRST = commit(1, None, create("a.b.c/1", record_cid("x")))
RECORDS = {f"a.b.c/{n}": f"text {n}" for n in range(4)}
CHUNKS = chunk_values(5, RECORDS)
SNAPSHOT = snapshot_of(5, len(RECORDS), CHUNKS)
FAR_US = 4_000_000_000_000_000


def after(*arrived: Event | Manifest) -> RepoState:
    """Returns the state after events and answers, of which the last must have changed it."""
    state: RepoState | None = None
    changed: RepoState | None = None
    for number, item in enumerate(arrived):
        if isinstance(item, Manifest):
            changed = reduce_answer(state, item, number).state
        else:
            changed = reduce_event(state, item, 100 + number).state
        state = changed or state
    assert changed is not None
    return changed


def merged(state: RepoState) -> RepoState:
    """Returns the state after all records were applied."""
    return after_slice(state, len(CHUNKS), len(CHUNKS), "a.b.c/3")


# --- snapshots


@pytest.mark.parametrize(
    ("before", "reason"),
    [
        ([], Desync.HISTORY_UNKNOWN),
        ([FIRST], Desync.SYNC_DATA),
        ([FIRST, commit(4, 3)], Desync.CHAIN_SINCE),
        ([FIRST, refused(3, "commit.path_twice")], "commit.path_twice"),
    ],
    ids=["unknown", "synchronized", "broken", "refused"],
)
def test_a_snapshot_with_another_root_is_to_be_applied(before: list[Event], reason: str) -> None:
    """Spec: I-01, I-04."""
    state = after(*before, SNAPSHOT)
    assert (state.sync, state.reason) == (Sync.APPLYING, reason)
    assert state.head == (after(*before).head if before else None)
    assert state.seen is not None
    assert state.seen.rev == rev(5)
    assert state.pending_snapshot == len(before)
    assert state.source == Source("pds.example", None, None, 1_000_005, None, None, len(before))
    assert parse_repo(encode_repo(state)) == state


def test_the_head_s_root_needs_no_records() -> None:
    """Spec: G-32. An unresolved commit turned out to be none, or the same is signed anew."""
    same = replace(SNAPSHOT, data="root-1")
    state = after(FIRST, unresolved(2), same)
    assert (state.sync, state.reason, state.waiting) == (
        Sync.APPLYING,
        None,
        (Waiting(None, 101),),
    )
    settled = replay(state, unresolved(2))
    assert settled.outcome is Outcome.IGNORED
    assert settled.state is not None
    assert (settled.state.sync, settled.state.waiting) == (Sync.SYNCHRONIZED, ())
    assert settled.state.head is not None
    assert settled.state.head.signed.rev == rev(5)
    assert reduce_answer(settled.state, same, 9) == (Outcome.STALE, None, ())


def test_after_an_audit_the_head_s_root_is_applied_all_the_same() -> None:
    """The records are what the audit doubts: they may not be those of the root that is known."""
    held = after(FIRST)
    assert held.head is not None
    same = replace(
        SNAPSHOT,
        rev=held.head.signed.rev,
        commit="commit-1",
        data="root-1",
        commit_block="block-1",
    )
    assert reduce_answer(held, same, 1).outcome is Outcome.STALE
    doubted = reduce_answer(held, replace(same, cause=Cause.AUDIT), 1)
    assert doubted.outcome is Outcome.APPLYING
    assert doubted.state is not None
    assert doubted.state.head == held.head
    settled = merged(doubted.state)
    assert (settled.sync, settled.head) == (Sync.SYNCHRONIZED, held.head)


def test_an_unresolved_commit_of_after_the_snapshot_still_counts() -> None:
    state = merged(after(FIRST, SNAPSHOT, unresolved(9)))
    assert (state.sync, state.waiting) == (Sync.APPLYING, (Waiting(None, 102),))
    reduction = replay(state, unresolved(9))
    assert reduction.outcome is Outcome.DESYNCHRONIZED
    assert reduction.state is not None
    assert reduction.state.reason == "identity.unavailable"


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_stale_copy_is_ignored_and_asked_for_again(number: int) -> None:
    """Spec: I-05."""
    head: list[Event] = [FIRST, commit(2, 1), commit(3, 2), commit(4, 3), commit(9, 8)]
    state = replace(after(*head), requested_us=7)
    reduction = reduce_answer(state, snapshot_of(number, 4, CHUNKS), 9)
    assert reduction == (Outcome.STALE, replace(state, requested_us=None), ())
    whole = after(*head[:-1])
    assert reduce_answer(whole, snapshot_of(number, 4, CHUNKS), 9) == (Outcome.STALE, None, ())


def test_a_snapshot_of_before_a_deletion_is_stale_and_one_of_it_is_not() -> None:
    gone: list[Event | Manifest] = [
        FIRST,
        commit(2, 1),
        account(3, active=False, status="deleted"),
        absent(RepoError.NOT_FOUND, None, 1_000_003),
        account(4),
    ]
    state = after(*gone)
    assert state.deleted_rev == rev(2)
    older = reduce_answer(state, snapshot_of(1, 4, CHUNKS), 9)
    assert older == (Outcome.STALE, None, ())
    # A deletion may be taken back, and then nothing new was signed.
    assert after(*gone, snapshot_of(2, 4, CHUNKS)).sync is Sync.APPLYING


def test_of_two_commits_with_one_revision_the_server_s_counts() -> None:
    forked = after(FIRST, refused(5), replace(SNAPSHOT, commit="commit-other"))
    state = merged(forked)
    assert state.sync is Sync.SYNCHRONIZED
    assert state.head is not None
    assert state.head.signed.commit == "commit-other"


def test_a_snapshot_of_an_inactive_account_is_ignored() -> None:
    """Spec: H-10."""
    state = after(FIRST, account(2, active=False, status="suspended"))
    assert reduce_answer(state, SNAPSHOT, 9) == (Outcome.INACTIVE, None, ())


def test_while_one_is_applied_another_is_ignored() -> None:
    state = after(FIRST, SNAPSHOT)
    assert reduce_answer(state, snapshot_of(7, 4, CHUNKS), 9) == (Outcome.IGNORED, None, ())
    assert reduce_answer(state, snapshot_of(4, 4, CHUNKS), 9) == (Outcome.STALE, None, ())


# --- meanwhile


def test_what_comes_meanwhile_waits_and_is_judged_in_order() -> None:
    """Spec: I-02, I-03."""
    sixth, seventh = commit(6, 5, create("a.b.c/6", "z")), commit(7, 6)
    state = after(FIRST, commit(4, 3), SNAPSHOT, sixth, seventh)
    assert state.waiting == (Waiting(rev(4), 101), Waiting(rev(6), 103), Waiting(rev(7), 104))
    assert reduce_event(state, commit(5, 4), 0) == (Outcome.STALE, None, ())
    state = merged(state)
    # What the snapshot contains is done with.
    assert (state.sync, state.waiting[0]) == (Sync.APPLYING, Waiting(rev(6), 103))
    first = replay(state, sixth)
    assert (first.outcome, first.ops) == (Outcome.APPLIED, sixth.ops)
    assert first.state is not None
    assert (first.state.sync, first.state.waiting) == (Sync.APPLYING, (Waiting(rev(7), 104),))
    second = replay(first.state, seventh)
    assert second.state is not None
    assert (second.state.sync, second.state.waiting) == (Sync.SYNCHRONIZED, ())
    assert second.state.head is not None
    assert second.state.head.signed.rev == rev(7)


def test_the_first_that_does_not_chain_breaks_it_anew_and_the_rest_waits_on() -> None:
    """Spec: I-03."""
    state = merged(after(FIRST, commit(4, 3), SNAPSHOT, commit(7, 6), sync(8)))
    reduction = replay(state, commit(7, 6))
    assert reduction.outcome is Outcome.DESYNCHRONIZED
    broken = reduction.state
    assert broken is not None
    assert (broken.sync, broken.reason, broken.applying) == (
        Sync.DESYNCHRONIZED,
        Desync.CHAIN_SINCE,
        None,
    )
    # Its own break, not the one that was repaired.
    assert broken.desynchronized_us == 1_000_007
    assert broken.waiting == (Waiting(rev(7), 103), Waiting(rev(8), 104))
    assert request_for(None, broken, 5) == Request(
        DID, Cause.DESYNCHRONIZED, Desync.CHAIN_SINCE, rev(8), None, 5
    )


def test_a_commit_whose_message_is_gone_leaves_the_repository_broken() -> None:
    state = merged(after(FIRST, SNAPSHOT, commit(6, 5)))
    reduction = replay(state, None)
    assert reduction.outcome is Outcome.IGNORED
    assert reduction.state is not None
    assert (reduction.state.sync, reduction.state.reason) == (
        Sync.DESYNCHRONIZED,
        Desync.CHAIN_SINCE,
    )


def test_the_oldest_that_waits_gives_way() -> None:
    events = [commit(10 + n, 9 + n) for n in range(MAX_WAITING_COUNT + 3)]
    state = after(FIRST, *events)
    assert len(state.waiting) == MAX_WAITING_COUNT
    assert state.waiting[0] == Waiting(rev(13), 104)
    assert state.waiting[-1].rev == events[-1].signed.rev
    assert len(encode_repo(state)) < 20_000


def test_what_is_held_after_all_waits_no_longer() -> None:
    filled = after(FIRST, commit(3, 2), commit(4, 3), commit(2, 1))
    assert filled.waiting == (Waiting(rev(3), 101), Waiting(rev(4), 102))
    closed = after(FIRST, commit(3, 2), commit(2, 1), commit(3, 2))
    assert (closed.sync, closed.waiting) == (Sync.SYNCHRONIZED, ())


# --- chunks that are lost


def test_chunks_that_are_lost_before_anything_changed_leave_the_head() -> None:
    state = lost(replace(after(FIRST, commit(4, 3), SNAPSHOT), requested_us=7))
    assert (state.sync, state.reason, state.applying) == (
        Sync.DESYNCHRONIZED,
        Desync.CHAIN_SINCE,
        None,
    )
    assert request_for(None, state, 5) is not None


def test_chunks_that_are_lost_half_way_need_another_snapshot() -> None:
    state = lost(after_slice(after(FIRST, SNAPSHOT), 0, 0, "a.b.c/1"))
    assert (state.sync, state.pending_snapshot) == (Sync.APPLYING, None)
    request = request_for(None, state, 5)
    assert request is not None
    assert request.min_rev == rev(5)
    # Nothing continues what is half-way, not even the head's own root.
    assert reduce_event(state, sync(9, "root-1"), 0).outcome is Outcome.WAITING
    assert reduce_answer(state, snapshot_of(4, 4, CHUNKS), 9).outcome is Outcome.STALE
    again = reduce_answer(state, replace(snapshot_of(7, 4, CHUNKS), data="root-1"), 9)
    assert again.outcome is Outcome.APPLYING
    assert again.state is not None
    # And if its chunks are lost as well, it is still half-way.
    assert lost(again.state).sync is Sync.APPLYING
    assert merged(again.state).sync is Sync.SYNCHRONIZED


# --- requests


def test_a_break_is_asked_for_once() -> None:
    state = after(FIRST, commit(4, 3))
    request = request_for(None, state, 11)
    assert request == Request(DID, Cause.DESYNCHRONIZED, Desync.CHAIN_SINCE, rev(4), None, 11)
    asked = replace(state, requested_us=11)
    more = reduce_event(asked, commit(6, 5), 0).state
    assert more is not None
    assert request_for(None, more, 12) is None
    assert request_for(None, more, 11 + REQUEST_LIFE_US) is not None
    for whole in (after(FIRST), after(FIRST, SNAPSHOT), after(account(1))):
        assert request_for(None, whole, FAR_US) is None


@pytest.mark.parametrize(
    ("before", "status", "reason", "min_rev"),
    [
        ([FIRST], "suspended", None, rev(1)),
        ([FIRST, commit(4, 3)], "takendown", "chain.since", rev(4)),
        ([], "deactivated", None, None),
    ],
    ids=["whole", "broken", "unknown"],
)
def test_an_account_that_returns_is_asked_for(
    before: list[Event], status: str, reason: str | None, min_rev: str | None
) -> None:
    """Spec: H-11."""
    away = after(*before, account(5, active=False, status=status))
    known = after(*before) if before else None
    assert request_for(known, away, FAR_US) is None
    back = reduce_event(away, account(6), 0).state
    assert back is not None
    assert request_for(away, back, 12) == Request(
        DID, Cause.REACTIVATION, reason, Tid(min_rev) if min_rev else None, None, 12
    )
    assert request_for(away, reduce_event(away, account(4), 0).state or away, 12) is None


# --- servers that have nothing to give


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RepoError.TAKENDOWN, "takendown"),
        (RepoError.SUSPENDED, "suspended"),
        (RepoError.DEACTIVATED, "deactivated"),
    ],
)
def test_an_error_of_the_server_is_a_status(error: RepoError, status: str) -> None:
    """Spec: I-08."""
    state = after(FIRST, commit(4, 3), absent(error, status))
    assert (state.active, state.status) == (False, status)
    assert state.account == AccountMark(
        "pds.example", None, "2033-05-18T03:33:20.000Z", 2_000_000_000_000_000
    )
    assert state.head is not None
    assert parse_repo(encode_repo(state)) == state
    # What was received later counts, whatever the clock of whoever says it.
    returned = account(7)
    early, late = (
        replace(returned, source=returned.source._replace(received_us=received_us))
        for received_us in (1_999_999_999_999_999, 2_000_000_000_000_000)
    )
    assert reduce_event(state, early, 9).outcome is Outcome.STALE
    assert reduce_event(state, late, 9).outcome is Outcome.ACCOUNT


def test_an_answer_of_before_the_account_s_status_is_stale() -> None:
    known = after(FIRST, account(2, second=20))
    answer = absent(RepoError.TAKENDOWN, "takendown", fetched_us=1_000_000)
    assert reduce_answer(known, answer, 9) == (Outcome.STALE, None, ())


@pytest.mark.parametrize("known", [[], [FIRST], [FIRST, account(2, active=False)]])
def test_that_one_server_does_not_know_it_hides_nothing(known: list[Event]) -> None:
    """A repository may be moving; and servers lose things. Spec: H-05."""
    state = after(*known) if known else None
    answer = absent(RepoError.NOT_FOUND, None)
    assert reduce_answer(state, answer, 9) == (Outcome.IGNORED, None, ())


def test_an_account_without_an_identity_is_deleted() -> None:
    state = after(FIRST, absent(RepoError.NOT_FOUND, "deleted"))
    assert (state.active, state.status, state.sync) == (False, "deleted", Sync.UNKNOWN)
    assert (state.deleted_rev, state.is_purging) == (rev(1), True)
