"""The transition table of compact, row by row."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from support.events import (
    DID,
    account,
    commit,
    create,
    delete,
    identity,
    refused,
    rev,
    signed,
    source,
    sync,
    unresolved,
)

from pipelines.atproto.cid import encode_cid
from pipelines.atproto.mst import EMPTY_ROOT_CID
from pipelines.compact.accounts import without_repository
from pipelines.compact.events import Event
from pipelines.compact.reducer import Outcome, reduce_event
from pipelines.compact.state import Desync, Head, RepoState, Sync, encode_repo, parse_repo

_ARCHITECTURE = Path(__file__).parents[2] / "ARCHITECTURE.md"

FIRST = commit(1, None, create("a.b.c/1", "x"))


def after(*events: Event) -> RepoState:
    """Returns the state after events, of which the last must have changed it."""
    state: RepoState | None = None
    changed: RepoState | None = None
    for event in events:
        changed = reduce_event(state, event, 0).state
        state = changed or state
    assert changed is not None
    return changed


def held(state: RepoState) -> tuple[str | None, str, str | None]:
    head = None if state.head is None else state.head.signed.rev
    return (head, state.sync, state.reason)


# --- first commits


@pytest.mark.parametrize("prev_data", [None, encode_cid(EMPTY_ROOT_CID)])
def test_a_first_commit_begins_a_repository(prev_data: str | None) -> None:
    """Spec: G-18."""
    event = commit(1, None, create("a.b.c/1", "x"), prev_data=prev_data)
    reduction = reduce_event(None, event, 0)
    assert reduction.outcome is Outcome.APPLIED
    assert reduction.ops == event.ops
    state = reduction.state
    assert state is not None
    assert (state.sync, state.head, state.seen) == (
        Sync.SYNCHRONIZED,
        Head(event.signed, "block-1"),
        event.signed,
    )


@pytest.mark.parametrize(
    "event",
    [
        commit(5, 4, create("a.b.c/1", "x")),
        commit(5, None, prev_data="root-4"),
        sync(5),
        sync(5, encode_cid(EMPTY_ROOT_CID)),
    ],
    ids=["commit", "first-by-name-only", "sync", "sync-to-an-empty-tree"],
)
def test_an_unknown_repository_with_history_is_desynchronized(event: Event) -> None:
    """Spec: G-18."""
    reduction = reduce_event(None, event, 0)
    assert reduction.outcome is Outcome.DESYNCHRONIZED
    assert reduction.ops == ()
    assert reduction.state is not None
    assert held(reduction.state) == (None, "desynchronized", "history.unknown")
    assert reduction.state.desynchronized_us == 1_000_005


def test_an_account_that_was_only_announced_begins_with_its_first_commit() -> None:
    announced = after(account(1))
    assert held(announced) == (None, "unknown", None)
    assert held(after(account(1), FIRST)) == (rev(1), "synchronized", None)


# --- the chain


def test_a_commit_that_continues_the_head_is_applied() -> None:
    """Spec: G-16."""
    second = commit(2, 1, delete("a.b.c/1", "x"), create("a.b.c/2", "y"))
    reduction = reduce_event(after(FIRST), second, 0)
    assert reduction.outcome is Outcome.APPLIED
    assert reduction.ops == second.ops
    assert reduction.state is not None
    assert held(reduction.state) == (rev(2), "synchronized", None)


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (commit(3, 2), Desync.CHAIN_SINCE),
        (commit(3, 2, prev_data="root-1"), Desync.CHAIN_SINCE),
        (commit(3, 1, prev_data="root-2"), Desync.CHAIN_PREV_DATA),
        (commit(3, None), Desync.CHAIN_RESTARTED),
        (sync(3), Desync.SYNC_DATA),
        (refused(3, "commit.path_twice"), "commit.path_twice"),
    ],
)
def test_what_does_not_continue_the_head_desynchronizes(event: Event, reason: str) -> None:
    """Spec: G-16, G-19, G-33; and a refused commit makes its repository suspect."""
    reduction = reduce_event(after(FIRST), event, 0)
    assert (reduction.outcome, reduction.ops) == (Outcome.DESYNCHRONIZED, ())
    assert reduction.state is not None
    assert held(reduction.state) == (rev(1), "desynchronized", reason)
    assert reduction.state.seen is not None
    assert reduction.state.seen.rev == rev(3)


@pytest.mark.parametrize("event", [commit(1, None), commit(1, 2), sync(1), refused(1)])
def test_a_revision_that_is_not_above_the_head_is_ignored(event: Event) -> None:
    """Spec: G-04, G-31."""
    known = after(FIRST)
    assert reduce_event(known, event, 0) == (Outcome.STALE, None, ())
    assert reduce_event(after(FIRST, commit(2, 1)), event, 0).outcome is Outcome.STALE


def test_a_sync_to_the_same_root_moves_the_head() -> None:
    """Spec: G-32. Key rotations and rebuilds emit these."""
    reduction = reduce_event(after(FIRST), sync(2, "root-1"), 0)
    assert (reduction.outcome, reduction.ops) == (Outcome.APPLIED, ())
    assert reduction.state is not None
    assert held(reduction.state) == (rev(2), "synchronized", None)
    assert reduction.state.head == Head(signed(2, "root-1"), "block-2")
    # The next commit follows the sync's revision.
    third = commit(3, 2, prev_data="root-1")
    assert reduce_event(reduction.state, third, 0).outcome is Outcome.APPLIED


# --- desynchronized repositories


def test_the_first_reason_stays_and_the_records_too() -> None:
    broken = after(FIRST, commit(3, 2))
    state = after(FIRST, commit(3, 2), commit(4, 3, create("a.b.c/9", "z")), refused(5))
    assert held(state) == (rev(1), "desynchronized", Desync.CHAIN_SINCE)
    assert state.desynchronized_us == broken.desynchronized_us == 1_000_003
    assert state.seen is not None
    assert state.seen.rev == rev(5)


def test_missing_commits_that_come_after_all_close_the_chain() -> None:
    filled = after(FIRST, commit(3, 2), commit(2, 1))
    assert held(filled) == (rev(2), "desynchronized", Desync.CHAIN_SINCE)
    assert held(after(FIRST, commit(3, 2), commit(2, 1), commit(3, 2))) == (
        rev(3),
        "synchronized",
        None,
    )


def test_a_refused_commit_that_comes_again_unharmed_closes_the_chain() -> None:
    assert held(after(FIRST, refused(2), commit(2, 1))) == (rev(2), "synchronized", None)


def test_another_commit_of_the_same_revision_does_not_close_the_chain() -> None:
    other = commit(2, 1, signed=signed(2)._replace(commit="commit-other"))
    assert after(FIRST, refused(2), other).sync is Sync.DESYNCHRONIZED


def test_a_sync_back_to_the_root_that_we_hold_closes_the_chain() -> None:
    assert held(after(FIRST, commit(3, 2), sync(4, "root-1"))) == (rev(4), "synchronized", None)


# --- accounts


@pytest.mark.parametrize(
    "status", ["deactivated", "takendown", "suspended", "of-the-future", None]
)
def test_an_inactive_account_keeps_its_records_and_ignores_commits(status: str | None) -> None:
    """Spec: H-01, H-10, H-14."""
    state = after(FIRST, account(9, active=False, status=status))
    assert (state.active, state.status, state.sync) == (False, status, Sync.SYNCHRONIZED)
    for event in (commit(2, 1), commit(7, 6), sync(2), refused(2)):
        assert reduce_event(state, event, 0) == (Outcome.INACTIVE, None, ())


def test_an_account_that_comes_back_goes_on_where_its_chain_allows() -> None:
    """Spec: H-11."""
    back: list[Event] = [FIRST, account(2, active=False, status="deactivated"), account(3)]
    assert held(after(*back)) == (rev(1), "synchronized", None)
    assert held(after(*back, sync(2, "root-1"))) == (rev(2), "synchronized", None)
    assert held(after(*back, sync(3))) == (rev(1), "desynchronized", Desync.SYNC_DATA)


def test_after_a_deletion_old_commits_stay_gone_and_a_first_one_begins_anew() -> None:
    gone = without_repository(after(FIRST, account(2, active=False, status="deleted")))
    state = reduce_event(gone, account(3), 0).state
    assert state is not None
    assert (state.active, state.sync) == (True, Sync.UNKNOWN)
    assert reduce_event(state, FIRST, 0).outcome is Outcome.STALE
    lacking = reduce_event(state, commit(9, 8), 0).state
    assert lacking is not None
    assert held(lacking) == (None, "desynchronized", "history.unknown")
    anew = reduce_event(state, commit(4, None, create("a.b.c/1", "y")), 0).state
    assert anew is not None
    assert held(anew) == (rev(4), "synchronized", None)
    assert (anew.deleted_rev, anew.is_purging) == (rev(1), True)


@pytest.mark.parametrize("status", ["deleted", "throttled"])
def test_an_active_account_is_not_deleted_whatever_its_status_says(status: str) -> None:
    state = after(FIRST, account(2, active=True, status=status))
    assert (state.active, state.status, state.sync) == (True, status, Sync.SYNCHRONIZED)
    assert state.head is not None


def test_an_account_event_from_before_is_ignored() -> None:
    state = after(FIRST, account(5, active=False, status="takendown", second=20))
    assert reduce_event(state, account(5), 0).outcome is Outcome.STALE
    assert reduce_event(state, account(4), 0).outcome is Outcome.STALE
    assert reduce_event(state, account(6), 0).outcome is Outcome.ACCOUNT
    # A host that was set back begins its numbers anew: then its clock tells, too.
    assert reduce_event(state, account(1, second=20), 0).outcome is Outcome.STALE
    assert reduce_event(state, account(1, second=21), 0).outcome is Outcome.ACCOUNT
    # Of another host only the clock can tell.
    earlier = account(900, second=10, host="pds.example")
    assert reduce_event(state, earlier, 0).outcome is Outcome.STALE
    later = account(1, second=30, host="pds.example")
    assert reduce_event(state, later, 0).outcome is Outcome.ACCOUNT


def test_an_identity_event_changes_nothing() -> None:
    assert reduce_event(None, identity(1), 0) == (Outcome.IGNORED, None, ())
    assert reduce_event(after(FIRST), identity(2), 0) == (Outcome.IGNORED, None, ())


def test_a_state_names_the_event_that_changed_it_last() -> None:
    assert after(FIRST).source == FIRST.source
    assert after(FIRST, account(7)).source == source(7)


# --- the table in the documents


def test_the_documented_table_is_the_reducer_s() -> None:
    text = _ARCHITECTURE.read_text()
    table = text.split("### How compact judges an event", 1)[1].split("\n### ", 1)[0]
    named = set(re.findall(r"`([a-z]+\.[a-z_]+)`", table))
    assert set(Desync) <= named
    outcomes = set(re.findall(r"\| (\w+) \|$", table, re.MULTILINE))
    assert set(Outcome) <= outcomes


def test_a_state_survives_its_encoding() -> None:
    states = [
        RepoState(DID, source(1)),
        after(FIRST),
        after(FIRST, refused(2)),
        after(FIRST, account(2, active=False, status="deleted")),
        replace(after(FIRST), source=source(1)._replace(time=None)),
    ]
    for state in states:
        assert parse_repo(encode_repo(state)) == state


# --- commits that nobody could prove or refuse


def test_an_unresolved_commit_makes_a_repository_suspect() -> None:
    """Spec: E-18."""
    state = after(FIRST, unresolved(7))
    assert held(state) == (rev(1), Sync.DESYNCHRONIZED, "identity.unavailable")
    assert state.seen == signed(1)
    assert state.desynchronized_us == source(7).received_us


def test_the_next_commit_that_continues_the_head_clears_the_suspicion() -> None:
    state = after(FIRST, unresolved(7), commit(2, 1))
    assert held(state) == (rev(2), Sync.SYNCHRONIZED, None)


def test_one_that_does_not_keeps_it_with_the_first_reason() -> None:
    state = after(FIRST, unresolved(7), commit(4, 3))
    assert held(state) == (rev(1), Sync.DESYNCHRONIZED, "identity.unavailable")
    state = after(FIRST, commit(4, 3), unresolved(7))
    assert held(state) == (rev(1), Sync.DESYNCHRONIZED, Desync.CHAIN_SINCE)


@pytest.mark.parametrize("known", [None, after(account(1))], ids=["unknown", "account only"])
def test_an_unresolved_commit_of_an_unknown_repository_leaves_no_trace(
    known: RepoState | None,
) -> None:
    """Outsiders can make up accounts; the next commit of a real one lacks its history."""
    assert reduce_event(known, unresolved(7), 0) == (Outcome.IGNORED, None, ())


def test_an_unresolved_commit_of_an_inactive_account_is_ignored() -> None:
    """Spec: H-10."""
    state = after(FIRST, account(2, active=False, status="suspended"))
    assert reduce_event(state, unresolved(7), 0).outcome is Outcome.INACTIVE
