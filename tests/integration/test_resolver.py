"""Resolving DIDs over real HTTP on loopback (spec: E-01, E-02, E-09, E-10, E-17, E-18, M-21)."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import NoReturn

import pytest
from aiohttp import web
from support import plc
from support.web import DEADLINE_S, Handler, Server, answer, with_server

from pipelines.atproto.errors import IdentityError, Reason
from pipelines.atproto.keys import parse_did_key, parse_multikey
from pipelines.atproto.syntax import Did
from pipelines.errors import ConfigError, IdentityUnavailableError
from pipelines.identity import checked_names, fetching, keyring, resolver

_KEY = "zQ3shqwJEJyMBsBXCWyCBpUBMqxcon9oHB7mCvx4sSpMdLJwc"
_FIRST_OPERATION = plc.with_key(f"did:key:{_KEY}")
_PLC = plc.did_of(_FIRST_OPERATION)


def _document(did: str) -> dict[str, object]:
    method = {
        "id": f"{did}#atproto",
        "type": "Multikey",
        "controller": did,
        "publicKeyMultibase": _KEY,
    }
    return {"id": did, "verificationMethod": [method]}


@asynccontextmanager
async def _resolver(server: Server, *, timeout_s: float = 5.0) -> AsyncIterator[resolver.Resolver]:
    """A resolver for which the server is both the directory and every did:web host."""
    made = resolver.Resolver(
        f"{server.url}/plc/", did_web_base=f"{server.url}/web", timeout_s=timeout_s
    )
    try:
        yield made
    finally:
        await made.close()


async def _error(
    lookup: Awaitable[object],
) -> IdentityError | IdentityUnavailableError:
    with pytest.raises((IdentityError, IdentityUnavailableError)) as refusal:
        await lookup
    assert isinstance(refusal.value, IdentityError | IdentityUnavailableError)
    return refusal.value


async def _serve_identities(request: web.Request) -> web.StreamResponse:
    """Answers like a directory and like did:web hosts, for any DID."""
    path = request.raw_path
    if path.startswith("/web/"):
        host = path.removeprefix("/web/").removesuffix("/.well-known/did.json")
        did = f"did:web:{host.replace(':', '%3A')}"
    else:
        did = path.removeprefix("/plc/").removesuffix("/log/audit")
    answer = plc.log_of(_FIRST_OPERATION) if path.endswith("/log/audit") else _document(did)
    return web.json_response(answer)


def test_each_method_is_asked_at_its_place() -> None:
    """Spec: E-09, E-10."""

    async def story(server: Server) -> None:
        async with _resolver(server) as resolve:
            for did in (_PLC, Did("did:web:example.com"), Did("did:web:localhost%3A2590")):
                identity = await resolve.resolve(did)
                assert identity.did == did
                assert identity.require_key() == parse_multikey(_KEY)
            log = await resolve.audit_log(_PLC)
        assert log is not None
        assert [change.signing_key for change in log] == [parse_did_key(f"did:key:{_KEY}")]
        assert server.paths == [
            f"/plc/{_PLC}",
            "/web/example.com/.well-known/did.json",
            "/web/localhost:2590/.well-known/did.json",
            f"/plc/{_PLC}/log/audit",
        ]

    with_server(_serve_identities, story)


def test_in_development_localhost_is_asked_itself() -> None:
    """Spec: E-09."""

    async def handler(request: web.Request) -> web.StreamResponse:
        return web.json_response(_document(f"did:web:{request.host.replace(':', '%3A')}"))

    async def story(server: Server) -> None:
        did = Did(f"did:web:localhost%3A{server.port}")
        open_to_it = resolver.Resolver(server.url, allow_loopback=True)
        closed_to_it = resolver.Resolver(server.url)
        try:
            assert (await open_to_it.resolve(did)).did == did
            error = await _error(closed_to_it.resolve(did))
        finally:
            await open_to_it.close()
            await closed_to_it.close()
        assert isinstance(error, IdentityError)
        assert error.reason is Reason.IDENTITY_UNSUPPORTED_METHOD
        assert server.paths == ["/.well-known/did.json"]

    with_server(handler, story)


@pytest.mark.parametrize(
    ("did", "reason"),
    [
        ("did:key:zQ3shqwJEJyMBsBXCWyCBpUBMqxcon9oHB7mCvx4sSpMdLJwc", "unsupported_method"),
        ("did:example:abc", "unsupported_method"),
        ("did:web:example.com:path", "unsupported_method"),
        ("did:web:example.com%3A8080", "unsupported_method"),
        ("did:web:example.com%2Fpath", "unsupported_method"),
        ("did:web:example", "unsupported_method"),
        ("did:web:127.0.0.1", "unsupported_method"),
        ("did:web:localhost%3A", "unsupported_method"),
        ("did:web:localhost%3a2590", "unsupported_method"),
        ("did:web:localhost%3A2590%3A1", "unsupported_method"),
        ("did:web:..", "unsupported_method"),
        ("did:plc:abc", "unsupported_method"),
        ("did:plc:EWVI7NXZYOUN6ZHXRHS64OIZ", "unsupported_method"),
        ("did:plc:ewvi7nxzyoun6zhxrhs64oi1", "unsupported_method"),
        ("did:plc:%2E%2E", "unsupported_method"),
        ("did:plc:..", "unsupported_method"),
    ],
)
def test_forms_that_the_network_does_not_use_are_not_asked_for(did: str, reason: str) -> None:
    """Spec: E-01, E-09, E-16."""

    async def story(server: Server) -> None:
        async with _resolver(server) as resolve:
            error = await _error(resolve.resolve(Did(did)))
            assert isinstance(error, IdentityError)
            assert error.reason == f"identity.{reason}"
            assert error.did == did
            assert await resolve.audit_log(Did(did)) is None
        assert server.paths == []

    with_server(_serve_identities, story)


def test_a_public_host_is_asked_over_https() -> None:
    """Spec: E-09."""
    url = resolver.Resolver()._did_web_url(Did("did:web:pds.example.com"))
    assert url == "https://pds.example.com/.well-known/did.json"


@pytest.mark.parametrize("host", ["localhost", "localhost%3A2590", "printer.local", "a.LOCALHOST"])
def test_names_of_a_private_network_are_not_asked_for(host: str) -> None:
    """Spec: E-08, E-09."""

    async def ask() -> None:
        resolve = resolver.Resolver()
        try:
            error = await _error(resolve.resolve(Did(f"did:web:{host}")))
        finally:
            await resolve.close()
        assert isinstance(error, IdentityError)
        assert error.reason is Reason.IDENTITY_UNSUPPORTED_METHOD

    asyncio.run(ask())


@pytest.mark.parametrize("status", [404, 410])
@pytest.mark.parametrize("did", [_PLC, "did:web:example.com"], ids=["plc", "web"])
def test_a_did_that_is_unknown_or_given_up_has_no_identity(status: int, did: str) -> None:
    """Spec: E-10."""

    async def story(server: Server) -> None:
        async with _resolver(server) as resolve:
            error = await _error(resolve.resolve(Did(did)))
            assert isinstance(error, IdentityError)
            assert error.reason is Reason.IDENTITY_NOT_FOUND
            assert await resolve.audit_log(Did(did)) is None

    with_server(answer(status, '{"message": "DID not registered"}'), story)


@pytest.mark.parametrize(
    ("handler", "retry_after_s"),
    [
        (answer(429, Retry_After="17"), 17.0),
        (answer(503, Retry_After="Sun, 06 Nov 1994 08:49:37 GMT"), 0.0),
        (answer(429), None),
        (answer(503, Retry_After="soon"), None),
        (answer(503, Retry_After="-5"), None),
        (answer(500), None),
        (answer(403), None),
        (answer(204), None),
        (answer(302, Location="/elsewhere"), None),
        (answer(200, "<!doctype html>"), None),
        (answer(200, '{"id": NaN}'), None),
        (answer(200, b"\xff"), None),
        (answer(200, "[" * 100_000), None),
        (answer(200, b"\x1f\x8b\x08", Content_Encoding="gzip"), None),
    ],
)
def test_a_directory_that_cannot_say_now_is_asked_again_later(
    handler: Handler, retry_after_s: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spec: E-18."""
    monkeypatch.setattr(fetching, "RETRY_DELAY_S", 0.01)

    async def story(server: Server) -> None:
        for is_log in (False, True):
            async with _resolver(server) as resolve:
                error = await _error(resolve.audit_log(_PLC) if is_log else resolve.resolve(_PLC))
            assert isinstance(error, IdentityUnavailableError)
            assert error.retry_after_s == retry_after_s
            assert f"{server.url}/plc/{_PLC}" in str(error)

    with_server(handler, story)


