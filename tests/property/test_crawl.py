"""Lists of hosts that say anything: whatever a page holds, and wherever its cursors lead."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from property import strategies

from pipelines.atproto.syntax import Did, make_tid
from pipelines.crawl.candidates import Judgment, Known, judge_for_backfill, judge_for_sweep
from pipelines.crawl.listing import (
    Listing,
    ListingError,
    Walk,
    parse_hosts_page,
    parse_repos_page,
)

NOW_US = 1_790_000_000_000_000
_entries = st.one_of(
    strategies.json_values,
    st.fixed_dictionaries(
        {"did": st.sampled_from(["did:plc:ewvi7nxzyoun6zhxrhs64oiz", "did:web:a.example", ""])},
        optional={
            "rev": st.one_of(strategies.json_values, st.just(make_tid(NOW_US - 1, 0))),
            "active": strategies.json_values,
            "status": strategies.json_values,
        },
    ),
    st.fixed_dictionaries({"hostname": strategies.json_values, "status": strategies.json_values}),
)
_pages = st.one_of(
    st.binary(max_size=50),
    st.builds(
        lambda name, entries, cursor: json.dumps({name: entries, "cursor": cursor}).encode(),
        st.sampled_from(["repos", "hosts", "other"]),
        st.one_of(st.lists(_entries, max_size=5), strategies.json_values),
        st.one_of(strategies.json_values, st.text(max_size=5)),
    ),
)


def _entries_count(body: bytes, name: str) -> int:
    members: dict[str, Any] = json.loads(body)
    return len(members[name])


@given(body=_pages)
def test_a_page_is_read_or_is_none(body: bytes) -> None:
    """Whatever a host answers, each entry is taken or counted."""
    try:
        page = parse_repos_page(body, NOW_US)
        assert len(page.listings) + page.invalid_count == _entries_count(body, "repos")
    except ListingError:
        pass
    try:
        hosts = parse_hosts_page(body)
        assert len(hosts.hosts) + hosts.left_out_count == _entries_count(body, "hosts")
    except ListingError:
        pass


@given(tail=st.integers(0, 40), circle=st.integers(1, 40))
def test_whatever_way_cursors_lead_into_a_circle_it_is_noticed(tail: int, circle: int) -> None:
    """Within three times as many pages as there are; and nothing is noticed before."""
    walk, count = Walk(), 0
    while True:
        place = count if count < tail else tail + (count - tail) % circle
        try:
            walk = walk.after(str(place), is_empty=False)
        except ListingError:
            break
        count += 1
    assert tail + circle <= count <= 3 * (tail + circle)


@given(cursors=st.lists(st.text(min_size=1), unique=True, max_size=300))
def test_a_list_that_ends_is_read_to_its_end(cursors: list[str]) -> None:
    walk = Walk()
    for cursor in cursors:
        walk = walk.after(cursor, is_empty=False)
    assert walk.pages_count == len(cursors)
    assert walk.cursor == (cursors[-1] if cursors else None)


_DID = Did("did:plc:ewvi7nxzyoun6zhxrhs64oiz")
_statuses = st.sampled_from([None, "takendown", "suspended", "deactivated", "deleted"])
_revs = st.one_of(st.none(), st.integers(NOW_US - 5, NOW_US).map(lambda us: make_tid(us, 0)))
_listings = st.builds(
    Listing, st.just(_DID), _revs, st.sampled_from([None, True, False]), _statuses
)
_known = st.builds(Known, st.booleans(), _revs, st.booleans(), _statuses, st.just("relay.example"))


@given(listing=_listings, known=_known, since_us=st.integers(NOW_US - 6, NOW_US))
def test_what_is_newer_than_what_we_have_is_always_asked_for(
    listing: Listing, known: Known, since_us: int
) -> None:
    """A change that the list shows is never taken for something that we have."""
    is_newer = listing.rev is not None and (known.rev is None or listing.rev > known.rev)
    if is_newer and listing.active is True:
        assert judge_for_backfill(listing, known) is Judgment.REQUESTED
        assert judge_for_sweep(listing, known, since_us) is Judgment.REQUESTED
    if listing.active is not None and listing.active is not known.active:
        assert judge_for_sweep(listing, known, since_us) is Judgment.REQUESTED


@given(listing=_listings, known=_known, since_us=st.integers(NOW_US - 6, NOW_US))
def test_asking_again_once_all_is_here_asks_for_nothing(
    listing: Listing, known: Known, since_us: int
) -> None:
    """What a fetch brings is not fetched again: both end."""
    here = Known(
        is_synchronized=True,
        rev=listing.rev or known.rev,
        active=listing.active is not False,
        status=listing.status if listing.active is False else None,
        host=known.host,
    )
    assert judge_for_backfill(listing, here) is not Judgment.REQUESTED
    assert judge_for_sweep(listing, here, since_us) is not Judgment.REQUESTED
