"""What hosts answer about many repositories: listRepos, and the relay's listHosts and more.

Pages are counted over all accounts, also those that are not listed: one that goes between two
pages must not move those behind it. Cursors are opaque, and only the absence of one ends a list.
Under faults listRepos lies. spec: I-09, I-10, H-14
"""

import base64
import hashlib
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from aiohttp import web

from pipelines.atproto.cid import cid_of, encode_cid
from pipelines.atproto.errors import IdentifierError
from pipelines.atproto.syntax import MAX_TID_CLOCK_ID, make_tid, parse_nsid
from pipelines.sim.hosts import ANY_PDS_NAME, Host, number, xrpc_error
from pipelines.sim.state import FAULTS, HostFaults

# The lexicons' limits.
_REPOS_MAX_COUNT, _REPOS_DEFAULT_COUNT = 1000, 500
_HOSTS_MAX_COUNT, _HOSTS_DEFAULT_COUNT = 1000, 200
_BY_COLLECTION_MAX_COUNT, _BY_COLLECTION_DEFAULT_COUNT = 2000, 500

_CURSOR = re.compile(r"at-([0-9]{1,9})")
# 2100-01-01: what no repository has reached.
_FUTURE_US = 4_102_444_800_000_000

_T = TypeVar("_T")


async def list_repos(request: web.Request, host: Host) -> web.Response:
    """Answers com.atproto.sync.listRepos with the accounts whose head is known."""
    limit = number(request, "limit", default=_REPOS_DEFAULT_COUNT, highest=_REPOS_MAX_COUNT)
    listings = [account.listing for _, account in host.network.list_accounts(host.name)]
    start = _start(request)
    # How many of them lie behind: those of earlier rounds of a list without end.
    passed = start - start % max(1, len(listings)) if host.faults.is_endless else 0
    page, following = _page(listings, start - passed, limit)
    if host.faults.is_endless:
        following = passed + (len(listings) if following is None else following)
    repos = [*_unknown(host.name, start, host.faults.unknown_count), *_told(page, host.faults)]
    return _answer("repos", repos, following)


async def list_hosts(request: web.Request, host: Host) -> web.Response:
    """Answers com.atproto.sync.listHosts with every PDS."""
    limit = number(request, "limit", default=_HOSTS_DEFAULT_COUNT, highest=_HOSTS_MAX_COUNT)
    page, following = _page(host.network.list_hosts(), _start(request), limit)
    faults = request.app[FAULTS].hosts
    hosts = []
    for name in page:
        own = faults.get(name, faults.get(ANY_PDS_NAME, HostFaults()))
        count = sum(account.listing is not None for _, account in host.network.list_accounts(name))
        status = "offline" if own.is_down else "active"
        hosts.append({"hostname": name, "accountCount": count, "status": status})
    return _answer("hosts", hosts, following)


async def list_repos_by_collection(request: web.Request, host: Host) -> web.Response:
    """Answers com.atproto.sync.listReposByCollection with whoever has a record of it."""
    limit = number(
        request, "limit", default=_BY_COLLECTION_DEFAULT_COUNT, highest=_BY_COLLECTION_MAX_COUNT
    )
    try:
        collection = parse_nsid(request.query.get("collection", ""))
    except IdentifierError:
        raise xrpc_error("InvalidRequest", "collection is no NSID") from None
    network = host.network
    found: list[dict[str, str] | None] = []
    for did, account in network.list_accounts(host.name):
        has_it = account.listing is not None and network.has_collection(did, collection)
        if has_it is None:
            raise xrpc_error(
                "MethodNotImplemented", "nobody knows the collections", web.HTTPNotImplemented
            )
        found.append({"did": did} if has_it else None)
    return _answer("repos", *_page(found, _start(request), limit))


def _told(page: Iterable[Mapping[str, Any]], faults: HostFaults) -> Iterator[Mapping[str, Any]]:
    for listing in page:
        if faults.has_wrong_heads:
            head = encode_cid(cid_of(str(listing["did"]).encode()))
            yield {**listing, "head": head, "rev": make_tid(_FUTURE_US, MAX_TID_CLOCK_ID)}
        else:
            yield listing


def _unknown(name: str | None, start: int, count: int) -> Iterator[dict[str, Any]]:
    """Yields listings of accounts that nobody has, the same for the same page."""
    for index in range(count):
        digest = hashlib.sha256(f"{name} {start} {index}".encode()).digest()
        did = f"did:plc:{base64.b32encode(digest).decode().lower()[:24]}"
        rev = make_tid(_FUTURE_US - index, 0)
        yield {"did": did, "head": encode_cid(cid_of(digest)), "rev": rev, "active": True}


def _page(items: Iterable[_T | None], start: int, limit: int) -> tuple[list[_T], int | None]:
    """Returns some items, and where the next page begins if there is one."""
    listed = (
        (position, item)
        for position, item in itertools.islice(enumerate(items), start, None)
        if item is not None
    )
    page = list(itertools.islice(listed, limit))
    following = None if next(listed, None) is None else page[-1][0] + 1
    return [item for _, item in page], following


def _start(request: web.Request) -> int:
    text = request.query.get("cursor")
    if not text:
        return 0
    found = _CURSOR.fullmatch(text)
    if found is None:
        raise xrpc_error("InvalidRequest", "cursor is none of ours")
    return int(found[1])


def _answer(name: str, items: list[Any], following: int | None) -> web.Response:
    body: dict[str, Any] = {name: items}
    if following is not None:
        body["cursor"] = f"at-{following}"
    return web.json_response(body)