def test_a_document_of_another_did_is_refused() -> None:
    """Spec: E-02."""
    other = json.dumps(_document("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"))

    async def story(server: Server) -> None:
        async with _resolver(server) as resolve:
            error = await _error(resolve.resolve(_PLC))
            assert isinstance(error, IdentityError)
            assert error.reason is Reason.IDENTITY_DOCUMENT
            error = await _error(resolve.audit_log(_PLC))
            assert isinstance(error, IdentityError)
            assert error.reason is Reason.IDENTITY_LOG

    with_server(answer(200, other), story)


def test_an_endless_body_is_cut_off_by_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spec: M-21."""
    monkeypatch.setattr(resolver, "MAX_DOCUMENT_BYTES", 10_000)
    monkeypatch.setattr(resolver, "MAX_AUDIT_LOG_BYTES", 10_000)

    async def handler(request: web.Request) -> NoReturn:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" " * 1_000)

    async def story(server: Server) -> None:
        async with _resolver(server) as resolve:
            for lookup, reason in (
                (resolve.resolve(_PLC), Reason.IDENTITY_DOCUMENT),
                (resolve.audit_log(_PLC), Reason.IDENTITY_LOG),
            ):
                error = await _error(lookup)
                assert isinstance(error, IdentityError)
                assert error.reason is reason
                assert "larger than 10000 bytes" in error.detail

    with_server(handler, story)


def test_a_host_that_answers_in_a_trickle_is_cut_off_by_time() -> None:
    """Spec: M-07."""

    async def handler(request: web.Request) -> NoReturn:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" ")
            await asyncio.sleep(0.02)

    async def story(server: Server) -> None:
        async with _resolver(server, timeout_s=0.2) as resolve:
            error = await _error(resolve.resolve(_PLC))
        assert isinstance(error, IdentityUnavailableError)
        assert "0.2 s" in str(error)

    with_server(handler, story)


def test_a_host_that_is_away_is_named() -> None:
    async def story(_server: Server) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))  # bound but not listening: refuses connections
            url = f"http://127.0.0.1:{unused.getsockname()[1]}"
            resolve = resolver.Resolver(url)
            try:
                error = await _error(resolve.resolve(_PLC))
            finally:
                await resolve.close()
        assert isinstance(error, IdentityUnavailableError)
        assert url in str(error)

    with_server(_serve_identities, story)


def test_callers_that_ask_for_the_same_share_a_request() -> None:
    async def play() -> None:
        gate = asyncio.Event()

        async def handler(request: web.Request) -> web.StreamResponse:
            await gate.wait()
            return await _serve_identities(request)

        server = Server(handler)
        async with asyncio.timeout(DEADLINE_S), server.serve(), _resolver(server) as resolve:
            callers = [asyncio.create_task(resolve.resolve(_PLC)) for _ in range(5)]
            await server.has_received(1)
            # One that gives up takes the answer from nobody else.
            callers[0].cancel()
            await asyncio.wait([callers[0]])
            gate.set()
            identities = await asyncio.gather(*callers[1:])
            assert {identity.did for identity in identities} == {_PLC}
            assert callers[0].cancelled()
            assert server.paths == [f"/plc/{_PLC}"]
            await resolve.resolve(_PLC)
            assert len(server.paths) == 2  # answers are not kept here

    asyncio.run(play())


def test_a_request_that_nobody_waits_for_is_given_up() -> None:
    async def play() -> None:
        was_dropped = asyncio.Event()

        async def handler(_request: web.Request) -> web.StreamResponse:
            try:
                await asyncio.Event().wait()
            finally:
                was_dropped.set()
            return web.Response()

        server = Server(handler)
        async with asyncio.timeout(DEADLINE_S), server.serve(), _resolver(server) as resolve:
            caller = asyncio.create_task(resolve.resolve(_PLC))
            await server.has_received(1)
            caller.cancel()
            await asyncio.wait([caller])
            await was_dropped.wait()

    asyncio.run(play())


def test_slow_did_web_hosts_do_not_keep_the_directory_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resolver, "WEB_CONCURRENT_COUNT", 2)

    async def handler(request: web.Request) -> web.StreamResponse:
        if request.raw_path.startswith("/web/"):
            await asyncio.Event().wait()
        return await _serve_identities(request)

    async def story(server: Server) -> None:
        async with _resolver(server, timeout_s=DEADLINE_S) as resolve:
            slow = [
                asyncio.create_task(resolve.resolve(Did(f"did:web:host{number}.example.com")))
                for number in range(5)
            ]
            await server.has_received(2)
            assert (await resolve.resolve(_PLC)).did == _PLC
            assert not any(task.done() for task in slow)
            for task in slow:
                task.cancel()
            await asyncio.wait(slow)
        assert [path.startswith("/web/") for path in server.paths] == [True, True, False]

    with_server(handler, story)


def test_a_forced_look_up_goes_past_caches_and_shares_no_earlier_request() -> None:
    """Spec: E-14."""
    wishes = []

    async def handler(request: web.Request) -> web.StreamResponse:
        wishes.append(request.headers.get("Cache-Control"))
        await server_side.wait()
        return await _serve_identities(request)

    async def story(server: Server) -> None:
        async with _resolver(server) as resolve:
            callers = [
                asyncio.create_task(resolve.resolve(_PLC, past_caches=is_forced))
                for is_forced in (False, True, True)
            ]
            await server.has_received(2)
            server_side.set()
            await asyncio.gather(*callers)
            assert await resolve.audit_log(_PLC) is not None
        assert sorted(wishes, key=str) == [None, "no-cache", "no-cache"]

    server_side = asyncio.Event()
    with_server(handler, story)


def test_a_did_web_host_is_asked_only_if_it_is_public(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spec: M-20: a name that leads to this machine gives no identity, and nobody is asked."""

    def look_up(host: str, _port: int) -> dict[str, int]:
        looked_up.append(host)
        return {"127.0.0.1": socket.AF_INET, "::1": socket.AF_INET6, "10.1.2.3": socket.AF_INET}

    looked_up: list[str] = []
    monkeypatch.setattr(checked_names, "_system_lookup", look_up)

    async def story(server: Server) -> None:
        resolve = resolver.Resolver(server.url)
        try:
            error = await _error(resolve.resolve(Did("did:web:sly.example.com")))
        finally:
            await resolve.close()
        assert isinstance(error, IdentityError)
        assert error.reason is Reason.IDENTITY_DOCUMENT
        assert "sly.example.com has no address on the public network" in error.detail
        assert looked_up == ["sly.example.com"]

    with_server(_serve_identities, story)


