"""Accounts against a model: who may be shown, whose records are there, and why they went.

The model knows what was said and when, and asks nothing of what is tested.
"""

from dataclasses import replace
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st
from support.answers import absent, snapshot_of
from support.events import DID, account, commit, source

from pipelines.compact.accounts import Policy, without_repository
from pipelines.compact.overrides import Override, OverrideStatus
from pipelines.compact.reducer import Outcome, reduce_event, reduce_override
from pipelines.compact.repair import after_slice, reduce_answer, request_for
from pipelines.compact.state import RepoState, Sync, encode_repo, parse_repo
from pipelines.repair.manifests import RepoError
from pipelines.repair.requests import Cause

# What an upstream may say, and what a server may.
SAID = [
    (True, None),
    (True, "throttled"),
    (False, "deactivated"),
    (False, "suspended"),
    (False, "deleted"),
    (False, "deleted"),
    (False, "of-the-future"),
    (False, None),
]
ANSWERED = [
    (RepoError.TAKENDOWN, "takendown"),
    (RepoError.DEACTIVATED, "deactivated"),
    (RepoError.NOT_FOUND, None),
    (RepoError.NOT_FOUND, None),
    (RepoError.NOT_FOUND, "deleted"),
]
# What the operator may say; None takes it back.
DECIDED = [None, None, None, *OverrideStatus]
# Numbers of the clock between one thing that happens and the next.
TICK = 1_000
# Why a snapshot was asked for: the first of whomever, the others of the account's own server.
CAUSES = [Cause.BACKFILL, Cause.DELETION, Cause.DESYNCHRONIZED]


class Step(NamedTuple):
    """Something that happens.

    Attributes:
        kind: what.
        choice: which of the possible ones.
        age: by how many steps it is late.
    """

    kind: str
    choice: int
    age: int


