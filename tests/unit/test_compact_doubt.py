"""Doubt that an account is not active: something signed came, and its own server is asked."""

from dataclasses import replace

import pytest
from support.answers import absent, chunk_values, record_cid, snapshot_of
from support.events import (
    DID,
    account,
    commit,
    create,
    identity,
    refused,
    rev,
    signed,
    source,
    sync,
    unresolved,
)

from pipelines.compact.accounts import OnInactive, Policy, with_override, without_repository
from pipelines.compact.events import CommitEvent, Event, SyncEvent
from pipelines.compact.overrides import Override, OverrideStatus
from pipelines.compact.reducer import Outcome, reduce_event
from pipelines.compact.repair import reduce_answer, request_for
from pipelines.compact.state import (
    AccountMark,
    RepoState,
    Sync,
    Waiting,
    encode_repo,
    finish_purge,
    parse_repo,
)
from pipelines.repair.manifests import Manifest, RepoError
from pipelines.repair.requests import Cause, Request

FIRST = commit(1, None, create("a.b.c/1", record_cid("x")))
CHUNKS = chunk_values(5, {"a.b.c/1": "x", "a.b.c/2": "y"})
# When the server was asked: after everything that the events of these tests say.
ASKED_US = 2_000_000
NO_REPO = absent(RepoError.NOT_FOUND, None, ASKED_US)


def after(*events: Event, known: RepoState | None = None) -> RepoState:
    """Returns the state after events, each of which must change it."""
    state = known
    for event in events:
        state = reduce_event(state, event, 0).state
    assert state is not None
    return state


HIDDEN = after(FIRST, account(4, active=False, status="deactivated"))


@pytest.mark.parametrize("event", [commit(5, 1), commit(6, 5), sync(5), sync(5, "root-1")])
def test_something_signed_after_it_makes_a_status_doubtful(event: CommitEvent | SyncEvent) -> None:
    """Spec: H-05, H-06, H-10, H-13."""
    reduction = reduce_event(HIDDEN, event, 8)
    state = reduction.state
    assert (reduction.outcome, reduction.ops) == (Outcome.INACTIVE, ())
    assert state is not None
    # Until the server answers the status is what it was, and so are the records.
    assert (state.active, state.status, state.account) == (False, "deactivated", HIDDEN.account)
    assert (state.head, state.sync, state.reason) == (
        HIDDEN.head,
        Sync.DESYNCHRONIZED,
        "account.inactive",
    )
    assert (state.seen, state.waiting) == (event.signed, (Waiting(event.signed.rev, 8),))
    request = Request(DID, Cause.DESYNCHRONIZED, "account.inactive", event.signed.rev, None, 9)
    assert request_for(HIDDEN, state, 9) == request
    # It is asked for once; what follows waits, too.
    asked = replace(state, requested_us=9)
    later = reduce_event(asked, commit(7, 5), 11).state
    assert later is not None
    assert (later.seen, len(later.waiting)) == (signed(7), 2)
    assert request_for(asked, later, 12) is None
    assert parse_repo(encode_repo(later)) == later


@pytest.mark.parametrize(
    "event",
    [
        commit(4, 1),  # received with it
        commit(3, 1),
        refused(5),  # which anybody may make up, and whose account may have been moved
        unresolved(5),
        identity(5),
    ],
)
def test_other_events_put_nothing_in_doubt(event: Event) -> None:
    assert reduce_event(HIDDEN, event, 8).state is None


def test_the_operator_s_word_a_deletion_and_old_revisions_are_not_doubted() -> None:
    takedown = Override(OverrideStatus.TAKENDOWN, "because", 5)
    overridden = with_override(after(FIRST), takedown, 5)
    assert reduce_event(overridden, commit(5, 1), 8).outcome is Outcome.INACTIVE
    both = with_override(HIDDEN, takedown, 5)
    assert reduce_event(both, commit(5, 1), 8) == (Outcome.INACTIVE, None, ())
    waiting = after(FIRST, account(4, active=False, status="deleted"))
    confirmed = reduce_answer(waiting, NO_REPO, 9).state
    for deleted in (waiting, confirmed):
        assert reduce_event(deleted, commit(5, 1), 8) == (Outcome.INACTIVE, None, ())
    old = commit(1, None, source=source(9))
    assert reduce_event(HIDDEN, old, 8) == (Outcome.STALE, None, ())