@pytest.mark.parametrize(
    "url",
    ["", "plc.directory", "ftp://plc.directory", "https://plc.directory/?did=", "http://a b"],
)
def test_a_base_url_that_is_none_is_refused_with_its_remedy(url: str) -> None:
    with pytest.raises(ConfigError, match=r"https://plc\.directory"):
        resolver.Resolver(url)
    with pytest.raises(ConfigError, match=r"https://plc\.directory"):
        resolver.Resolver(did_web_base=url)


def test_a_key_ring_works_through_real_http(monkeypatch: pytest.MonkeyPatch) -> None:
    """The synchronous side: several calls, one event loop, connections kept between them."""
    broken = Did("did:plc:bbbbbbbbbbbbbbbbbbbbbbbb")

    async def handler(request: web.Request) -> web.StreamResponse:
        if broken in request.raw_path:
            return web.Response(status=500)
        return await _serve_identities(request)

    monkeypatch.setattr(fetching, "ATTEMPTS_COUNT", 1)

    async def story(server: Server) -> None:
        def use() -> None:
            ring = keyring.KeyRing(resolver.Resolver(server.url + "/plc"), max_keys=100)
            try:
                ring.prefetch([_PLC, broken])
                assert ring.current_key(_PLC) == parse_multikey(_KEY)
                with pytest.raises(IdentityUnavailableError):
                    ring.current_key(broken)
                assert ring.refreshed_key(_PLC, None) == parse_multikey(_KEY)
                assert ring.key_at(_PLC, 0) == parse_multikey(_KEY)
            finally:
                ring.close()

        await asyncio.to_thread(use)
        assert sorted(server.paths) == sorted(
            [f"/plc/{_PLC}", f"/plc/{broken}", f"/plc/{_PLC}", f"/plc/{_PLC}/log/audit"]
        )
        assert len(server.connections) <= 2

    with_server(handler, story)
