"""Hosts as they answer over HTTP: the relay and every PDS, each with faults of its own.

The relay answers about all accounts, at `/xrpc/com.atproto.sync.*`. A PDS answers about those that
live on it and those that left it, at `/pds/<host>/xrpc/com.atproto.sync.*`, because nothing
listens at the addresses that DID documents name. A host that no document names answers nothing.

Faults come before and behind what a host has to say; errors have the names of the lexicons.
spec: I-06…I-09
"""

import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TypeAlias

from aiohttp import web

from pipelines.sim.ports import Network
from pipelines.sim.state import FAULTS, NETWORK, HostFaults, Patience

# In `Faults.hosts`: where the relay answers about repositories, and every PDS not named itself.
RELAY_NAME = "relay"
ANY_PDS_NAME = "*"

_NUMBER = re.compile(r"[0-9]{1,9}")
_PAGE = "<html><head><title>{0}</title></head><body><h1>{0}</h1></body></html>\n"


@dataclass(frozen=True, slots=True)
class Host:
    """Who is asked.

    Attributes:
        name: of the PDS; None for the relay.
        faults: what is wrong with it now.
        network: what it knows of.
    """

    name: str | None
    faults: HostFaults
    network: Network


@dataclass(slots=True)
class HostPatience:
    """How often each host may be asked once more, by its name."""

    by_name: dict[str, Patience] = field(default_factory=dict)


HOST_PATIENCE = web.AppKey("host_patience", HostPatience)

Answer: TypeAlias = Callable[[web.Request, Host], Awaitable[web.StreamResponse]]
Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]


def as_host(answer: Answer) -> Handler:
    """Returns a handler that answers as the host in the path, or the relay, with its faults."""

    async def handle(request: web.Request) -> web.StreamResponse:
        network, faults = request.app[NETWORK], request.app[FAULTS].hosts
        name = request.match_info.get("host")
        if name is None:
            host = Host(None, faults.get(RELAY_NAME, HostFaults()), network)
        else:
            own = faults.get(name, faults.get(ANY_PDS_NAME, HostFaults()))
            host = Host(name, own, network)
        if host.faults.is_down or (name is not None and name not in network.list_hosts()):
            return _cut(request)
        if host.faults.status is not None:
            return _page(host.faults.status)
        try:
            _check_pace(request, host)
            return await answer(request, host)
        except web.HTTPException as error:
            if host.faults.has_plain_errors and error.status >= HTTPStatus.BAD_REQUEST:
                return _page(error.status)
            raise

    return handle


def xrpc_error(
    name: str,
    message: str,
    kind: type[web.HTTPException] = web.HTTPBadRequest,
    **headers: str,
) -> web.HTTPException:
    """Returns an error as XRPC has it, to be raised."""
    body = web.json_response({"error": name, "message": message}).text
    named = {header.replace("_", "-"): value for header, value in headers.items()}
    return kind(text=body, content_type="application/json", headers=named)


def abort(request: web.Request) -> None:
    """Breaks the connection of a request, in whatever state its answer is."""
    if request.transport is not None:
        request.transport.abort()


def _check_pace(request: web.Request, host: Host) -> None:
    patience = request.app[HOST_PATIENCE].by_name.setdefault(host.name or RELAY_NAME, Patience())
    if not patience.admit(host.faults.per_s, time.monotonic()):
        raise xrpc_error(
            "RateLimitExceeded",
            "Rate Limit Exceeded",
            web.HTTPTooManyRequests,
            Retry_After=str(host.faults.retry_after_s),
        )


def _cut(request: web.Request) -> web.Response:
    abort(request)
    return web.Response()  # which nobody gets


def _page(status: int) -> web.Response:
    """Returns an error as a proxy before a host words it."""
    text = _PAGE.format(f"{status} {HTTPStatus(status).phrase}")
    return web.Response(status=status, text=text, content_type="text/html")


def number(request: web.Request, name: str, *, default: int, highest: int) -> int:
    """Returns a query parameter that is a number from 1 on.

    Raises:
        web.HTTPException: it is not.
    """
    text = request.query.get(name, str(default))
    if not _NUMBER.fullmatch(text) or not 1 <= int(text) <= highest:
        raise xrpc_error("InvalidRequest", f"{name} is a number from 1 to {highest}")
    return int(text)
