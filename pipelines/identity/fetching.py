"""Documents over HTTP from hosts that may be slow, overloaded, away or hostile.

    get, stream → turn (rate, pause) → slot (requests at once) → request → redirects → body

A small document is read whole (`get`); one of any size is handed on piece by piece (`stream`).

Bounded are: the requests at once and a second of each host, the requests at once to all together;
the time of a request from its first byte sent to its last byte read; the bytes of a body; the
redirects; of a stream also how slow it may be (`pipelines.identity.streams`). A host that asks for
a pause, or does not answer several times in a row, is left alone for a while
(`pipelines.identity.pace`): look-ups then fail at once instead of waiting.

Connections are kept. Redirects are followed for hosts that an outsider names, each one checked
like the first address (`pipelines.identity.addresses`), never from https to http.

Not checked: what is in the body.
"""

import asyncio
import random
import re
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple, TypeAlias

import aiohttp
from yarl import URL

from pipelines.errors import ConfigError, IdentityUnavailableError
from pipelines.identity.addresses import ForbiddenTargetError, check_url
from pipelines.identity.checked_names import CheckedNames, Lookup
from pipelines.identity.pace import Pace, PaceLimits, parse_retry_after
from pipelines.identity.streams import Sink, StreamLimits, pour

# From first byte sent to last byte read: cuts off a host that answers in a trickle. The directory
# answers in well under a second.
REQUEST_TIMEOUT_S: Final = 10.0
CONNECT_TIMEOUT_S: Final = 5.0
# How often a request is sent in all when a host does not answer, and what lies in between, doubled
# each time and shortened by chance. Longer outages are a matter of whoever wants the document.
ATTEMPTS_COUNT: Final = 3
RETRY_DELAY_S: Final = 0.5
# The longest that a request waits for its turn before it is sent.
MAX_TURN_S: Final = 30.0
# A pause of the host that is longer makes a request fail at once.
MAX_HOLD_S: Final = 2.0
MAX_REDIRECTS: Final = 3
# Hosts whose pace is remembered; the one not asked for longest is forgotten first.
MAX_HOSTS: Final = 2_000
# What is read of the body of an answer that is no document: an error has a name and a sentence.
MAX_ERROR_BYTES: Final = 64 * 1024

_USER_AGENT: Final = "standpipe"
_match_base_url = re.compile(r"(https?://[a-zA-Z0-9.:\[\]-]+(?:/[^\s?#]*?)?)/?").fullmatch
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_ABSENT: Final = frozenset({404, 410})
_OVERLOADED: Final = frozenset({429, 503})


class AbsentError(Exception):
    """The host says that there is no such document."""


class UnusableError(Exception):
    """What is there cannot be the document, and asking again soon changes nothing."""


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """Bounds of a fetcher.

    Attributes:
        host: on one host.
        concurrent_count: requests at once to all hosts together.
        timeout_s: of one request, from its first byte sent to its last byte read.
    """

    host: PaceLimits
    concurrent_count: int
    timeout_s: float = REQUEST_TIMEOUT_S


@dataclass(frozen=True, slots=True)
class Guard:
    """Keeps requests away from hosts that no outsider may send us to.

    Attributes:
        allow_loopback: for development: whether this machine's own addresses may be asked.
        lookup: finds the addresses of a name; None for the system's resolver.
        trusted: hosts that the operator named, as `origin_of` gives them: at any address and port.
    """

    allow_loopback: bool = False
    lookup: Lookup | None = None
    trusted: frozenset[str] = frozenset()


class Answer(NamedTuple):
    """What a host answered, neither a redirect nor that something is wrong with it.

    Attributes:
        url: where it came from in the end.
        status: of HTTP.
        body: the document; empty if it was streamed. Of another status its beginning, up to
            `MAX_ERROR_BYTES`.
    """

    url: URL
    status: int
    body: bytes


