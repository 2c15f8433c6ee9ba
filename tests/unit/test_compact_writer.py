"""What goes out with a change: requests, and the end of records that nobody may show."""

from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from support.events import DID, account, commit, create, rev

from pipelines.atproto.cid import cid_of, encode_cid
from pipelines.compact.accounts import OnInactive, Policy
from pipelines.compact.events import Event
from pipelines.compact.held import HeldPartition
from pipelines.compact.outputs import OutputTopics
from pipelines.compact.reducer import reduce_event
from pipelines.compact.state import RepoState, Sync
from pipelines.compact.store import Changes, Meta, Store
from pipelines.compact.writer import Writer, change_of
from pipelines.kafka.counts import Tally

TOPICS = OutputTopics("p.repos", "p.resyncs", "p.latest.other", {})
FIRST = commit(1, None, create("a.b.c/1", encode_cid(cid_of(b"1"))))
SUSPENDED = account(3, active=False, status="suspended")


@pytest.fixture
def held(tmp_path: Path) -> Iterator[HeldPartition]:
    store = Store(tmp_path / "store")
    store.write(Changes(), Meta({"t": "id"}))
    held = HeldPartition(store)
    yield held
    held.close()


class Course:
    """Events through a writer, each committed by itself."""

    def __init__(self, held: HeldPartition, policy: Policy) -> None:
        self._held = held
        self.tally = Tally()
        self._writer = Writer(TOPICS, self.tally, policy)
        self.requests: list[tuple[str, str | None]] = []

    def run(self, *events: Event) -> RepoState:
        for event in events:
            reduction = reduce_event(self._held.repo(DID), event, 0)
            assert reduction.state is not None
            change = change_of(event, reduction.ops)
            for output in self._writer.write(self._held, 2, reduction.state, change):
                assert output.partition == 2
                if output.topic == TOPICS.resyncs:
                    request = orjson.loads(output.value or b"")
                    self.requests.append((request["cause"], request["min_rev"]))
            self._held.commit({}, 0)
            self.tally.commit()
        state = self._held.repo(DID)
        assert state is not None
        return state


def test_records_of_an_inactive_account_are_kept(held: HeldPartition) -> None:
    """Spec: H-02."""
    kept = Course(held, Policy()).run(FIRST, SUSPENDED)
    assert (kept.status, kept.sync, kept.is_purging) == ("suspended", Sync.SYNCHRONIZED, False)
    assert kept.head is not None


def test_with_purge_they_go_and_the_account_s_return_asks_for_them(held: HeldPartition) -> None:
    """Spec: H-03."""
    course = Course(held, Policy(on_inactive=OnInactive.PURGE))
    gone = course.run(FIRST, SUSPENDED)
    assert (gone.status, gone.sync, gone.head) == ("suspended", Sync.UNKNOWN, None)
    assert (gone.deleted_rev, gone.is_purging, held.purging) == (rev(1), True, {DID})
    assert course.requests == []
    back = course.run(account(4))
    assert (back.active, back.sync) == (True, Sync.UNKNOWN)
    assert course.requests == [("reactivation", None)]


def test_a_break_is_asked_for_once_with_the_event_that_shows_it(held: HeldPartition) -> None:
    course = Course(held, Policy())
    state = course.run(FIRST, commit(4, 3), commit(6, 5), account(7), commit(8, 7))
    assert course.requests == [("desynchronized", rev(4))]
    assert state.requested_us == 1_000_004
    course.run(account(9, active=False, status="takendown"), account(10))
    assert course.requests == [("desynchronized", rev(4)), ("reactivation", rev(8))]
    assert dict(course.tally.groups["written"]) == {"repos": 7, "resyncs": 2, "latest": 1}


def test_nothing_is_asked_for_without_repair(held: HeldPartition) -> None:
    course = Course(held, Policy(is_repairing=False))
    state = course.run(FIRST, commit(4, 3), SUSPENDED, account(5))
    assert (course.requests, state.requested_us) == ([], None)
    # Switched on, the next event makes up for it.
    later = Course(held, Policy())
    later.run(commit(6, 5))
    assert later.requests == [("desynchronized", rev(6))]
