"""The simulator as one web application: every route, the status, the truth, the faults.

`GET /sim/status` counts what was served. `GET /sim/truth` tells what really happened up to the
last emitted frame, of all accounts, and `GET /sim/truth/{did}` of one, with path → record CID;
only a generated network knows. `POST /sim/faults` breaks things and mends them: a JSON
object with the fields of `Faults`, of which those that are absent stay as they are, and `hosts`
is an object of objects with the fields of `HostFaults`.
"""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from typing import Any, Final

import orjson
from aiohttp import web

from pipelines.relay import SUBSCRIBE_PATH
from pipelines.sim import directory, export, listings, repos
from pipelines.sim.hosts import HOST_PATIENCE, Answer, Handler, HostPatience, as_host
from pipelines.sim.ports import Network
from pipelines.sim.relay import RELAY, Relay
from pipelines.sim.state import (
    FAULTS,
    NETWORK,
    PATIENCE,
    REQUESTS,
    Faults,
    HostFaults,
    Patience,
    Requests,
)

_OF_PDS: Final[Mapping[str, Answer]] = {
    "getRepo": repos.get_repo,
    "getRecord": repos.get_record,
    "getLatestCommit": repos.get_latest_commit,
    "getRepoStatus": repos.get_repo_status,
    "listRepos": listings.list_repos,
}
_OF_RELAY: Final[Mapping[str, Answer]] = {
    **_OF_PDS,
    "listHosts": listings.list_hosts,
    "listReposByCollection": listings.list_repos_by_collection,
}


def build_app(network: Network, relay: Relay, faults: Faults) -> web.Application:
    """Returns the application; closing it closes the relay's sockets."""
    app = web.Application(middlewares=[_count_requests])
    app[NETWORK] = network
    app[RELAY] = relay
    app[FAULTS] = faults
    app[PATIENCE] = Patience()
    app[REQUESTS] = Requests()
    app[export.EXPORT] = export.ExportLog()
    app[HOST_PATIENCE] = HostPatience()
    app.add_routes(
        [
            # The name of a route is what its requests are counted under; the others are not.
            web.get(SUBSCRIBE_PATH, relay.serve, name="subscribeRepos"),
            web.get("/web/{id}/.well-known/did.json", directory.web_document, name="web_document"),
            web.get("/export", export.plc_export, name="plc_export"),
            web.get("/{did}", directory.plc_document, name="plc_document"),
            web.get("/{did}/log/audit", directory.plc_audit_log, name="plc_audit_log"),
            web.get("/sim/status", _get_status),
            web.post("/sim/faults", _set_faults),
            web.get("/sim/truth", _get_truth),
            web.get("/sim/truth/{did}", _get_truth),
        ]
    )
    for name, answer in _OF_RELAY.items():
        app.router.add_get(f"/xrpc/com.atproto.sync.{name}", as_host(answer), name=name)
    for name, answer in _OF_PDS.items():
        path = f"/pds/{{host}}/xrpc/com.atproto.sync.{name}"
        app.router.add_get(path, as_host(answer), name=f"pds_{name}")
    app.cleanup_ctx.append(_working)
    app.on_shutdown.append(_close_sockets)
    return app


def status(app: web.Application) -> dict[str, Any]:
    """Returns what `/sim/status` answers."""
    return app[RELAY].counts() | {"requests": dict(app[REQUESTS].count_by_kind)}


@web.middleware
async def _count_requests(request: web.Request, handler: Handler) -> web.StreamResponse:
    name = request.match_info.route.name
    if name is not None:
        request.app[REQUESTS].count_by_kind[name] += 1
    return await handler(request)


async def _get_status(request: web.Request) -> web.Response:
    return web.json_response(status(request.app))


async def _set_faults(request: web.Request) -> web.Response:
    faults = request.app[FAULTS]
    try:
        wanted = await request.json()
        if "hosts" in wanted:
            hosts = wanted["hosts"].items()
            wanted["hosts"] = {name: HostFaults(**fields) for name, fields in hosts}
        changed = dataclasses.replace(faults, **wanted)
    except (AttributeError, TypeError, ValueError) as error:
        return web.json_response({"message": str(error)}, status=HTTPStatus.BAD_REQUEST)
    for item in dataclasses.fields(faults):
        setattr(faults, item.name, getattr(changed, item.name))
    return web.json_response(dataclasses.asdict(faults))


async def _get_truth(request: web.Request) -> web.Response:
    truth = request.app[NETWORK].truth(request.match_info.get("did"))
    if truth is None:
        raise web.HTTPNotFound(text="nothing is known: a capture, or an account that is not there")
    return web.Response(body=orjson.dumps(truth), content_type="application/json")


async def _working(app: web.Application) -> AsyncIterator[None]:
    """Lets the history work while the application runs; closes the network in the end."""
    working = asyncio.create_task(app[RELAY].work())
    yield
    working.cancel()
    app[NETWORK].close()
    with contextlib.suppress(asyncio.CancelledError):
        await working  # what went wrong there is raised here


async def _close_sockets(app: web.Application) -> None:
    await app[RELAY].close()