_Take: TypeAlias = Callable[[aiohttp.ClientResponse], Awaitable[bytes]]


@dataclass(slots=True)
class _Host:
    """What is kept of one host."""

    pace: Pace
    slots: asyncio.Semaphore


@dataclass(slots=True)
class FetchCounts:
    """What was asked since the start, for whoever watches.

    Attributes:
        requests_count: requests sent, each redirect and each repetition counted.
        failures_count: those without a usable answer.
        overloaded_count: those that were answered with a wish for a pause.
        held_count: look-ups that failed at once because the host is left alone.
    """

    requests_count: int = 0
    failures_count: int = 0
    overloaded_count: int = 0
    held_count: int = 0


class _NoAnswerError(Exception):
    """A host did not answer, or said that something is wrong with it: worth another attempt."""


class Fetcher:
    """Gets documents. Belongs to the event loop in which it is first used, until `close`.

    Attributes:
        counts: what was asked.
    """

    def __init__(
        self, limits: FetchLimits, guard: Guard | None = None, *, takes_gzip: bool = False
    ) -> None:
        """Takes the settings; nothing is connected yet.

        Args:
            limits: bounds.
            guard: for hosts that outsiders name. None for a host that the operator named: any
                address and port is right then, and no redirect is followed.
            takes_gzip: whether answers may be compressed, which only pays for large ones. The
                limit of a body counts what comes out; inflating goes in steps that are bounded.
        """
        self.counts = FetchCounts()
        self._limits = limits
        self._guard = guard
        self._takes_gzip = takes_gzip
        self._session: aiohttp.ClientSession | None = None
        self._slots = asyncio.Semaphore(limits.concurrent_count)
        self._hosts: OrderedDict[str, _Host] = OrderedDict()

    async def get(self, url: str, limit_bytes: int, *, past_caches: bool = False) -> bytes:
        """Gets a document.

        Args:
            url: where it is.
            limit_bytes: its largest size.
            past_caches: ask caches on the way to ask the host itself.

        Raises:
            AbsentError: there is none (status 404 or 410).
            UnusableError: it is too large, or the way to it leads where it must not.
            IdentityUnavailableError: nobody could say now.
        """
        headers = {"Cache-Control": "no-cache"} if past_caches else {}
        timeout = aiohttp.ClientTimeout(
            total=self._limits.timeout_s, sock_connect=CONNECT_TIMEOUT_S
        )
        request = _Request(headers, timeout, partial(_read, limit_bytes=limit_bytes))
        delay_s = RETRY_DELAY_S
        for attempts_left in reversed(range(ATTEMPTS_COUNT)):
            try:
                return _document(await self._follow(URL(url, encoded=True), request))
            except _NoAnswerError as error:
                if not attempts_left:
                    raise IdentityUnavailableError(f"cannot fetch {url}: {error}") from error
            except ForbiddenTargetError as error:
                raise UnusableError(f"{url} leads astray: {error}") from error
            await asyncio.sleep(delay_s * (1 - _chance() / 2))
            delay_s *= 2
        raise AssertionError("the last attempt returns or raises")

    async def stream(self, url: str, sink: Sink, limits: StreamLimits) -> Answer:
        """Hands a document of any size on, piece by piece. It is asked for once.

        Args:
            url: where it is.
            sink: takes the pieces of a document (status 200), in order. While it is at one, no
                more is read: the host is pushed back.
            limits: its largest size, the longest time, the lowest speed.

        Returns:
            The answer; what the host says if it has no document to give.

        Raises:
            UnusableError: it is too large, or the way to it leads where it must not.
            IdentityUnavailableError: the host is away, overloaded or too slow.
        """
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=limits.window_s
        )
        request = _Request({}, timeout, partial(_pour_or_read, sink=sink, limits=limits))
        try:
            return await self._follow(URL(url, encoded=True), request)
        except _NoAnswerError as error:
            raise IdentityUnavailableError(f"cannot fetch {url}: {error}") from error
        except ForbiddenTargetError as error:
            raise UnusableError(f"{url} leads astray: {error}") from error

    async def close(self) -> None:
        """Closes the connections. Requests that are under way fail as unavailable.

        What is known of hosts is forgotten: their slots belong to the event loop.
        """
        if self._session is not None:
            await self._session.close()
            self._session = None
        self._hosts.clear()
        self._slots = asyncio.Semaphore(self._limits.concurrent_count)

    async def _follow(self, url: URL, request: "_Request") -> Answer:
        """Returns the answer of where a document is, or of where that leads."""
        for _ in range(1 + MAX_REDIRECTS):
            if self._guard is not None and origin_of(url) not in self._guard.trusted:
                check_url(url, allow_loopback=self._guard.allow_loopback)
            found = await self._request(url, request)
            if isinstance(found, Answer):
                return found
            if url.scheme == "https" and found.scheme != "https":
                raise ForbiddenTargetError(f"{found} is not encrypted, and {url} was")
            url = found
        raise ForbiddenTargetError(f"more than {MAX_REDIRECTS} redirects")

    async def _request(self, url: URL, request: "_Request") -> Answer | URL:
        """Sends one request; returns the answer, or the address that it was redirected to."""
        pace = self._host(url).pace
        async with self._turn(url):
            sent_s = time.monotonic()
            self.counts.requests_count += 1
            try:
                async with self._open_session().get(
                    url, headers=request.headers, allow_redirects=False, timeout=request.timeout
                ) as response:
                    return await self._take(url, response, request.take, sent_s)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                pace.failed(sent_s, time.monotonic(), _chance())
                self.counts.failures_count += 1
                within_s = request.timeout.total or request.timeout.sock_read
                cause = str(error) or f"no answer within {within_s:g} s"
                raise _NoAnswerError(cause) from error

    async def _take(
        self, url: URL, response: aiohttp.ClientResponse, take: _Take, sent_s: float
    ) -> Answer | URL:
        """Takes an answer in, and notes in the host's pace what it means."""
        pace = self._host(url).pace
        status = response.status
        if status in _OVERLOADED:
            retry_after_s = parse_retry_after(response.headers.get("Retry-After"), time.time())
            pace.overloaded(sent_s, time.monotonic(), retry_after_s, _chance())
            self.counts.overloaded_count += 1
            raise IdentityUnavailableError(
                f"{url} answered with status {status}", retry_after_s=retry_after_s
            )
        if status >= 500:
            pace.failed(sent_s, time.monotonic(), _chance())
            self.counts.failures_count += 1
            raise _NoAnswerError(f"{url} answered with status {status}")
        if status in _REDIRECTS and self._guard is not None:
            pace.answered(sent_s)
            return _location(url, response)
        try:
            answer = Answer(url, status, await take(response))
        except UnusableError:
            pace.answered(sent_s)
            raise
        pace.answered(sent_s)
        return answer

    @asynccontextmanager
    async def _turn(self, url: URL) -> AsyncIterator[None]:
        """Waits until the host may be asked, and keeps a slot of it meanwhile.

        Raises:
            IdentityUnavailableError: that would take too long.
        """
        host = self._host(url)
        self._check_hold(url, host.pace.held_s(time.monotonic()))
        wait_s = host.pace.bucket.reserve(time.monotonic(), MAX_TURN_S)
        if wait_s is None:
            self.counts.held_count += 1
            raise IdentityUnavailableError(
                f"{url.host} has as many requests waiting as it may be asked in {MAX_TURN_S:g} s"
            )
        await asyncio.sleep(wait_s)
        async with host.slots, self._slots:
            while held_s := host.pace.admit(time.monotonic(), self._limits.timeout_s):
                self._check_hold(url, held_s)
                await asyncio.sleep(held_s)
            yield

    def _check_hold(self, url: URL, held_s: float) -> None:
        if held_s > MAX_HOLD_S:
            self.counts.held_count += 1
            raise IdentityUnavailableError(
                f"{url.host} is away or overloaded and left alone for {held_s:.0f} s",
                retry_after_s=held_s,
            )

    def _host(self, url: URL) -> _Host:
        name = origin_of(url)
        host = self._hosts.get(name)
        if host is None:
            limits = self._limits.host
            host = _Host(Pace(limits), asyncio.Semaphore(limits.concurrent_count))
            self._hosts[name] = host
            if len(self._hosts) > MAX_HOSTS:
                self._hosts.popitem(last=False)
        self._hosts.move_to_end(name)
        return host

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=0,  # the slots are the bound
                    resolver=None if self._guard is None else self._names(self._guard),
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                # Nothing small is worth a decompressor that a hostile host can feed.
                auto_decompress=self._takes_gzip,
                headers={
                    "User-Agent": _USER_AGENT,
                    "Accept-Encoding": "gzip" if self._takes_gzip else "identity",
                },
            )
        return self._session

    @staticmethod
    def _names(guard: Guard) -> CheckedNames:
        return CheckedNames(
            guard.lookup, allow_loopback=guard.allow_loopback, trusted=guard.trusted
        )


