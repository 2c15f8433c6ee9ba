"""Which listed repositories are asked for."""

import pytest

from pipelines.atproto.syntax import Did, make_tid
from pipelines.compact.events import Signed, Source
from pipelines.compact.state import Head, RepoState, Sync
from pipelines.crawl.candidates import (
    Judgment,
    Known,
    is_missed,
    judge_for_backfill,
    judge_for_sweep,
    known_of,
)
from pipelines.crawl.listing import Listing

HOST = "relay.example"
DID = Did("did:plc:ewvi7nxzyoun6zhxrhs64oiz")
GAP_US = 1_790_000_000_000_000
BEFORE, OLD, NEW = (make_tid(GAP_US + after_us, 0) for after_us in (-2, -1, 1))

SYNCED = Known(is_synchronized=True, rev=OLD, active=True, status=None, host=HOST)
BROKEN = Known(is_synchronized=False, rev=OLD, active=True, status=None, host=HOST)
GONE = Known(is_synchronized=True, rev=OLD, active=False, status="takendown", host=HOST)
CASES = [
    # listed, known, what a backfill does, what a sweep does
    (Listing(DID, OLD, active=True), None, "requested", "older"),
    (Listing(DID, NEW, active=True), None, "requested", "requested"),
    (Listing(DID), None, "requested", "requested"),
    (Listing(DID, NEW, active=False), None, "inactive", "inactive"),
    (Listing(DID, OLD, active=True), SYNCED, "synchronized", "synchronized"),
    (Listing(DID, BEFORE, active=True), SYNCED, "synchronized", "synchronized"),
    (Listing(DID), SYNCED, "synchronized", "synchronized"),
    (Listing(DID, NEW, active=True), SYNCED, "requested", "requested"),
    (Listing(DID, OLD, active=False), SYNCED, "requested", "requested"),
    (Listing(DID, OLD, active=True), BROKEN, "requested", "on_its_way"),
    (Listing(DID, NEW, active=True), BROKEN, "requested", "requested"),
    (Listing(DID), BROKEN, "requested", "requested"),
    (Listing(DID, NEW, active=True), GONE, "requested", "requested"),
    (Listing(DID, NEW, active=False, status="takendown"), GONE, "inactive", "inactive"),
    (Listing(DID, NEW, active=False, status="deleted"), GONE, "inactive", "requested"),
    (Listing(DID), GONE, "inactive", "inactive"),
]


@pytest.mark.parametrize(("listing", "known", "backfill", "sweep"), CASES)
def test_what_is_listed_is_compared_with_what_is_known(
    listing: Listing, known: Known | None, backfill: str, sweep: str
) -> None:
    assert judge_for_backfill(listing, known) == backfill
    assert judge_for_sweep(listing, known, GAP_US) == sweep


def test_without_the_time_of_the_gap_what_is_not_known_is_left_to_a_backfill() -> None:
    assert judge_for_sweep(Listing(DID, NEW, active=True), None, None) is Judgment.OLDER
    assert judge_for_sweep(Listing(DID, NEW, active=True), SYNCED, None) is Judgment.REQUESTED


@pytest.mark.parametrize(
    ("known", "is_looked_at"),
    [
        (SYNCED, True),
        (BROKEN, True),
        (GONE, False),
        (SYNCED._replace(host="other.example"), False),
        (SYNCED._replace(rev=NEW), False),
        (SYNCED._replace(rev=None), True),
    ],
)
def test_what_an_upstream_no_longer_lists_is_looked_at(
    known: Known, *, is_looked_at: bool
) -> None:
    assert is_missed(known, HOST, GAP_US) is is_looked_at


def test_the_newest_revision_that_was_seen_counts() -> None:
    head = Head(Signed(OLD, "bafy", "bafy"), "")
    state = RepoState(DID, Source(HOST, 1, None, 1, 0, 0), head=head)
    assert known_of(state) == Known(
        is_synchronized=False, rev=OLD, active=True, status=None, host=HOST
    )
    newer = RepoState(
        DID,
        state.source,
        sync=Sync.DESYNCHRONIZED,
        head=head,
        seen=Signed(NEW, "bafy", "bafy"),
        upstream_active=False,
        upstream_status="suspended",
    )
    assert known_of(newer) == Known(False, NEW, active=False, status="suspended", host=HOST)
