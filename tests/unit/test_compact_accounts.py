"""The status of an account, transition by transition, and what becomes of its records."""

from dataclasses import replace

import pytest
from support.answers import absent, chunk_values, record_cid, snapshot_of
from support.events import DID, HOST, account, commit, create, refused, rev, sync, unresolved

from pipelines.compact.accounts import (
    DEFAULT_PURGE_AFTER_S,
    OnInactive,
    Policy,
    without_repository,
)
from pipelines.compact.events import Event
from pipelines.compact.overrides import Override, OverrideStatus
from pipelines.compact.reducer import Outcome, reduce_event, reduce_override
from pipelines.compact.repair import after_slice, lost, reduce_answer, request_for
from pipelines.compact.state import (
    AccountMark,
    RepoState,
    Sync,
    encode_repo,
    finish_purge,
    parse_repo,
)
from pipelines.repair.manifests import Manifest, RepoError
from pipelines.repair.requests import Cause, Request

FIRST = commit(1, None, create("a.b.c/1", record_cid("x")))
GONE = account(2, active=False, status="deleted")
# When the server was asked: after everything that the events of these tests say.
ASKED_US = 2_000_000
RECORDS = {"a.b.c/1": "x", "a.b.c/2": "y"}
CHUNKS = chunk_values(5, RECORDS)


def after(*arrived: Event | Manifest) -> RepoState:
    """Returns the state after events and answers, of which the last must have changed it."""
    state: RepoState | None = None
    changed: RepoState | None = None
    for item in arrived:
        if isinstance(item, Manifest):
            changed = reduce_answer(state, item, 7).state
        else:
            changed = reduce_event(state, item, 0).state
        state = changed or state
    assert changed is not None
    return changed


def no_repo(fetched_us: int = ASKED_US) -> Manifest:
    """Returns the answer of a server that knows no such repository."""
    return absent(RepoError.NOT_FOUND, None, fetched_us)


def repo_of_server(number: int, fetched_us: int = ASKED_US, root: str | None = None) -> Manifest:
    """Returns the answer of the account's server that it has one, to whom asks if it is gone."""
    snapshot = snapshot_of(number, len(RECORDS), CHUNKS, fetched_us=fetched_us)
    return replace(snapshot, data=root or snapshot.data, cause=Cause.DELETION)


def has_gone(state: RepoState) -> bool:
    """Tells whether the records get their tombstones, or there never were any."""
    is_bare = (state.head, state.seen, state.applying, state.waiting) == (None, None, None, ())
    return is_bare and state.sync is Sync.UNKNOWN and state.deletion_us is None


# --- what an upstream says

STATUSES = [
    (True, None),
    (True, "desynchronized"),
    (True, "throttled"),
    (True, "of-the-future"),
    (False, "deactivated"),
    (False, "takendown"),
    (False, "suspended"),
    (False, "deleted"),
    (False, "desynchronized"),
    (False, "throttled"),
    (False, "of-the-future"),
    (False, None),
]


@pytest.mark.parametrize(("active", "status"), STATUSES)
@pytest.mark.parametrize(("was_active", "was_status"), STATUSES)
def test_every_status_may_follow_every_other(
    was_active: bool, was_status: str | None, active: bool, status: str | None
) -> None:
    """Spec: H-01, H-02, H-10, H-14."""
    before = after(FIRST, account(2, active=was_active, status=was_status))
    reduction = reduce_event(before, account(3, active=active, status=status), 0)
    state = reduction.state
    assert reduction.outcome is Outcome.ACCOUNT
    assert state is not None
    assert (state.active, state.status) == (active, status)
    # Nothing that an upstream alone says takes records away.
    assert (state.head, state.seen, state.sync) == (before.head, before.seen, Sync.SYNCHRONIZED)
    was_deleted, is_deleted = was_status == "deleted", status == "deleted"
    since_us = 1_000_002 if was_deleted else 1_000_003
    assert state.deletion_us == (since_us if is_deleted else None)
    expected = None
    if active and not was_active:
        expected = Request(DID, Cause.REACTIVATION, None, rev(1), None, 9)
    elif is_deleted and not was_deleted:
        expected = Request(DID, Cause.DELETION, None, None, None, 9)
    assert request_for(before, state, 9) == expected
    is_heeded = reduce_event(state, commit(2, 1), 0).outcome is Outcome.APPLIED
    assert is_heeded is active
    assert parse_repo(encode_repo(state)) == state


@pytest.mark.parametrize("event", [commit(2, 1), commit(7, 6), sync(2), refused(2), unresolved(2)])
def test_what_comes_while_a_deletion_waits_is_ignored(event: Event) -> None:
    """Spec: H-10."""
    assert reduce_event(after(FIRST, GONE), event, 0) == (Outcome.INACTIVE, None, ())


def test_who_has_no_records_has_nothing_to_wait_for() -> None:
    """Spec: H-02."""
    never = after(GONE)
    assert has_gone(never)
    assert (never.deleted_rev, never.is_purging) == (None, False)
    unknown = after(commit(5, 4), account(6, active=False, status="deleted"))
    assert has_gone(unknown)
    assert (unknown.deleted_rev, unknown.is_purging) == (rev(5), False)
    for state in (never, unknown):
        assert request_for(None, state, 9) is None


