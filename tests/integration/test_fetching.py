"""Fetching small documents from slow, overloaded, absent and hostile hosts (spec: M-20, M-21)."""

import asyncio
import itertools
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import NoReturn

import pytest
from aiohttp import web
from support.web import DEADLINE_S, Server, answer, with_server
from yarl import URL

from pipelines.errors import IdentityUnavailableError
from pipelines.identity import fetching, pace
from pipelines.identity.fetching import (
    AbsentError,
    Fetcher,
    FetchLimits,
    Guard,
    UnusableError,
)
from pipelines.identity.pace import PaceLimits
from pipelines.identity.streams import PIECE_BYTES, StreamLimits

LIMIT_BYTES = 10_000
QUICK = PaceLimits(concurrent_count=3, per_s=1_000, burst_count=1_000)
# What stands for the public network is this machine; what must not be asked is everything else.
PRIVATE = "10.1.2.3"


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "RETRY_DELAY_S", 0.01)
    monkeypatch.setattr(pace, "MIN_PAUSE_S", 0.05)


@asynccontextmanager
async def fetcher(
    *, guard: Guard | None = None, host: PaceLimits = QUICK, timeout_s: float = DEADLINE_S
) -> AsyncIterator[Fetcher]:
    made = Fetcher(FetchLimits(host, 100, timeout_s), guard)
    try:
        yield made
    finally:
        await made.close()


def names(**addresses: str) -> Callable[[str, int], Mapping[str, int]]:
    """Returns a look-up of names that knows a few; `_` stands for the dot of a name."""
    known = {name.replace("_", "."): address for name, address in addresses.items()}

    def look_up(host: str, _port: int) -> Mapping[str, int]:
        if host not in known:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return {known[host]: socket.AF_INET}

    return look_up


