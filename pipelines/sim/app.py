"""The simulator as one web application: every route, the status, the truth, the faults.

`GET /sim/status` counts what was served. `GET /sim/truth` tells what really happened up to the
last emitted frame, of all accounts, and `GET /sim/truth/{did}` of one, with path → record CID;
only a generated network knows. `POST /sim/faults` breaks things and mends them: a JSON
object with the fields of `Faults`, of which those that are absent stay as they are.
"""

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus
from typing import Any

import orjson
from aiohttp import web

from pipelines.relay import SUBSCRIBE_PATH
from pipelines.sim import directory, export, repos
from pipelines.sim.ports import Network
from pipelines.sim.relay import RELAY, Relay
from pipelines.sim.state import (
    FAULTS,
    NETWORK,
    PATIENCE,
    REQUESTS,
    Faults,
    Patience,
    Requests,
)

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def build_app(network: Network, relay: Relay, faults: Faults) -> web.Application:
    """Returns the application; closing it closes the relay's sockets."""
    app = web.Application(middlewares=[_count_requests])
    app[NETWORK] = network
    app[RELAY] = relay
    app[FAULTS] = faults
    app[PATIENCE] = Patience()
    app[REQUESTS] = Requests()
    app[export.EXPORT] = export.ExportLog()
    sync = "/xrpc/com.atproto.sync."
    app.add_routes(
        [
            # The name of a route is what its requests are counted under; the others are not.
            web.get(SUBSCRIBE_PATH, relay.serve, name="subscribeRepos"),
            web.get(f"{sync}getRepo", repos.get_repo, name="getRepo"),
            web.get(f"{sync}getLatestCommit", repos.get_latest_commit, name="getLatestCommit"),
            web.get(f"{sync}getRepoStatus", repos.get_repo_status, name="getRepoStatus"),
            web.get(f"{sync}listRepos", repos.list_repos, name="listRepos"),
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
    app.cleanup_ctx.append(_working)
    app.on_shutdown.append(_close_sockets)
    return app


def status(app: web.Application) -> dict[str, Any]:
    """Returns what `/sim/status` answers."""
    return app[RELAY].counts() | {"requests": dict(app[REQUESTS].count_by_kind)}


@web.middleware
async def _count_requests(request: web.Request, handler: _Handler) -> web.StreamResponse:
    name = request.match_info.route.name
    if name is not None:
        request.app[REQUESTS].count_by_kind[name] += 1
    return await handler(request)


async def _get_status(request: web.Request) -> web.Response:
    return web.json_response(status(request.app))


async def _set_faults(request: web.Request) -> web.Response:
    faults = request.app[FAULTS]
    try:
        changed = dataclasses.replace(faults, **await request.json())
    except (json.JSONDecodeError, TypeError, ValueError) as error:
        return web.json_response({"message": str(error)}, status=HTTPStatus.BAD_REQUEST)
    faults.plc_down = changed.plc_down
    faults.plc_per_s = changed.plc_per_s
    faults.drop_after_count = changed.drop_after_count
    faults.withheld_percent = changed.withheld_percent
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
