"""Which repositories are taken up, and how that is said on the command line."""

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
    sync,
    unresolved,
)

from pipelines.atproto.syntax import Did, Nsid, make_tid
from pipelines.cli import tracking_options
from pipelines.cli.tracking_options import Tracking
from pipelines.compact.events import Event
from pipelines.compact.tracking import EVERYTHING, Tracked
from pipelines.crawl.candidates import Judgment, judge_for_sweep
from pipelines.crawl.listing import Listing
from pipelines.errors import ConfigError
from pipelines.repair.manifests import Absent, RepoError
from pipelines.repair.requests import Cause

OTHER = Did("did:web:other.example")
GAP_US = 1_790_000_000_000_000
THEIRS, COLLECTION = Tracked(frozenset({DID})), Tracked(collections=frozenset({Nsid("a.b.c")}))
BOTH = Tracked(frozenset({OTHER}), frozenset({Nsid("a.b.c")}))

EVENTS: list[tuple[Event, bool]] = [
    # what happened, and whether it shows that there are records in a.b.c
    (commit(2, 1, create("a.b.c/1", "x")), True),
    (commit(2, 1, create("a.b.d/1", "x"), delete("a.b.c/1", "y")), True),
    (commit(2, 1, create("a.b.cc/1", "x"), create("a.b/c", "x")), False),
    (commit(2, 1), False),
    (sync(2), False),
    (refused(2), False),
    (unresolved(2), False),
    (account(2, active=True), False),
    (identity(2), False),
]


@pytest.mark.parametrize(("event", "has_record"), EVENTS)
def test_an_event_makes_a_repository_tracked(event: Event, *, has_record: bool) -> None:
    assert EVERYTHING.takes_up(event)
    assert THEIRS.takes_up(event)
    assert not Tracked(frozenset({OTHER})).takes_up(event)
    assert COLLECTION.takes_up(event) is has_record
    assert BOTH.takes_up(event) is has_record


@pytest.mark.parametrize("cause", Cause)
def test_an_answer_makes_a_repository_tracked_that_a_backfill_chose(cause: Cause) -> None:
    absent = Absent(DID, RepoError.NOT_FOUND, "deleted", "pds.example", 1, cause)
    assert EVERYTHING.takes_up_answer(absent)
    assert THEIRS.takes_up_answer(absent)
    assert COLLECTION.takes_up_answer(absent) is (cause is Cause.BACKFILL)
    assert Tracked(frozenset({OTHER})).takes_up_answer(absent) is (cause is Cause.BACKFILL)


def test_a_sweep_asks_for_nobody_who_is_not_tracked() -> None:
    new = Listing(DID, make_tid(GAP_US + 1, 0), active=True)
    judged = [
        judge_for_sweep(new, None, GAP_US, tracked)
        for tracked in (EVERYTHING, THEIRS, COLLECTION, BOTH)
    ]
    asked, passed = Judgment.REQUESTED, Judgment.OLDER
    assert judged == [asked, asked, passed, passed]


def test_a_list_is_read_and_handed_on(tmp_path: Path) -> None:
    path = tmp_path / "dids.txt"
    path.write_text(f"# ours\n\n  {DID}  \r\n{OTHER}\n{DID}")
    nsid = Nsid("a.b.c")
    tracking = Tracking(path, (nsid,))
    assert tracking.tracked() == Tracked(frozenset({DID, OTHER}), frozenset({nsid}))
    assert tracking.arguments() == ("--track-dids", str(path), "--track-collection", "a.b.c")
    assert Tracking(None, ()).tracked() == EVERYTHING
    assert Tracking(None, ()).arguments() == ()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"did:web:a.example\nalice.example\n", "line 2"),
        (b"did:web:a.example\n\xff\n", "line 2"),
        (b"d" * 100_000, "line 1"),
        (b"# nobody\n", "has no DID"),
        (b"did:web:a.example\ndid:web:b.example\ndid:web:c.example\n", "more than 2 accounts"),
    ],
)
def test_a_list_that_is_none_is_refused_with_the_place(
    content: bytes, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking_options, "MAX_DIDS_COUNT", 2)
    path = tmp_path / "dids.txt"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=said):
        Tracking(path, ()).tracked()


def test_a_list_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the DIDs in .*none.txt"):
        Tracking(tmp_path / "none.txt", ()).tracked()