def in_turn(*answers: web.Response) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Gives one answer after the other, the last one again and again."""
    left = itertools.chain(answers, itertools.repeat(answers[-1]))

    async def handler(_request: web.Request) -> web.Response:
        given = next(left)
        return web.Response(status=given.status, body=given.body, headers=given.headers)

    return handler


async def unavailable(lookup: Awaitable[object]) -> IdentityUnavailableError:
    with pytest.raises(IdentityUnavailableError) as refusal:
        await lookup
    return refusal.value


def test_requests_at_once_are_bounded_and_connections_are_kept() -> None:
    """Spec: E-17."""

    async def story(server: Server) -> None:
        async with fetcher() as fetch:
            urls = [f"{server.url}/{number}" for number in range(40)]
            bodies = await asyncio.gather(*(fetch.get(url, LIMIT_BYTES) for url in urls))
        assert bodies == [b"here"] * 40
        assert 0 < server.most_running <= QUICK.concurrent_count
        assert len(server.connections) <= QUICK.concurrent_count
        assert fetch.counts.requests_count == len(server.paths) == 40

    async def handler(_request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0)
        return web.Response(body=b"here")

    with_server(handler, story)


def test_a_host_that_fails_once_or_twice_is_asked_again() -> None:
    async def story(server: Server) -> None:
        async with fetcher() as fetch:
            assert await fetch.get(server.url, LIMIT_BYTES) == b"here"
        assert len(server.paths) == 3
        assert fetch.counts.failures_count == 2

    with_server(
        in_turn(web.Response(status=500), web.Response(status=502), web.Response(body=b"here")),
        story,
    )


@pytest.mark.parametrize("status", [400, 401, 403, 204, 206, 302])
def test_an_answer_that_a_repetition_does_not_change_is_asked_for_once(status: int) -> None:
    async def story(server: Server) -> None:
        async with fetcher() as fetch:
            error = await unavailable(fetch.get(server.url, LIMIT_BYTES))
        assert f"status {status}" in str(error)
        assert len(server.paths) == 1

    with_server(answer(status, Location="/elsewhere"), story)


@pytest.mark.parametrize("status", [404, 410])
def test_that_there_is_no_document_is_an_answer(status: int) -> None:
    async def story(server: Server) -> None:
        async with fetcher() as fetch:
            with pytest.raises(AbsentError):
                await fetch.get(server.url, LIMIT_BYTES)
        assert len(server.paths) == 1

    with_server(answer(status), story)


@pytest.mark.parametrize("status", [429, 503])
def test_a_host_that_wants_a_pause_is_not_asked_meanwhile(status: int) -> None:
    """A storm of 429: one request learns of it, the others fail at once with what is left."""

    async def story(server: Server) -> None:
        async with fetcher() as fetch:
            error = await unavailable(fetch.get(server.url, LIMIT_BYTES))
            assert error.retry_after_s == 120
            for _ in range(100):
                error = await unavailable(fetch.get(server.url, LIMIT_BYTES))
                assert error.retry_after_s is not None
                assert 100 < error.retry_after_s <= 121
        assert len(server.paths) == 1
        assert (fetch.counts.overloaded_count, fetch.counts.held_count) == (1, 100)

    with_server(answer(status, Retry_After="120"), story)


def test_a_short_pause_is_waited_for() -> None:
    async def story(server: Server) -> None:
        async with fetcher() as fetch:
            await unavailable(fetch.get(server.url, LIMIT_BYTES))
            assert await fetch.get(server.url, LIMIT_BYTES) == b"here"
        assert len(server.paths) == 2

    busy = web.Response(status=429, headers={"Retry-After": "0"})
    with_server(in_turn(busy, web.Response(body=b"here")), story)


def test_the_pause_of_one_host_is_not_that_of_another() -> None:
    async def story(server: Server) -> None:
        other = Server(answer(200, "other"))
        async with other.serve(), fetcher() as fetch:
            await unavailable(fetch.get(server.url, LIMIT_BYTES))
            assert await fetch.get(other.url, LIMIT_BYTES) == b"other"

    with_server(answer(429, Retry_After="120"), story)


def test_an_outage_costs_a_few_requests_and_its_end_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    is_down = True

    async def handler(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=502) if is_down else web.Response(body=b"here")

    async def story(server: Server) -> None:
        nonlocal is_down
        monkeypatch.setattr(fetching, "MAX_HOLD_S", 0)
        monkeypatch.setattr(pace, "MIN_PAUSE_S", DEADLINE_S)
        async with fetcher() as fetch:
            lookups = [fetch.get(f"{server.url}/{n}", LIMIT_BYTES) for n in range(200)]
            for outcome in await asyncio.gather(*lookups, return_exceptions=True):
                assert isinstance(outcome, IdentityUnavailableError)
            bound = pace.SUSPECT_FAILURES_COUNT + QUICK.concurrent_count
            assert pace.SUSPECT_FAILURES_COUNT <= len(server.paths) <= bound
            is_down = False
            fetch._host(URL(server.url)).pace._held_until_s = 0  # the pause is over
            lookups = [fetch.get(f"{server.url}/{n}", LIMIT_BYTES) for n in range(20)]
            outcomes = await asyncio.gather(*lookups, return_exceptions=True)
            assert outcomes.count(b"here") == 1  # the one that found out
            assert (
                await asyncio.gather(
                    *(fetch.get(f"{server.url}/{n}", LIMIT_BYTES) for n in range(20))
                )
                == [b"here"] * 20
            )

    with_server(handler, story)


def test_more_requests_than_a_host_may_be_asked_for_soon_are_turned_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fetching, "MAX_TURN_S", 1.0)

    async def story(server: Server) -> None:
        slow = PaceLimits(concurrent_count=100, per_s=0.01, burst_count=4)
        async with fetcher(host=slow) as fetch:
            lookups = [fetch.get(f"{server.url}/{n}", LIMIT_BYTES) for n in range(10)]
            outcomes = await asyncio.gather(*lookups, return_exceptions=True)
        assert outcomes[:4] == [b"here"] * 4
        assert all(isinstance(outcome, IdentityUnavailableError) for outcome in outcomes[4:])
        assert len(server.paths) == 4

    with_server(answer(200, "here"), story)


def test_a_document_of_50_megabytes_is_not_read_to_its_end() -> None:
    """Spec: M-21."""
    size = 50_000_000
    written = 0

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal written
        response = web.StreamResponse(headers={"Content-Length": str(size)})
        await response.prepare(request)
        while written < size:
            await response.write(bytes(100_000))
            written += 100_000
        return response

    async def story(server: Server) -> None:
        async with fetcher() as fetch:
            with pytest.raises(UnusableError, match="larger than 10000 bytes"):
                await fetch.get(server.url, LIMIT_BYTES)
        assert len(server.paths) == 1
        assert written < size

    with_server(handler, story)


def test_a_trickle_is_cut_off_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spec: M-07."""
    monkeypatch.setattr(fetching, "ATTEMPTS_COUNT", 1)

    async def handler(request: web.Request) -> NoReturn:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" ")
            await asyncio.sleep(0.02)

    async def story(server: Server) -> None:
        async with fetcher(timeout_s=0.2) as fetch:
            assert "0.2 s" in str(await unavailable(fetch.get(server.url, LIMIT_BYTES)))

    with_server(handler, story)


