"""What the host of a repository answers about it: com.atproto.sync.getRepo and its relatives.

`since` of getRepo is ignored: it answers with the whole repository, which contains what was asked
for. Errors have the names of the lexicons.

spec: I-04, I-08, I-09, I-11
"""

import asyncio
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from aiohttp import web

from pipelines.sim.ports import Account
from pipelines.sim.state import NETWORK

# Lexicon com.atproto.sync.listRepos.
_LIST_MAX_COUNT = 1000
_LIST_DEFAULT_COUNT = 500

# A generated repository is sent in pieces of about this size.
_PIECE_BYTES = 64 * 1024

_NUMBER = re.compile(r"[0-9]{1,9}")

# Why a repository is not served, by the status of its account. Lexicon com.atproto.sync.getRepo.
_ERROR_BY_STATUS = {
    "takendown": "RepoTakendown",
    "suspended": "RepoSuspended",
    "deactivated": "RepoDeactivated",
}


async def get_repo(request: web.Request) -> web.StreamResponse:
    """Answers com.atproto.sync.getRepo with a CAR of the whole repository."""
    did, account = _account(request)
    status = account.repo_status
    if status.get("active") is not True:
        name = status.get("error") or _ERROR_BY_STATUS.get(str(status.get("status")))
        raise _error(name or "RepoNotFound", f"No repo is served for DID: {did}")
    if account.car is None:
        raise _error("RepoNotFound", f"No repo is there for DID: {did}")
    headers = {"Content-Type": "application/vnd.ipld.car"}
    if isinstance(account.car, Path):
        return web.FileResponse(account.car, headers=headers)
    # Before anything is awaited: the repository as it is at this moment.
    pieces = account.car()
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    for batch in _batches(pieces):
        await response.write(batch)
        await asyncio.sleep(0)  # others have their turn while a large repository is sent
    await response.write_eof()
    return response


async def get_latest_commit(request: web.Request) -> web.Response:
    """Answers com.atproto.sync.getLatestCommit."""
    did, account = _account(request)
    return _answer(did, account.latest_commit)


async def get_repo_status(request: web.Request) -> web.Response:
    """Answers com.atproto.sync.getRepoStatus."""
    did, account = _account(request)
    return _answer(did, account.repo_status)


async def list_repos(request: web.Request) -> web.Response:
    """Answers com.atproto.sync.listRepos with the accounts whose head is known."""
    start = _number(request, "cursor", default=0)
    limit = _number(request, "limit", default=_LIST_DEFAULT_COUNT)
    if not 1 <= limit <= _LIST_MAX_COUNT:
        raise _error("InvalidRequest", f"limit is from 1 to {_LIST_MAX_COUNT}")
    # Counted over all accounts, also those that are not listed: one that goes between two pages
    # must not move those behind it.
    accounts = enumerate(request.app[NETWORK].list_accounts())
    listed = (
        (position, account.listing)
        for position, (_, account) in itertools.islice(accounts, start, None)
        if account.listing is not None
    )
    page = list(itertools.islice(listed, limit))
    body: dict[str, Any] = {"repos": [listing for _, listing in page]}
    if next(listed, None) is not None:
        body["cursor"] = str(page[-1][0] + 1)
    return web.json_response(body)


def _account(request: web.Request) -> tuple[str, Account]:
    did = request.query.get("did")
    if did is None:
        raise _error("InvalidRequest", "did is missing")
    account = request.app[NETWORK].find_account(did)
    if account is None:
        raise _error("RepoNotFound", f"Could not find repo for DID: {did}")
    return did, account


def _answer(did: str, answer: Mapping[str, Any]) -> web.Response:
    if "error" in answer:
        raise _error(answer["error"], answer.get("message", f"No repo is served for DID: {did}"))
    return web.json_response(answer)


def _batches(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Joins small pieces to ones worth sending."""
    batch, size = [], 0
    for piece in pieces:
        batch.append(piece)
        size += len(piece)
        if size >= _PIECE_BYTES:
            yield b"".join(batch)
            batch, size = [], 0
    yield b"".join(batch)


def _number(request: web.Request, name: str, *, default: int) -> int:
    text = request.query.get(name)
    if text is None:
        return default
    if not _NUMBER.fullmatch(text):
        raise _error("InvalidRequest", f"{name} is not a number")
    return int(text)


def _error(name: str, message: str) -> web.HTTPBadRequest:
    body = web.json_response({"error": name, "message": message}).text
    return web.HTTPBadRequest(text=body, content_type="application/json")
