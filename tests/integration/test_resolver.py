"""Resolving DIDs over real HTTP on loopback (spec: E-01, E-02, E-09, E-10, E-17, E-18, M-21)."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NoReturn

import pytest
from aiohttp import web
from support import plc

from pipelines.atproto.errors import IdentityError, Reason
from pipelines.atproto.keys import parse_did_key, parse_multikey
from pipelines.atproto.syntax import Did
from pipelines.errors import ConfigError, IdentityUnavailableError
from pipelines.identity import keyring, resolver

_KEY = "zQ3shqwJEJyMBsBXCWyCBpUBMqxcon9oHB7mCvx4sSpMdLJwc"
_FIRST_OPERATION = plc.with_key(f"did:key:{_KEY}")
_PLC = plc.did_of(_FIRST_OPERATION)
# Bounds a test that would otherwise hang; nothing is measured by it.
_DEADLINE_S = 20.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def _document(did: str) -> dict[str, object]:
    method = {
        "id": f"{did}#atproto",
        "type": "Multikey",
        "controller": did,
        "publicKeyMultibase": _KEY,
    }
    return {"id": did, "verificationMethod": [method]}


class Server:
    """An HTTP server on loopback that answers everything with one handler, and counts."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self.url = ""
        self.port = 0
        self.paths: list[str] = []
        self.connections: set[object] = set()
        self.running = 0
        self.most_running = 0
        self._arrival = asyncio.Condition()

    async def has_received(self, count: int) -> None:
        """Waits until that many requests have arrived."""
        async with self._arrival:
            await self._arrival.wait_for(lambda: len(self.paths) >= count)

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[None]:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self.port = runner.addresses[0][1]
            self.url = f"http://127.0.0.1:{self.port}"
            yield
        finally:
            await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.paths.append(request.raw_path)
        self.connections.add(request.transport)
        async with self._arrival:
            self._arrival.notify_all()
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            return await self._handler(request)
        finally:
            self.running -= 1


def _with_server(
    handler: Handler,
    story: Callable[[Server], Awaitable[None]],
) -> None:
    async def play() -> None:
        server = Server(handler)
        async with asyncio.timeout(_DEADLINE_S), server.serve():
            await story(server)

    asyncio.run(play())


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


def _answer(status: int, body: bytes | str = b"", **headers: str) -> Handler:
    async def handler(_request: web.Request) -> web.StreamResponse:
        raw = body.encode() if isinstance(body, str) else body
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=status, body=raw, headers=named)

    return handler


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

    _with_server(_serve_identities, story)


def test_in_development_localhost_is_asked_itself() -> None:
    """Spec: E-09."""

    async def handler(request: web.Request) -> web.StreamResponse:
        return web.json_response(_document(f"did:web:{request.host.replace(':', '%3A')}"))

    async def story(server: Server) -> None:
        did = Did(f"did:web:localhost%3A{server.port}")
        open_to_it = resolver.Resolver(server.url, allow_localhost=True)
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

    _with_server(handler, story)


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
        ("did:plc:abc", "not_found"),
        ("did:plc:EWVI7NXZYOUN6ZHXRHS64OIZ", "not_found"),
        ("did:plc:ewvi7nxzyoun6zhxrhs64oi1", "not_found"),
        ("did:plc:%2E%2E", "not_found"),
        ("did:plc:..", "not_found"),
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

    _with_server(_serve_identities, story)


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
@pytest.mark.parametrize("did", [_PLC, "did:web:example.com"])
def test_a_did_that_is_unknown_or_given_up_has_no_identity(status: int, did: str) -> None:
    """Spec: E-10."""

    async def story(server: Server) -> None:
        async with _resolver(server) as resolve:
            error = await _error(resolve.resolve(Did(did)))
            assert isinstance(error, IdentityError)
            assert error.reason is Reason.IDENTITY_NOT_FOUND
            assert await resolve.audit_log(Did(did)) is None

    _with_server(_answer(status, '{"message": "DID not registered"}'), story)


@pytest.mark.parametrize(
    ("handler", "retry_after_s"),
    [
        (_answer(429, Retry_After="17"), 17.0),
        (_answer(429), None),
        (_answer(503, Retry_After="soon"), None),
        (_answer(503, Retry_After="-5"), None),
        (_answer(500), None),
        (_answer(403), None),
        (_answer(204), None),
        (_answer(302, Location="/elsewhere"), None),
        (_answer(200, "<!doctype html>"), None),
        (_answer(200, '{"id": NaN}'), None),
        (_answer(200, b"\xff"), None),
        (_answer(200, "[" * 100_000), None),
        (_answer(200, b"\x1f\x8b\x08", Content_Encoding="gzip"), None),
    ],
)
def test_a_directory_that_cannot_say_now_is_asked_again_later(
    handler: Handler, retry_after_s: float | None
) -> None:
    """Spec: E-18."""

    async def story(server: Server) -> None:
        async with _resolver(server) as resolve:
            for lookup in (resolve.resolve(_PLC), resolve.audit_log(_PLC)):
                error = await _error(lookup)
                assert isinstance(error, IdentityUnavailableError)
                assert error.retry_after_s == retry_after_s
                assert f"{server.url}/plc/{_PLC}" in str(error)
        assert len(server.paths) == 2

    _with_server(handler, story)