def doubted() -> RepoState:
    """Returns a state whose account's server has been asked."""
    state = reduce_event(HIDDEN, commit(5, 1), 8).state
    assert state is not None
    return replace(state, requested_us=state.source.received_us)


def test_a_server_that_gives_the_repository_dispels_the_doubt_with_it() -> None:
    """Spec: H-05, I-02."""
    before = after(commit(6, 5), known=doubted())
    answer = replace(snapshot_of(5, 2, CHUNKS), fetched_us=ASKED_US)
    reduction = reduce_answer(before, answer, 9)
    state = reduction.state
    assert reduction.outcome is Outcome.APPLYING
    assert state is not None
    assert (state.active, state.status, state.sync) == (True, None, Sync.APPLYING)
    assert state.account == AccountMark("pds.example", None, "1970-01-01T00:00:02.000Z", ASKED_US)
    # It came with its repository, and what came behind it is judged then.
    assert request_for(before, state, 9) is None
    assert [waiting.rev for waiting in state.waiting] == [rev(5), rev(6)]


@pytest.mark.parametrize(
    ("error", "status"),
    [(RepoError.TAKENDOWN, "takendown"), (RepoError.DEACTIVATED, "deactivated")],
)
def test_a_server_that_confirms_it_is_not_asked_again_for_an_hour(
    error: RepoError, status: str
) -> None:
    """Spec: H-05, H-10."""
    before = doubted()
    state = reduce_answer(before, absent(error, status, ASKED_US), 9).state
    assert state is not None
    assert (state.active, state.status, state.head) == (False, status, HIDDEN.head)
    assert request_for(before, state, 9) is None
    hour_us = 3_600_000_000
    for age_us, is_doubted in ((1, False), (hour_us, False), (hour_us + 1, True)):
        late = source(7)._replace(received_us=ASKED_US + age_us)
        after_it = reduce_event(state, commit(7, 5, source=late), 12).state
        assert (after_it is not None) is is_doubted
    assert after_it is not None
    request = request_for(state, after_it, 9)
    assert request is not None
    assert request.min_rev == rev(7)


def test_a_server_that_does_not_know_it_changes_nothing() -> None:
    """Spec: H-06."""
    assert reduce_answer(doubted(), NO_REPO, 9) == (Outcome.IGNORED, None, ())


@pytest.mark.parametrize(
    "answer",
    [
        replace(snapshot_of(5, 2, CHUNKS), fetched_us=1_000_003),  # asked for before
        replace(snapshot_of(5, 2, CHUNKS), fetched_us=ASKED_US, cause=Cause.BACKFILL),
    ],
    ids=["asked-before", "whoever-was-asked"],
)
def test_other_repositories_do_not_dispel_a_doubt(answer: Manifest) -> None:
    assert reduce_answer(doubted(), answer, 9) == (Outcome.INACTIVE, None, ())


def test_what_is_said_upstream_after_the_question_counts() -> None:
    again = after(account(9, active=False, status="takendown"), known=doubted())
    answer = replace(snapshot_of(5, 2, CHUNKS), fetched_us=1_000_007)
    assert reduce_answer(again, answer, 9) == (Outcome.INACTIVE, None, ())
    back = after(account(9), known=doubted())
    request = request_for(doubted(), back, 9)
    assert request is not None
    assert (request.cause, request.min_rev) == (Cause.REACTIVATION, rev(5))


def test_records_that_went_because_an_account_is_not_active_come_back_if_it_is() -> None:
    purging = Policy(on_inactive=OnInactive.PURGE)
    assert purging.purges_at_once(HIDDEN)
    gone = finish_purge(without_repository(HIDDEN))
    state = reduce_event(gone, commit(5, 1), 8).state
    assert state is not None
    assert not purging.purges_at_once(state)
    assert request_for(gone, state, 9) is not None
    answer = replace(snapshot_of(5, 2, CHUNKS), fetched_us=ASKED_US)
    assert reduce_answer(replace(state, requested_us=9), answer, 9).outcome is Outcome.APPLYING
