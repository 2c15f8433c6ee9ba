"""DID documents and audit logs as plc.directory and did:web hosts serve them.

`GET /{did}` and `GET /{did}/log/audit` are those of did:plc. A did:web document would be at
`https://<host>/.well-known/did.json`; here it is below a base of our own, at
`/web/<host>/.well-known/did.json`: `did:web:localhost%3A2590` is at `/web/localhost:2590/…`.

All of it, and the export, may be down, or answer so many requests a second and no more.

spec: E-09, E-10, L-01
"""

import time
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from pipelines.sim.ports import Identity
from pipelines.sim.state import FAULTS, NETWORK, PATIENCE


def check_available(request: web.Request) -> None:
    """Answers with 503 while the directory is down, and with 429 what is asked too often."""
    faults = request.app[FAULTS]
    if faults.plc_down:
        raise web.HTTPServiceUnavailable
    if not request.app[PATIENCE].admit(faults.plc_per_s, time.monotonic()):
        raise web.HTTPTooManyRequests(headers={"Retry-After": "1"})


async def plc_document(request: web.Request) -> web.Response:
    """Answers with the DID document of a did:plc."""
    document = _document(request, request.match_info["did"], "did:plc:")
    return web.json_response(document, content_type="application/did+ld+json")


async def plc_audit_log(request: web.Request) -> web.Response:
    """Answers with every operation of a did:plc, nullified ones too."""
    did = request.match_info["did"]
    identity = _identity(request, did, "did:plc:")
    if identity.audit_log is None:
        raise _not_found(f"No log: {did}")
    return web.json_response(identity.audit_log)


async def web_document(request: web.Request) -> web.Response:
    """Answers with the DID document of a did:web."""
    did = f"did:web:{request.match_info['id'].replace(':', '%3A')}"
    return web.json_response(_document(request, did, "did:web:"))


def _document(request: web.Request, did: str, method: str) -> Mapping[str, Any]:
    document = _identity(request, did, method).document
    if document is None:
        raise _not_found(f"DID not available: {did}")
    return document


def _identity(request: web.Request, did: str, method: str) -> Identity:
    check_available(request)
    identity = request.app[NETWORK].find_identity(did)
    if identity is None or not did.startswith(method):
        raise _not_found(f"DID not registered: {did}")
    return identity


def _not_found(message: str) -> web.HTTPNotFound:
    body = web.json_response({"message": message}).text
    return web.HTTPNotFound(text=body, content_type="application/json")