def test_a_deletion_of_before_the_newest_status_is_stale() -> None:
    """Spec: H-13."""
    state = after(FIRST, account(5, second=20))
    late = account(4, active=False, status="deleted", second=10)
    other = account(900, active=False, status="deleted", second=10, host="old.example")
    for event in (late, other):
        assert reduce_event(state, event, 0) == (Outcome.STALE, None, ())


# --- what confirms it


def test_a_server_that_knows_no_repository_confirms_a_deletion() -> None:
    """Spec: H-02, H-12, I-08."""
    state = after(FIRST, commit(2, 1), account(3, active=False, status="deleted"), no_repo())
    assert has_gone(state)
    assert (state.active, state.status) == (False, "deleted")
    assert (state.deleted_rev, state.is_purging) == (rev(2), True)
    assert state.source.snapshot_offset == 7
    # It says of the repository that it is not there, and nothing of the account.
    assert state.account is not None
    assert state.account.host == HOST


def test_a_directory_that_knows_no_account_confirms_it() -> None:
    state = after(FIRST, GONE, absent(RepoError.NOT_FOUND, "deleted", ASKED_US))
    assert has_gone(state)
    assert (state.active, state.status, state.is_purging) == (False, "deleted", True)


def test_what_a_server_said_before_the_deletion_confirms_nothing() -> None:
    """It may have been asked while the account moved."""
    known = after(FIRST, GONE)
    for answer in (no_repo(1_000_001), absent(RepoError.NOT_FOUND, "deleted", 1_000_001)):
        assert reduce_answer(known, answer, 7) == (Outcome.STALE, None, ())


def test_a_confirmation_covers_what_was_only_seen() -> None:
    gone = account(6, active=False, status="deleted")
    assert after(FIRST, refused(5), gone, no_repo()).deleted_rev == rev(5)


def test_a_second_deletion_neither_begins_the_time_anew_nor_forgets_the_first() -> None:
    again = account(9, active=False, status="deleted")
    waiting = after(FIRST, GONE, again)
    assert waiting.deletion_us == 1_000_002
    assert request_for(after(FIRST, GONE), waiting, 9) is None
    state = after(FIRST, commit(2, 1), GONE, no_repo(), account(9, active=False, status="deleted"))
    assert has_gone(state)
    assert (state.deleted_rev, state.is_purging) == (rev(2), True)


@pytest.mark.parametrize("has_merged", [False, True])
def test_a_deletion_and_a_confirmation_end_a_repair_and_take_its_records(has_merged: bool) -> None:
    """Spec: H-02, H-12."""
    begun = after_slice(after(snapshot_of(5, 2, CHUNKS), commit(6, 5)), 0, 0, "a.b.c/1")
    if has_merged:
        begun = after_slice(begun, len(CHUNKS), len(CHUNKS), "a.b.c/2")
    resting = reduce_event(begun, account(9, active=False, status="deleted"), 0).state
    assert resting is not None
    assert (resting.sync, resting.pending_snapshot) == (Sync.APPLYING, None)
    gone = reduce_answer(resting, no_repo(), 9).state
    assert gone is not None
    assert has_gone(gone)
    assert (gone.deleted_rev, gone.is_purging) == (rev(6), True)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RepoError.TAKENDOWN, "takendown"),
        (RepoError.SUSPENDED, "suspended"),
        (RepoError.DEACTIVATED, "deactivated"),
    ],
)
def test_a_server_that_says_something_else_is_believed(error: RepoError, status: str) -> None:
    """Spec: H-05, I-08."""
    state = after(FIRST, GONE, absent(error, status, ASKED_US))
    assert (state.active, state.status, state.deletion_us) == (False, status, None)
    assert state.head is not None


# --- what contradicts it


def test_a_server_that_still_has_the_repository_contradicts() -> None:
    """Of an account that has moved the old server speaks no more. Spec: H-05, H-13."""
    before = after(FIRST, GONE)
    reduction = reduce_answer(before, repo_of_server(1), 7)
    state = reduction.state
    assert reduction.outcome is Outcome.ACCOUNT
    assert state is not None
    assert (state.active, state.status, state.deletion_us) == (True, None, None)
    assert state.account == AccountMark("pds.example", None, "1970-01-01T00:00:02.000Z", ASKED_US)
    assert (state.head, state.sync) == (before.head, Sync.SYNCHRONIZED)
    # It came with its repository.
    assert request_for(before, state, 9) is None
    # What was received later counts.
    assert reduce_event(state, account(1_000_001, active=False, status="deleted"), 0).state


