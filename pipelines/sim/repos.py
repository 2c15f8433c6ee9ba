"""What hosts answer about one repository: com.atproto.sync.getRepo and its relatives.

`since` of getRepo is checked and no more: it answers with the whole repository, which contains
what was asked for. spec: I-04, I-06, I-08, I-11, I-12
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

from aiohttp import web

from pipelines.atproto.errors import IdentifierError
from pipelines.atproto.syntax import parse_tid
from pipelines.sim.hosts import Host, abort, xrpc_error
from pipelines.sim.ports import ERROR_BY_STATUS, Account, CarSource
from pipelines.sim.state import FAULTS, HostFaults

# A repository is sent in pieces of about this size.
_PIECE_BYTES = 64 * 1024
# One that comes slowly, in so many pieces a second.
_SLOW_PIECES = 10


async def get_repo(request: web.Request, host: Host) -> web.StreamResponse:
    """Answers com.atproto.sync.getRepo with a CAR of the whole repository."""
    did, account = _account(request, host)
    _check_since(request)
    pds = host.network.host_of(did)
    if host.name is None and request.app[FAULTS].relay_redirects and pds is not None:
        where = f"https://{pds}{request.path_qs}"
        return web.Response(status=HTTPStatus.FOUND, headers={"Location": where})
    _check_served(did, account)
    if account.car is None:
        raise xrpc_error("RepoNotFound", f"No repo is there for DID: {did}")
    # Before anything is awaited: the repository as it is at this moment.
    pieces = _open(account.car)
    response = web.StreamResponse(headers={"Content-Type": "application/vnd.ipld.car"})
    await response.prepare(request)
    await _send(request, response, pieces, host.faults)
    return response


async def get_record(request: web.Request, host: Host) -> web.Response:
    """Answers com.atproto.sync.getRecord with a CAR that proves a record, or its absence."""
    did, account = _account(request, host)
    collection, rkey = request.query.get("collection"), request.query.get("rkey")
    if collection is None or rkey is None:
        raise xrpc_error("InvalidRequest", "collection or rkey is missing")
    _check_served(did, account)
    if account.prove is None:
        raise xrpc_error("RepoNotFound", f"No repo is there for DID: {did}")
    body = account.prove(f"{collection}/{rkey}")
    return web.Response(body=body, content_type="application/vnd.ipld.car")


async def get_latest_commit(request: web.Request, host: Host) -> web.Response:
    """Answers com.atproto.sync.getLatestCommit."""
    did, account = _account(request, host)
    return _answer(did, account.latest_commit)


async def get_repo_status(request: web.Request, host: Host) -> web.Response:
    """Answers com.atproto.sync.getRepoStatus."""
    did, account = _account(request, host)
    return _answer(did, account.repo_status)


def _account(request: web.Request, host: Host) -> tuple[str, Account]:
    did = request.query.get("did")
    if did is None:
        raise xrpc_error("InvalidRequest", "did is missing")
    account = host.network.find_account(did, host.name, is_stale=host.faults.is_stale)
    if account is None:
        raise xrpc_error("RepoNotFound", f"Could not find repo for DID: {did}")
    return did, account


def _check_served(did: str, account: Account) -> None:
    status = account.repo_status
    if status.get("active") is not True:
        name = status.get("error") or ERROR_BY_STATUS.get(str(status.get("status")))
        raise xrpc_error(name or "RepoNotFound", f"No repo is served for DID: {did}")


def _check_since(request: web.Request) -> None:
    since = request.query.get("since")
    try:
        if since is not None:
            parse_tid(since)
    except IdentifierError:
        raise xrpc_error("InvalidRequest", "since is not a revision") from None


def _answer(did: str, answer: Mapping[str, Any]) -> web.Response:
    if "error" in answer:
        message = answer.get("message", f"No repo is served for DID: {did}")
        raise xrpc_error(answer["error"], message)
    return web.json_response(answer)


async def _send(
    request: web.Request, response: web.StreamResponse, pieces: Iterable[bytes], faults: HostFaults
) -> None:
    """Sends a CAR, or as much of it as the host's faults allow."""
    per_s = faults.bytes_per_s
    size = _PIECE_BYTES if per_s is None else max(1, per_s // _SLOW_PIECES)
    limits = [limit for limit in (faults.truncated_bytes, faults.cut_bytes) if limit is not None]
    left = min(limits) if limits else None
    for batch in _batches(pieces, size):
        await response.write(batch[:left])
        # Also without a pause: others have their turn while a large repository is sent.
        await asyncio.sleep(0 if per_s is None else len(batch) / per_s)
        if left is not None and left < len(batch):
            if faults.cut_bytes == min(limits):
                abort(request)
            break
        left = None if left is None else left - len(batch)
    await response.write_eof()


def _open(car: CarSource) -> Iterator[bytes]:
    return _read(car) if isinstance(car, Path) else car()


def _read(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            yield piece


def _batches(pieces: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Cuts and joins pieces to ones of a size; the last may be smaller."""
    waiting = bytearray()
    for piece in pieces:
        waiting += piece
        while len(waiting) >= size:
            yield bytes(waiting[:size])
            del waiting[:size]
    yield bytes(waiting)