class _Request(NamedTuple):
    """What is the same for a request and those that it is redirected to."""

    headers: Mapping[str, str]
    timeout: aiohttp.ClientTimeout
    take: _Take


def origin_of(url: URL) -> str:
    """Returns the host and port that a URL leads to, as `host:port`."""
    return f"{url.host}:{url.port}"


def host_name(url: str) -> str:
    """Returns the host that a URL leads to, with its port where that is not the scheme's own."""
    parsed = URL(url)
    assert parsed.host_port_subcomponent is not None
    return parsed.host_port_subcomponent


def parse_base_url(what: str, url: str, example: str = "https://plc.directory") -> str:
    """Checks the URL of a host that the operator names.

    Args:
        what: what the URL is, for the error.
        url: `http(s)://host[:port][/path]`.
        example: one that is right, for the error.

    Returns:
        The URL without a slash at its end.

    Raises:
        ConfigError: it is of another form.
    """
    match = _match_base_url(url)
    if match is None:
        raise ConfigError(
            f"{what} {url!r} is not of the form http(s)://host[:port][/path]: "
            f"give one like {example}"
        )
    return match[1]


def _document(answer: Answer) -> bytes:
    """Returns the document in an answer; raises as `Fetcher.get` if there is none."""
    url, status, body = answer
    if status == 200:
        return body
    if status in _ABSENT:
        raise AbsentError(f"{url} does not exist (status {status})")
    raise IdentityUnavailableError(f"{url} answered with status {status}")


async def _read(response: aiohttp.ClientResponse, *, limit_bytes: int) -> bytes:
    """Reads a document; of an answer that is none, nothing."""
    body = bytearray()
    if response.status == 200:
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > limit_bytes:
                raise UnusableError(f"{response.url} is larger than {limit_bytes} bytes")
    return bytes(body)


async def _pour_or_read(
    response: aiohttp.ClientResponse, *, sink: Sink, limits: StreamLimits
) -> bytes:
    """Hands a document on; of an answer that is none, reads the beginning."""
    if response.status != 200:
        async with asyncio.timeout(limits.window_s):
            return await response.content.read(MAX_ERROR_BYTES)
    if not await pour(response.content, sink, limits):
        raise UnusableError(f"{response.url} is larger than {limits.total_bytes} bytes")
    return b""


def _location(url: URL, response: aiohttp.ClientResponse) -> URL:
    try:
        return url.join(URL(response.headers["Location"]))
    except (KeyError, ValueError) as error:
        raise ForbiddenTargetError(f"{url} redirects to no address: {error}") from None


def _chance() -> float:
    return random.random()  # noqa: S311 - spreads requests, guards no secret
