"""Pages of hosts' lists: what is taken from them, and where reading them ends."""

import json
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from pipelines.atproto.syntax import Did, Nsid, make_tid
from pipelines.crawl import listing as listing_module
from pipelines.crawl.listing import (
    MAX_CURSOR_LENGTH,
    Host,
    HostsPage,
    Listing,
    ListingError,
    Page,
    Walk,
    hosts_url,
    parse_hosts_page,
    parse_repos_page,
    repos_url,
)

NOW_US = 1_890_000_000_000_000  # after everything that is recorded
DID = Did("did:plc:ewvi7nxzyoun6zhxrhs64oiz")
WEB_DID = Did("did:web:example.com")
REV = make_tid(NOW_US - 1_000_000, 0)


def _page(*entries: object, **members: object) -> Page:
    return parse_repos_page(json.dumps({"repos": entries, **members}).encode(), NOW_US)


def test_a_page_says_which_repositories_there_are_and_where_to_go_on() -> None:
    page = _page(
        {"did": DID, "head": "bafy", "rev": REV, "active": True},
        {"did": WEB_DID, "rev": REV, "active": False, "status": "takendown"},
        cursor="2::x",
    )
    assert page == Page(
        (
            Listing(DID, REV, active=True),
            Listing(WEB_DID, REV, active=False, status="takendown"),
        ),
        0,
        "2::x",
    )


@pytest.mark.parametrize(
    "rev", ["", None, 7, "not a tid", make_tid(NOW_US + 3_600_000_000, 0)], ids=str
)
def test_a_revision_that_cannot_be_true_is_none(rev: object) -> None:
    assert _page({"did": DID, "rev": rev}).listings == (Listing(DID),)


@pytest.mark.parametrize(
    "entry", [{}, [], None, "did:plc:x", {"did": 3}, {"did": "did:plc:"}, {"rev": REV}], ids=str
)
def test_an_entry_that_is_no_repository_is_counted_and_passed_over(entry: object) -> None:
    assert _page(entry, {"did": DID}) == Page((Listing(DID),), 1, None)


@pytest.mark.parametrize("members", [{}, {"cursor": None}, {"cursor": ""}], ids=str)
def test_a_list_ends_where_there_is_no_cursor(members: dict[str, object]) -> None:
    assert _page(**members).cursor is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"repos": {}}',
        b'{"repos": [], "cursor": 7}',
        json.dumps({"repos": [], "cursor": "x" * (MAX_CURSOR_LENGTH + 1)}).encode(),
        json.dumps({"repos": [], "cursor": "é" * MAX_CURSOR_LENGTH}).encode(),
    ],
    ids=lambda body: body[:20].decode(),
)
def test_what_is_no_page_is_an_error(body: bytes) -> None:
    with pytest.raises(ListingError):
        parse_repos_page(body, NOW_US)


def test_hosts_that_the_relay_does_not_read_are_left_out() -> None:
    body = {
        "hosts": [
            {"hostname": "Pds.Example.com", "status": "active", "accountCount": 12},
            {"hostname": "idle.example.com:3000", "accountCount": -1},
            {"hostname": "gone.example.com", "status": "offline"},
            {"hostname": "bad.example.com", "status": "banned"},
            {"hostname": "user@evil.example/path"},
            {"hostname": "pds.example.com:99999"},
            {"hostname": 3},
        ],
        "cursor": "9",
    }
    found = parse_hosts_page(json.dumps(body).encode())
    assert found == HostsPage(
        (Host("https://pds.example.com", 12), Host("https://idle.example.com:3000")), 5, "9"
    )


def test_the_recorded_list_of_a_real_host_is_read(shared_data: Path) -> None:
    entries = json.loads((shared_data / "pds-corpus" / "list-repos.json").read_bytes())
    page = _page(*entries)
    assert page.invalid_count == 0
    assert [
        {"did": did, "rev": rev, "active": active, "status": status}
        for did, rev, active, status in page.listings
    ] == [
        {name: entry.get(name) for name in ("did", "rev", "active", "status")} for entry in entries
    ]


@pytest.mark.parametrize("cursor", [None, "a&b=c#/é", "1700000000::did:plc:x"])
def test_a_cursor_goes_into_the_address_as_it_is(cursor: str | None) -> None:
    url = urlsplit(repos_url("https://pds.example", cursor, Nsid("app.bsky.feed.post")))
    query = parse_qs(url.query)
    assert url.path == "/xrpc/com.atproto.sync.listReposByCollection"
    assert query["collection"] == ["app.bsky.feed.post"]
    assert query.get("cursor") == (None if cursor is None else [cursor])
    assert hosts_url("https://relay.example", None).endswith(
        "/com.atproto.sync.listHosts?limit=1000"
    )


def _read(cursors: list[str]) -> int:
    """Reads pages with these cursors over and over; returns how many until that is noticed."""
    walk = Walk()
    for count in range(10 * len(cursors)):
        try:
            walk = walk.after(cursors[count % len(cursors)], is_empty=False)
        except ListingError:
            return count
    raise AssertionError("nobody noticed")


@pytest.mark.parametrize("length", [1, 2, 3, 7, 64, 1_000])
def test_a_circle_of_cursors_is_noticed(length: int) -> None:
    assert length <= _read([str(number) for number in range(length)]) <= 3 * length


def _walk(walk: Walk, numbers: Iterable[int], *, is_empty: bool) -> Walk:
    for number in numbers:
        walk = walk.after(str(number), is_empty=is_empty)
    return walk


def test_a_list_without_end_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing_module, "MAX_PAGES_COUNT", 100)
    assert _walk(Walk(), range(99), is_empty=False).pages_count == 99
    with pytest.raises(ListingError, match="no end within 100 pages"):
        _walk(Walk(), range(100), is_empty=False)


def test_empty_pages_without_end_are_cut_and_some_are_not() -> None:
    walk = Walk()
    for start in range(0, 1_000, 100):
        walk = _walk(walk, range(start, start + 99), is_empty=True)
        walk = _walk(walk, [start + 99], is_empty=False)
    with pytest.raises(ListingError, match="nothing new"):
        _walk(walk, range(1_000, 1_100), is_empty=True)