class World:
    """One account, and what is known of it without the reducer."""

    def __init__(self) -> None:
        self.state: RepoState | None = None
        # The model: the last word, its time, and the commit whose records are there.
        self.said: tuple[bool, str | None] = (True, None)
        self.said_at = 0
        self.is_by_server = False
        self.override: OverrideStatus | None = None
        self.is_by_operator = False
        self.held: int | None = None
        self.is_waiting = False
        self.is_doubted = False
        self.newest = 0
        self.now = 10
        self.requests: list[Cause] = []

    @property
    def shown(self) -> tuple[bool, str | None]:
        """The word that counts: the operator's if there is one."""
        if self.override is None:
            return self.said
        return (True, None) if self.override == "active" else (False, self.override)

    def happen(self, step: Step) -> None:
        self.now += 1
        self.requests = []
        self.is_by_operator = step.kind == "override"
        at = TICK * (self.now - step.age) + (self.now if step.age else TICK // 2)
        match step.kind:
            case "commit":
                self.commit()
            case "account":
                self.account(*SAID[step.choice % len(SAID)], at)
            case "absent":
                self.absent(*ANSWERED[step.choice % len(ANSWERED)], at)
            case "snapshot":
                self.snapshot(at, CAUSES[step.choice % len(CAUSES)])
            case "override":
                self.decide(DECIDED[step.choice % len(DECIDED)])
            case "limit":
                self.limit()
        self.check()

    def commit(self) -> None:
        number = self.newest = self.newest + 1
        event = commit(number, self.held, source=source(self.now))
        reduction = reduce_event(self.state, event, self.now)
        is_heeded = self.shown[0] or self.state is None
        # Every commit is received after all that is said; a server is believed for an hour.
        is_doubtful = self.said != (False, "deleted") and not self.is_by_server
        if not is_heeded and is_doubtful and self.override is None:
            self.is_doubted = True
        assert (reduction.outcome is not Outcome.INACTIVE) == is_heeded
        if reduction.outcome is Outcome.APPLIED:
            self.held = number
        self.take(reduction.state)

    def account(self, active: bool, status: str | None, at: int) -> None:
        event = account(at, active=active, status=status)
        event = replace(event, source=event.source._replace(received_us=at))
        reduction = reduce_event(self.state, event, self.now)
        is_late = at < self.said_at or (at == self.said_at and not self.is_by_server)
        assert (reduction.outcome is Outcome.STALE) == is_late
        if not is_late:
            self.say(active, status, at, is_by_server=False)
        self.take(reduction.state)

    def absent(self, error: RepoError, status: str | None, at: int) -> None:
        reduction = reduce_answer(self.state, absent(error, status, at), self.now)
        is_late = at < self.said_at
        assert (reduction.outcome is Outcome.STALE) == is_late
        if not is_late:
            if status is not None:
                self.say(False, status, at, is_by_server=True)
            # The deletion is confirmed by this answer, or by the directory.
            if not self.shown[0] and (status == "deleted" or (status is None and self.is_waiting)):
                self.held, self.is_waiting = None, False
        self.take(reduction.state)

    def decide(self, status: OverrideStatus | None) -> None:
        override = None if status is None else Override(status, "because", self.now)
        reduction = reduce_override(self.state, DID, override, self.now)
        is_same = override is None and self.override is None
        assert (reduction.outcome is Outcome.STALE) == is_same
        self.is_doubted &= is_same
        self.override = status
        if status == "deleted":
            self.held = None
        self.wait()
        self.take(reduction.state)
        if reduction.state is not None:
            # What was read already, and is read once more, changes nothing.
            again = reduce_override(self.state, DID, override, self.now)
            assert again.outcome is Outcome.STALE

    def snapshot(self, at: int, cause: Cause) -> None:
        number = self.newest
        if not number:
            return
        answer = replace(snapshot_of(number, 1, [b"chunk"], fetched_us=at), cause=cause)
        reduction = reduce_answer(self.state, answer, self.now)
        is_asked_for = (self.is_waiting and cause is Cause.DELETION) or (
            self.is_doubted and cause is Cause.DESYNCHRONIZED
        )
        is_denial = is_asked_for and at >= self.said_at
        if is_denial:
            self.say(True, None, at, is_by_server=True)
        is_heeded = self.shown[0] and reduction.outcome not in (Outcome.STALE, Outcome.IGNORED)
        assert (reduction.outcome is Outcome.INACTIVE) == (not self.shown[0] and not is_denial)
        self.take(reduction.state)
        if is_heeded:
            self.held = number
        if self.state is not None and self.state.pending_snapshot is not None:
            self.state = after_slice(self.state, 1, 1, "a.b.c/1")

    def limit(self) -> None:
        state = self.state
        if state is not None and state.deletion_us is not None:
            assert Policy(purge_after_s=0).purges_at_once(state)
            self.held, self.is_waiting = None, False
            self.take(without_repository(state))

    def say(self, active: bool, status: str | None, at: int, *, is_by_server: bool) -> None:
        self.said, self.said_at, self.is_by_server = (active, status), at, is_by_server
        self.is_doubted = False
        self.wait()

    def wait(self) -> None:
        """Upstream's deletion waits under whatever hides the account; an operator's does not."""
        is_deleted = self.said == (False, "deleted") and not self.shown[0]
        self.is_waiting = is_deleted and self.held is not None

    def take(self, state: RepoState | None) -> None:
        if state is None:
            return
        request = request_for(self.state, state, self.now)
        if request is not None:
            self.requests.append(request.cause)
        was_waiting = self.state is not None and self.state.deletion_us is not None
        was_active = self.state is None or self.state.active
        assert (Cause.DELETION in self.requests) == (self.is_waiting and not was_waiting)
        is_back = state.active and not was_active
        # A server that says so has given the repository with it.
        is_asked_for = is_back and (self.is_by_operator or not self.is_by_server)
        assert (Cause.REACTIVATION in self.requests) == is_asked_for
        if not state.active:
            assert (Cause.DESYNCHRONIZED in self.requests) == self.is_doubted
        self.state = state

    def check(self) -> None:
        state = self.state
        if state is None:
            assert (self.said, self.override) == ((True, None), None)
            return
        assert (state.active, state.status) == self.shown
        assert (state.upstream_active, state.upstream_status) == self.said
        head = None if state.head is None else state.head.signed.commit
        assert head == (None if self.held is None else f"commit-{self.held}")
        assert (state.deletion_us is not None) == self.is_waiting
        if self.held is None and not state.active and state.status == "deleted":
            assert state.sync is Sync.UNKNOWN
        assert parse_repo(encode_repo(state)) == state


_KINDS = ["commit", "commit", "account", "account", "absent", "snapshot", "override", "limit"]
_STEPS = st.lists(
    st.builds(Step, st.sampled_from(_KINDS), st.integers(0, 39), st.sampled_from([0, 0, 0, 1, 3])),
    max_size=30,
)


@settings(max_examples=400)
@given(_STEPS)
def test_the_last_word_counts_and_records_go_only_for_a_reason(steps: list[Step]) -> None:
    """Spec: H-01, H-02, H-04, H-05, H-10, H-12, I-08."""
    world = World()
    for step in steps:
        world.happen(step)


@given(_STEPS)
def test_an_account_that_returns_before_anybody_confirms_keeps_its_records(
    steps: list[Step],
) -> None:
    """Spec: H-02, H-11."""
    world = World()
    for step in steps:
        world.happen(step)
    if world.state is None or not world.said[0] or world.override is not None:
        return
    held, seen = world.held, world.state.seen
    world.happen(Step("account", 4, 0))
    world.happen(Step("commit", 0, 0))
    was_waiting = world.is_waiting
    world.happen(Step("account", 0, 0))
    assert world.state is not None
    assert (world.held, world.state.seen) == (held, seen if was_waiting else None)
    assert world.requests == [Cause.REACTIVATION]


@given(_STEPS, st.sampled_from(list(OverrideStatus)), _STEPS)
def test_a_lifted_override_leaves_what_upstream_says_by_then(
    before: list[Step], status: OverrideStatus, meanwhile: list[Step]
) -> None:
    """Spec: H-04, H-11."""
    world = World()
    for step in before:
        world.happen(step)
    world.happen(Step("override", DECIDED.index(status), 0))
    for step in meanwhile:
        if step.kind != "override":
            world.happen(step)
    world.happen(Step("override", 0, 0))
    assert world.state is not None
    assert (world.state.active, world.state.status) == world.said
    was_hidden = status != "active"
    assert (world.requests == [Cause.REACTIVATION]) == (was_hidden and world.said[0])
