"""Pages of a host's lists: com.atproto.sync.listRepos, listReposByCollection and listHosts. Pure.

What a page says is a claim: nothing in it is signed. It decides what is looked at and never what
is true, so a wrong entry is passed over and counted. (spec: I-09, I-10)

A list ends where a page has no cursor, and a cursor is nothing but what the host gave. A host may
lead in circles or never end. `Walk` notices a cursor that comes again, for which it remembers one
(Brent's algorithm, BIT 20 (1980), 176-184), and pages with nothing new.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import orjson

from pipelines.atproto.commit import check_rev_not_future
from pipelines.atproto.errors import ProtocolError
from pipelines.atproto.syntax import Did, Nsid, Tid, parse_did, parse_tid
from pipelines.errors import ConfigError
from pipelines.relay import service_url

# The most that all of these calls give; a host may give less.
PAGE_LIMIT: Final = 1_000
# A page of that many repositories has some 200 kB.
MAX_PAGE_BYTES: Final = 4 * 1024 * 1024
# It goes into a URL, of which 2,048 characters are asked for at most.
MAX_CURSOR_LENGTH: Final = 1_024
# A hundred million repositories: twice the network, of which one relay lists all.
MAX_PAGES_COUNT: Final = 100_000
# Pages in a row without a repository that the list did not have before. A relay may have empty
# ones, if it filters what it reads.
MAX_EMPTY_PAGES_COUNT: Final = 100

_match_hostname = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?(?::[0-9]{1,5})?").fullmatch


class ListingError(Exception):
    """A host's list cannot be read on: it is none, or it does not end."""


class Listing(NamedTuple):
    """A repository as a host lists it.

    Attributes:
        did: whose it is.
        rev: its revision; None where the host says none, no valid one, or one from the future.
        active: whether the account may be shown; None where the host does not say.
        status: why not, or None.
    """

    did: Did
    rev: Tid | None = None
    active: bool | None = None
    status: str | None = None


class Page(NamedTuple):
    """A page of repositories.

    Attributes:
        listings: in the host's order.
        invalid_count: entries that are no repository.
        cursor: what to ask for the next page with; None at the end of the list.
    """

    listings: tuple[Listing, ...]
    invalid_count: int
    cursor: str | None


class Host(NamedTuple):
    """A host as a relay lists it.

    Attributes:
        url: base URL, without a slash at its end.
        accounts_count: how many accounts the relay has of it; None where it does not say.
    """

    url: str
    accounts_count: int | None = None


class HostsPage(NamedTuple):
    """A page of hosts; the members as of `Page`.

    Attributes:
        hosts: those that the relay reads.
        left_out_count: those that it does not reach or has banned, and entries that are no host.
        cursor: what to ask for the next page with; None at the end of the list.
    """

    hosts: tuple[Host, ...]
    left_out_count: int
    cursor: str | None


@dataclass(frozen=True, slots=True)
class Walk:
    """How far a list has been read.

    Attributes:
        cursor: what to ask for the next page with; None for the first one.
        pages_count: pages read.
        empty_count: of them, those since the last one that had something new.
        mark: cursor of an earlier page, for noticing circles.
    """

    cursor: str | None = None
    pages_count: int = 0
    empty_count: int = 0
    mark: str | None = None

    def after(self, cursor: str, *, is_empty: bool) -> "Walk":
        """Returns the walk one page further.

        Args:
            cursor: that the page names for the next one.
            is_empty: whether the page has nothing that the list did not have before.

        Raises:
            ListingError: it leads in a circle, or there is no end of pages.
        """
        count = self.pages_count + 1
        empty_count = self.empty_count + 1 if is_empty else 0
        if cursor in (self.cursor, self.mark):
            raise ListingError(
                f"page {count} names a cursor that was there before: {cursor[:99]!r}"
            )
        if count >= MAX_PAGES_COUNT:
            raise ListingError(f"the list has no end within {MAX_PAGES_COUNT:,} pages")
        if empty_count >= MAX_EMPTY_PAGES_COUNT:
            raise ListingError(f"{MAX_EMPTY_PAGES_COUNT} pages in a row have nothing new")
        is_power = count & (count - 1) == 0
        return Walk(cursor, count, empty_count, cursor if is_power else self.mark)