@pytest.mark.parametrize(
    ("root", "outcome", "sync_state"),
    [
        ("root-1", Outcome.APPLIED, Sync.SYNCHRONIZED),
        (None, Outcome.APPLYING, Sync.APPLYING),
    ],
)
def test_what_the_account_wrote_meanwhile_comes_with_it(
    root: str | None, outcome: Outcome, sync_state: Sync
) -> None:
    before = after(FIRST, GONE)
    reduction = reduce_answer(before, repo_of_server(5, root=root), 7)
    assert reduction.outcome is outcome
    assert reduction.state is not None
    assert (reduction.state.active, reduction.state.sync) == (True, sync_state)
    assert request_for(before, reduction.state, 9) is None


def test_a_repair_that_rested_gives_way_to_the_newer_repository() -> None:
    begun = after_slice(after(FIRST, snapshot_of(5, 2, CHUNKS)), 0, 0, "a.b.c/1")
    resting = reduce_event(begun, account(9, active=False, status="deleted"), 0).state
    assert resting is not None
    back = reduce_answer(resting, repo_of_server(8), 9).state
    assert back is not None
    assert back.applying is not None
    assert (back.applying.snapshot.rev, back.applying.is_partial) == (rev(8), True)
    assert back.pending_snapshot == 9
    # If its chunks are lost, nothing proves the records.
    assert lost(back).sync is Sync.APPLYING


@pytest.mark.parametrize(
    "answer",
    [
        repo_of_server(0),  # older than what we have: a copy that stands still
        repo_of_server(5, fetched_us=1_000_001),  # asked for before
        replace(snapshot_of(5, 2, CHUNKS), fetched_us=ASKED_US),  # whoever was asked
    ],
    ids=["stale-copy", "asked-before", "asked-for-another-reason"],
)
def test_other_answers_with_a_repository_contradict_nothing(answer: Manifest) -> None:
    known = after(FIRST, GONE)
    reduction = reduce_answer(known, answer, 7)
    assert reduction.outcome in (Outcome.STALE, Outcome.INACTIVE)
    assert reduction.state is None


def test_without_doubt_only_a_deletion_can_be_contradicted() -> None:
    """A relay may well hide what the server has."""
    hidden = after(FIRST, account(2, active=False, status="takendown"))
    assert reduce_answer(hidden, repo_of_server(5), 7) == (Outcome.INACTIVE, None, ())


def test_a_repair_goes_on_when_its_account_returns() -> None:
    resting = after(snapshot_of(5, 2, CHUNKS), account(9, active=False, status="deleted"))
    back = reduce_event(resting, account(10), 0).state
    assert back is not None
    assert (back.pending_snapshot, back.deletion_us) == (7, None)
    request = request_for(resting, back, 9)
    assert request is not None
    assert (request.cause, request.min_rev) == (Cause.REACTIVATION, rev(5))


# --- what the operator decides


def test_records_go_by_what_the_operator_decides() -> None:
    """Spec: H-03."""
    active, waiting = after(FIRST), after(FIRST, GONE)
    hidden = after(FIRST, account(2, active=False, status="suspended"))
    gone = without_repository(waiting)
    purging = Policy(on_inactive=OnInactive.PURGE)
    hasty = Policy(purge_after_s=0)
    for state, by_default, with_purge, at_once in (
        (active, False, False, False),
        (hidden, False, True, False),
        (waiting, False, True, True),
        (gone, False, True, False),
    ):
        assert Policy().purges_at_once(state) is by_default
        assert purging.purges_at_once(state) is with_purge
        assert hasty.purges_at_once(state) is at_once


def test_a_deletion_waits_for_a_day() -> None:
    day_us = 86_400_000_000
    assert day_us == DEFAULT_PURGE_AFTER_S * 1_000_000
    assert not Policy().is_overdue(5, 5 + day_us - 1)
    assert Policy().is_overdue(5, 5 + day_us)


@pytest.mark.parametrize(("number", "deleted_rev"), [(1, None), (2, rev(1))])
def test_an_account_that_comes_back_as_it_was_is_not_taken_for_the_one_that_went(
    number: int, deleted_rev: str | None
) -> None:
    """Readers hide records up to `deleted_rev`, which these would be.

    Spec: H-04, H-11.
    """
    taken_down = Override(OverrideStatus.DELETED, "Order 4711", 3)
    overridden = reduce_override(after(FIRST), DID, taken_down, 3_000).state
    assert overridden is not None
    assert has_gone(overridden)
    assert (overridden.active, overridden.status, overridden.deleted_rev) == (
        False,
        "deleted",
        rev(1),
    )
    assert request_for(after(FIRST), overridden, 3_000) is None
    lifted = reduce_override(finish_purge(overridden), DID, None, 4_000).state
    assert lifted is not None
    request = request_for(overridden, lifted, 4_000)
    assert request is not None
    assert request.cause is Cause.REACTIVATION
    answer = snapshot_of(number, len(RECORDS), CHUNKS, fetched_us=ASKED_US)
    applying = reduce_answer(lifted, answer, 7).state
    assert applying is not None
    # With its first records, before which nothing shows that it came back as it was.
    assert applying.deleted_rev == rev(1)
    begun = after_slice(applying, 0, 0, "a.b.c/1")
    assert begun.deleted_rev == deleted_rev
    assert after_slice(begun, 1, len(CHUNKS), None).deleted_rev == deleted_rev