class Taker:
    """Takes the pieces of a stream."""

    def __init__(self) -> None:
        self.taken = bytearray()
        self.pieces_count = 0

    async def __call__(self, piece: bytes) -> None:
        self.taken += piece
        self.pieces_count += 1


class TestStream:
    """Documents of any size, handed on while they arrive (spec: M-07)."""

    LIMITS = StreamLimits(total_bytes=10 * PIECE_BYTES, total_s=DEADLINE_S)

    def test_a_large_document_comes_in_pieces(self) -> None:
        document = bytes(range(256)) * (3 * PIECE_BYTES // 256) + b"end"

        async def story(server: Server) -> None:
            taker = Taker()
            async with fetcher() as fetch:
                found = await fetch.stream(server.url, taker, self.LIMITS)
            assert (found.status, found.body) == (200, b"")
            assert taker.taken == document
            assert 1 < taker.pieces_count <= 4
            assert fetch.counts.requests_count == 1

        with_server(answer(200, document), story)

    def test_an_error_is_an_answer_with_its_text(self) -> None:
        """Spec: I-08."""

        async def story(server: Server) -> None:
            taker = Taker()
            async with fetcher() as fetch:
                found = await fetch.stream(server.url, taker, self.LIMITS)
            assert (found.status, found.body) == (400, b'{"error":"RepoNotFound"}')
            assert taker.pieces_count == 0

        with_server(answer(400, '{"error":"RepoNotFound"}'), story)

    def test_one_that_is_too_large_is_cut_off(self) -> None:
        async def story(server: Server) -> None:
            async with fetcher() as fetch:
                with pytest.raises(UnusableError, match="larger than 1000 bytes"):
                    await fetch.stream(
                        server.url, Taker(), StreamLimits(total_bytes=1_000, total_s=DEADLINE_S)
                    )

        with_server(answer(200, bytes(1_001)), story)

    def test_a_trickle_is_cut_off_by_its_speed(self) -> None:
        async def handler(request: web.Request) -> NoReturn:
            response = web.StreamResponse()
            await response.prepare(request)
            while True:
                await response.write(b" ")
                await asyncio.sleep(0.01)

        async def story(server: Server) -> None:
            slow = StreamLimits(
                total_bytes=1_000_000, total_s=DEADLINE_S, window_s=0.2, window_bytes=500_000
            )
            async with fetcher() as fetch:
                error = await unavailable(fetch.stream(server.url, Taker(), slow))
            assert "bytes in" in str(error)
            assert fetch.counts.failures_count == 1

        with_server(handler, story)

    def test_a_document_that_breaks_off_is_not_asked_for_again(self) -> None:
        """What was handed on cannot be taken back: whoever wants it begins anew."""

        async def handler(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse(headers={"Content-Length": "1000000"})
            await response.prepare(request)
            await response.write(bytes(1_000))
            assert request.transport is not None
            request.transport.close()
            return response

        async def story(server: Server) -> None:
            async with fetcher() as fetch:
                await unavailable(fetch.stream(server.url, Taker(), self.LIMITS))
            assert len(server.paths) == 1

        with_server(handler, story)

    def test_what_the_taker_raises_is_no_failure_of_the_host(self) -> None:
        class FullError(Exception):
            """Of the taker."""

        async def full(_piece: bytes) -> None:
            raise FullError

        async def story(server: Server) -> None:
            async with fetcher() as fetch:
                with pytest.raises(FullError):
                    await fetch.stream(server.url, full, self.LIMITS)
                assert fetch.counts.failures_count == 0

        with_server(answer(200, "here"), story)

    def test_a_host_that_wants_a_pause_is_not_asked_meanwhile(self) -> None:
        async def story(server: Server) -> None:
            async with fetcher() as fetch:
                for _ in range(5):
                    error = await unavailable(fetch.stream(server.url, Taker(), self.LIMITS))
                    assert error.retry_after_s is not None
            assert len(server.paths) == 1

        with_server(answer(429, Retry_After="120"), story)


class TestGuard:
    """What an outsider may send us to (spec: M-20)."""

    def test_redirects_are_followed_and_each_is_looked_up_and_checked(self) -> None:
        looked_up: list[str] = []

        def look_up(host: str, _port: int) -> Mapping[str, int]:
            looked_up.append(host)
            return {"127.0.0.1": socket.AF_INET}

        async def handler(request: web.Request) -> web.StreamResponse:
            hop = int(request.path.strip("/"))
            if hop == fetching.MAX_REDIRECTS:
                return web.Response(body=b"here")
            target = f"http://host{hop + 1}.example:{server_port}/{hop + 1}"
            return web.Response(status=301 + hop, headers={"Location": target})

        server_port = 0

        async def story(server: Server) -> None:
            nonlocal server_port
            server_port = server.port
            async with fetcher(guard=Guard(allow_loopback=True, lookup=look_up)) as fetch:
                body = await fetch.get(f"http://host0.example:{server.port}/0", LIMIT_BYTES)
            assert body == b"here"
            assert looked_up == [f"host{n}.example" for n in range(1 + fetching.MAX_REDIRECTS)]

        with_server(handler, story)

    def test_a_relative_redirect_stays_at_its_host(self) -> None:
        async def story(server: Server) -> None:
            async with fetcher(guard=Guard(allow_loopback=True)) as fetch:
                assert await fetch.get(f"{server.url}/a/b", LIMIT_BYTES) == b"here"
            assert server.paths == ["/a/b", "/a/c"]

        moved = web.Response(status=308, headers={"Location": "c"})
        with_server(in_turn(moved, web.Response(body=b"here")), story)

    def test_endless_redirects_end(self) -> None:
        async def story(server: Server) -> None:
            async with fetcher(guard=Guard(allow_loopback=True)) as fetch:
                with pytest.raises(UnusableError, match="more than 3 redirects"):
                    await fetch.get(server.url, LIMIT_BYTES)
            assert len(server.paths) == 1 + fetching.MAX_REDIRECTS

        with_server(answer(302, Location="/"), story)

    @pytest.mark.parametrize(
        "target",
        [
            f"http://{PRIVATE}/",
            "http://[fd00::1]/",
            "http://[::ffff:10.0.0.1]/",
            "http://inside.example/",
            "http://user:password@public.example/",
            "ftp://public.example/",
            "file:///etc/passwd",
            "http://public.example:99999/",
            f"http://public.example/{'a' * 3_000}",
        ],
    )
    def test_a_redirect_that_leads_astray_is_not_followed(self, target: str) -> None:
        """The switch for development opens this machine, and nothing else."""

        async def story(server: Server) -> None:
            guard = Guard(
                allow_loopback=True,
                lookup=names(public_example="127.0.0.1", inside_example=PRIVATE),
            )
            async with fetcher(guard=guard) as fetch:
                with pytest.raises(UnusableError):
                    await fetch.get(f"http://public.example:{server.port}/", LIMIT_BYTES)
            assert server.paths == ["/"]

        with_server(answer(302, Location=target), story)

    def test_a_redirect_without_a_target_is_no_document(self) -> None:
        async def story(server: Server) -> None:
            async with fetcher(guard=Guard(allow_loopback=True)) as fetch:
                with pytest.raises(UnusableError):
                    await fetch.get(server.url, LIMIT_BYTES)

        with_server(answer(301), story)

    @pytest.mark.parametrize(
        "url",
        [
            "http://127.0.0.1:{port}/",
            "http://[::1]:{port}/",
            "http://2130706433:{port}/",
            "http://here.example:{port}/",
            "http://here.example/",
            "http://127.0.0.1/",
        ],
    )
    def test_without_the_switch_this_machine_is_never_asked(self, url: str) -> None:
        async def story(server: Server) -> None:
            guard = Guard(lookup=names(here_example="127.0.0.1"))
            async with fetcher(guard=guard) as fetch:
                with pytest.raises(UnusableError):
                    await fetch.get(url.format(port=server.port), LIMIT_BYTES)
            assert server.paths == []

        with_server(answer(200), story)

    def test_a_host_that_the_operator_named_is_asked_wherever_it_is(self) -> None:
        """And nothing that it redirects to is trusted for it."""

        async def story(server: Server) -> None:
            trusted = frozenset({f"relay.internal:{server.port}"})
            guard = Guard(
                trusted=trusted,
                lookup=names(relay_internal="127.0.0.1", pds_example="127.0.0.1"),
            )
            async with fetcher(guard=guard) as fetch:
                url = f"http://relay.internal:{server.port}/"
                assert await fetch.get(url, LIMIT_BYTES) == b"here"
                with pytest.raises(UnusableError):
                    await fetch.get(url, LIMIT_BYTES)
            assert server.paths == ["/", "/"]

        moved = web.Response(status=302, headers={"Location": "http://pds.example/"})
        with_server(in_turn(web.Response(body=b"here"), moved), story)

    def test_encryption_is_not_given_up_by_a_redirect(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def redirect(_self: Fetcher, url: URL, *_: object) -> URL:
            asked.append(url)
            return URL("http://public.example/")

        asked: list[URL] = []
        monkeypatch.setattr(Fetcher, "_request", redirect)

        async def play() -> None:
            async with fetcher(guard=Guard()) as fetch:
                with pytest.raises(UnusableError, match="not encrypted"):
                    await fetch.get("https://public.example/", LIMIT_BYTES)

        asyncio.run(play())
        assert asked == [URL("https://public.example/")]

    def test_the_connection_goes_to_the_address_that_was_checked(self) -> None:
        """A name that answers differently the second time gains nothing by it."""
        answers = iter(["127.0.0.1", PRIVATE, PRIVATE, PRIVATE])
        looked_up: list[str] = []

        def look_up(_host: str, _port: int) -> Mapping[str, int]:
            looked_up.append(next(answers))
            return {looked_up[-1]: socket.AF_INET}

        async def story(server: Server) -> None:
            guard = Guard(allow_loopback=True, lookup=look_up)
            async with fetcher(guard=guard) as fetch:
                url = f"http://rebinding.example:{server.port}/"
                assert await fetch.get(url, LIMIT_BYTES) == b"here"
            assert looked_up == ["127.0.0.1"]
            async with fetcher(guard=guard) as fetch:
                with pytest.raises(UnusableError, match="no address on the public network"):
                    await fetch.get(url, LIMIT_BYTES)
            assert len(server.paths) == 1

        with_server(answer(200, "here"), story)

    def test_a_name_that_is_not_known_now_may_be_known_later(self) -> None:
        async def story(_server: Server) -> None:
            async with fetcher(guard=Guard(lookup=names())) as fetch:
                await unavailable(fetch.get("https://gone.example/", LIMIT_BYTES))

        with_server(answer(200), story)

    def test_a_name_that_no_host_can_have_is_unusable(self) -> None:
        async def story(_server: Server) -> None:
            async with fetcher(guard=Guard()) as fetch:
                with pytest.raises(UnusableError, match="not a name of a host"):
                    await fetch.get(f"https://{'a' * 64}.example/", LIMIT_BYTES)

        with_server(answer(200), story)