def repos_url(base: str, cursor: str | None, collection: Nsid | None = None) -> str:
    """Returns the address of a page of a host's repositories.

    Args:
        base: the host's URL, without a slash at its end.
        cursor: that the page before named; None for the first page.
        collection: only repositories with records in it, which relays know.
    """
    if collection is None:
        return _url(base, "listRepos", cursor)
    return f"{_url(base, 'listReposByCollection', cursor)}&collection={collection}"


def hosts_url(base: str, cursor: str | None) -> str:
    """Returns the address of a page of a relay's hosts; the arguments as of `repos_url`."""
    return _url(base, "listHosts", cursor)


def parse_repos_page(body: bytes, now_us: int) -> Page:
    """Reads a page of repositories.

    Args:
        body: the answer.
        now_us: the time of day, microseconds since the epoch; tells what "future" means.

    Raises:
        ListingError: it is no such page.
    """
    members, entries = _parse(body, "repos")
    listings = [listing for entry in entries if (listing := _listing(entry, now_us)) is not None]
    return Page(tuple(listings), len(entries) - len(listings), _cursor(members))


def parse_hosts_page(body: bytes) -> HostsPage:
    """Reads a page of hosts.

    Args:
        body: the answer.

    Raises:
        ListingError: it is no such page.
    """
    members, entries = _parse(body, "hosts")
    hosts = [host for entry in entries if (host := _host(entry)) is not None]
    return HostsPage(tuple(hosts), len(entries) - len(hosts), _cursor(members))


def _url(base: str, name: str, cursor: str | None) -> str:
    url = f"{base}/xrpc/com.atproto.sync.{name}?limit={PAGE_LIMIT}"
    return url if cursor is None else f"{url}&cursor={quote(cursor, safe='')}"


def _parse(body: bytes, name: str) -> tuple[Mapping[str, Any], list[Any]]:
    try:
        members = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise ListingError("the answer is not JSON") from None
    if not isinstance(members, dict) or not isinstance(members.get(name), list):
        raise ListingError(f"the answer has no list of {name}")
    return members, members[name]


def _cursor(members: Mapping[str, Any]) -> str | None:
    """Returns the cursor; an empty one asks for the first page again, so it counts as none."""
    cursor = members.get("cursor") or None
    if cursor is None:
        return None
    if not isinstance(cursor, str) or len(quote(cursor, safe="")) > MAX_CURSOR_LENGTH:
        raise ListingError(f"the cursor is not text of {MAX_CURSOR_LENGTH} characters at most")
    return cursor


def _listing(entry: object, now_us: int) -> Listing | None:
    match entry:
        case {"did": did, **rest}:
            active, status = rest.get("active"), rest.get("status")
            try:
                return Listing(
                    parse_did(did),
                    _rev(rest.get("rev"), now_us),
                    active if isinstance(active, bool) else None,
                    status if isinstance(status, str) else None,
                )
            except ProtocolError:
                return None
    return None


def _rev(value: object, now_us: int) -> Tid | None:
    """Returns a revision that may be true."""
    try:
        rev = parse_tid(value)
        check_rev_not_future(rev, now_us)
    except ProtocolError:
        return None
    return rev


def _host(entry: object) -> Host | None:
    match entry:
        case {"hostname": str(name), **rest} if _match_hostname(name.lower()):
            if rest.get("status") in ("offline", "banned"):
                return None  # nobody answers there, or the relay has its reasons
            count = rest.get("accountCount")
            try:
                url = service_url(name.lower())
            except ConfigError:
                return None
            return Host(url, count if isinstance(count, int) and count >= 0 else None)
    return None
