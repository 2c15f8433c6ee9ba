"""What the host of a repository answers about it: com.atproto.sync.getRepo and its relatives.

Only what was captured: `since` of getRepo is ignored, so that it answers with the whole
repository, which contains what was asked for. Errors have the names of the lexicons.

spec: I-04, I-08, I-09, I-11
"""

import re
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from pipelines.sim.network import CapturedAccount
from pipelines.sim.state import NETWORK

# Lexicon com.atproto.sync.listRepos.
_LIST_MAX_COUNT = 1000
_LIST_DEFAULT_COUNT = 500

_NUMBER = re.compile(r"[0-9]{1,9}")

# Why a repository is not served, by the status of its account. Lexicon com.atproto.sync.getRepo.
_ERROR_BY_STATUS = {
    "takendown": "RepoTakendown",
    "suspended": "RepoSuspended",
    "deactivated": "RepoDeactivated",
}


async def get_repo(request: web.Request) -> web.StreamResponse:
    """Answers com.atproto.sync.getRepo with the captured CAR."""
    did, account = _account(request)
    status = account.repo_status
    if status.get("active") is not True:
        name = status.get("error") or _ERROR_BY_STATUS.get(str(status.get("status")))
        raise _error(name or "RepoNotFound", f"No repo is served for DID: {did}")
    if account.car is None:
        raise _error("RepoNotFound", f"The repo was not captured: {did}")
    return web.FileResponse(account.car, headers={"Content-Type": "application/vnd.ipld.car"})


async def get_latest_commit(request: web.Request) -> web.Response:
    """Answers com.atproto.sync.getLatestCommit as the host did."""
    did, account = _account(request)
    return _captured(did, account.latest_commit)


async def get_repo_status(request: web.Request) -> web.Response:
    """Answers com.atproto.sync.getRepoStatus as the host did."""
    did, account = _account(request)
    return _captured(did, account.repo_status)


async def list_repos(request: web.Request) -> web.Response:
    """Answers com.atproto.sync.listRepos with the accounts whose head is known."""
    start = _number(request, "cursor", default=0)
    limit = _number(request, "limit", default=_LIST_DEFAULT_COUNT)
    if not 1 <= limit <= _LIST_MAX_COUNT:
        raise _error("InvalidRequest", f"limit is from 1 to {_LIST_MAX_COUNT}")
    repos = [
        {
            "did": did,
            "head": account.latest_commit["cid"],
            "rev": account.latest_commit["rev"],
            "active": account.repo_status.get("active", False),
        }
        for did, account in request.app[NETWORK].accounts.items()
        if "error" not in account.latest_commit
    ]
    body: dict[str, Any] = {"repos": repos[start : start + limit]}
    if start + limit < len(repos):
        body["cursor"] = str(start + limit)
    return web.json_response(body)


def _account(request: web.Request) -> tuple[str, CapturedAccount]:
    did = request.query.get("did")
    if did is None:
        raise _error("InvalidRequest", "did is missing")
    account = request.app[NETWORK].accounts.get(did)
    if account is None:
        raise _error("RepoNotFound", f"Could not find repo for DID: {did}")
    return did, account


def _captured(did: str, answer: Mapping[str, Any]) -> web.Response:
    if "error" in answer:
        raise _error(answer["error"], answer.get("message", f"No repo is served for DID: {did}"))
    return web.json_response(answer)


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