def test_a_did_web_host_that_redirects_has_no_document() -> None:
    """Spec: M-20: nothing an outsider names is followed."""

    async def story(server: Server) -> None:
        async with _resolver(server) as resolve:
            error = await _error(resolve.resolve(Did("did:web:example.com")))
        assert isinstance(error, IdentityError)
        assert error.reason is Reason.IDENTITY_NOT_FOUND
        assert len(server.paths) == 1

    _with_server(_answer(301, Location="/elsewhere"), story)


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

    _with_server(_answer(200, other), story)


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

    _with_server(handler, story)


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

    _with_server(handler, story)


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

    _with_server(_serve_identities, story)


def test_callers_that_ask_for_the_same_share_a_request() -> None:
    async def play() -> None:
        gate = asyncio.Event()

        async def handler(request: web.Request) -> web.StreamResponse:
            await gate.wait()
            return await _serve_identities(request)

        server = Server(handler)
        async with asyncio.timeout(_DEADLINE_S), server.serve(), _resolver(server) as resolve:
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
        async with asyncio.timeout(_DEADLINE_S), server.serve(), _resolver(server) as resolve:
            caller = asyncio.create_task(resolve.resolve(_PLC))
            await server.has_received(1)
            caller.cancel()
            await asyncio.wait([caller])
            await was_dropped.wait()

    asyncio.run(play())


def test_requests_at_once_are_bounded_and_connections_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Spec: E-17."""
    monkeypatch.setattr(resolver, "MAX_PLC_REQUESTS", 3)
    dids = [Did(f"did:plc:{letter * 24}") for letter in "abcdefghijklmnop"]

    async def story(server: Server) -> None:
        async with _resolver(server) as resolve:
            identities = await asyncio.gather(*(resolve.resolve(did) for did in dids))
        assert [identity.did for identity in identities] == dids
        assert server.most_running <= 3
        assert len(server.connections) <= 3

    _with_server(_serve_identities, story)


def test_slow_did_web_hosts_do_not_keep_the_directory_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resolver, "MAX_WEB_REQUESTS", 2)

    async def handler(request: web.Request) -> web.StreamResponse:
        if request.raw_path.startswith("/web/"):
            await asyncio.Event().wait()
        return await _serve_identities(request)

    async def story(server: Server) -> None:
        async with _resolver(server, timeout_s=_DEADLINE_S) as resolve:
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

    _with_server(handler, story)


@pytest.mark.parametrize(
    "url",
    ["", "plc.directory", "ftp://plc.directory", "https://plc.directory/?did=", "http://a b"],
)
def test_a_base_url_that_is_none_is_refused_with_its_remedy(url: str) -> None:
    with pytest.raises(ConfigError, match=r"https://plc\.directory"):
        resolver.Resolver(url)
    with pytest.raises(ConfigError, match=r"https://plc\.directory"):
        resolver.Resolver(did_web_base=url)


def test_a_key_ring_works_through_real_http() -> None:
    """The synchronous side: several calls, one event loop, connections kept between them."""
    broken = Did("did:plc:bbbbbbbbbbbbbbbbbbbbbbbb")

    async def handler(request: web.Request) -> web.StreamResponse:
        if broken in request.raw_path:
            return web.Response(status=500)
        return await _serve_identities(request)

    async def story(server: Server) -> None:
        def use() -> None:
            ring = keyring.KeyRing(resolver.Resolver(server.url + "/plc"))
            try:
                ring.prefetch([_PLC, broken])
                assert ring.current_key(_PLC) == parse_multikey(_KEY)
                with pytest.raises(IdentityUnavailableError):
                    ring.current_key(broken)
                assert ring.refreshed_key(_PLC) is None
                assert ring.key_at(_PLC, 0) == parse_multikey(_KEY)
            finally:
                ring.close()

        await asyncio.to_thread(use)
        assert sorted(server.paths) == sorted(
            [f"/plc/{_PLC}", f"/plc/{broken}", f"/plc/{_PLC}", f"/plc/{_PLC}/log/audit"]
        )
        assert len(server.connections) <= 2

    _with_server(handler, story)
