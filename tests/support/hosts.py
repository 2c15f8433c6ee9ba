"""Hosts that list repositories, honest and other ones, on loopback."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from aiohttp import web
from support.web import Handler, Server, running_server

from pipelines.atproto.syntax import Did

StartHost = Callable[[Handler], Server]


@contextmanager
def starting_hosts() -> Iterator[StartHost]:
    """Yields what starts hosts, which end with the block."""
    with ExitStack() as running:
        yield lambda handler: running.enter_context(running_server(handler))


def did(number: int) -> Did:
    return Did(f"did:web:{number}.example")


def entry(number: int, rev: str = "", **members: object) -> dict[str, object]:
    """A repository as listRepos has it."""
    return {"did": did(number), "head": "bafy", "rev": rev, "active": True, **members}


def lister(entries: Sequence[dict[str, object]], page_size: int = 3) -> Handler:
    """Answers listRepos; entries may be added while it runs."""

    async def handler(request: web.Request) -> web.StreamResponse:
        start = int(request.query.get("cursor", 0))
        body: dict[str, object] = {"repos": entries[start : start + page_size]}
        if start + page_size < len(entries):
            body["cursor"] = str(start + page_size)
        return web.json_response(body)

    return handler


def circle(entries: Sequence[dict[str, object]]) -> Handler:
    """Answers every page alike, with a cursor for one more."""

    async def handler(_request: web.Request) -> web.StreamResponse:
        return web.json_response({"repos": list(entries), "cursor": "again"})

    return handler


def relay(hosts: Sequence[dict[str, object]]) -> Handler:
    """Answers listHosts, one host a page."""

    async def handler(request: web.Request) -> web.StreamResponse:
        start = int(request.query.get("cursor", 0))
        body: dict[str, object] = {"hosts": hosts[start : start + 1]}
        if start + 1 < len(hosts):
            body["cursor"] = str(start + 1)
        return web.Response(text=json.dumps(body), content_type="application/json")

    return handler
