"""Resolves DIDs over HTTP: did:plc through a PLC directory, did:web through its own host.

Implements "DID Resolution" of https://web.plc.directory/spec/v0.1/did-plc and "did:web in AT
Protocol" of https://atproto.com/specs/did. Three outcomes are kept apart:

    an identity                 the document, or the audit log, was served and could be read
    IdentityError               the DID has none, and asking again soon changes nothing
    IdentityUnavailableError    nobody could say now: the host is away, overloaded or confused

Every request is bounded in time, in bytes and in number at once; redirects are not followed; two
callers that ask for the same thing at the same time share one request.

Not checked: whether a did:web host's address is public. Until it is, an outsider who owns a name
can make this process send a GET for `/.well-known/did.json` to an address in its network.
"""

import asyncio
import re
from dataclasses import dataclass
from typing import Final

import aiohttp
import orjson

from pipelines.atproto.errors import IdentifierError, IdentityError, Reason
from pipelines.atproto.syntax import Did, parse_handle
from pipelines.errors import ConfigError, IdentityUnavailableError
from pipelines.identity.documents import Identity, parse_document
from pipelines.identity.plc import KeyHistory, verify_audit_log

DEFAULT_PLC_URL: Final = "https://plc.directory"

# From first byte sent to last byte read: cuts off a host that answers in a trickle. The directory
# answers in well under a second.
REQUEST_TIMEOUT_S: Final = 10.0
# A document has a handful of keys and services; the directory bounds an operation to 4 kB.
MAX_DOCUMENT_BYTES: Final = 256 * 1024
# The directory accepts 100 operations a week of one DID, so a log may grow for years.
MAX_AUDIT_LOG_BYTES: Final = 8 * 1024 * 1024
# At once, to the directory and to all did:web hosts together. Apart, so that slow hosts of a few
# accounts do not keep everybody else's look-ups waiting.
MAX_PLC_REQUESTS: Final = 32
MAX_WEB_REQUESTS: Final = 32

# Names that only mean something on a machine or a network of one's own (spec: E-08, E-09).
_RESERVED_TLDS: Final = frozenset(
    {
        "alt",
        "arpa",
        "example",
        "internal",
        "invalid",
        "local",
        "localhost",
        "onion",
        "test",
    }
)

_USER_AGENT: Final = "standpipe"

_match_base_url = re.compile(r"(https?://[a-zA-Z0-9.:\[\]-]+(?:/[^\s?#]*?)?)/?").fullmatch
# The only form the directory makes: the start of a hash. What else follows is never sent to it.
_match_plc = re.compile("did:plc:[a-z2-7]{24}").fullmatch
_match_localhost = re.compile("localhost(?:%3A([0-9]{1,5}))?").fullmatch
_match_seconds = re.compile("[0-9]{1,6}").fullmatch


@dataclass(slots=True)
class _Flight:
    """A request that is under way, and how many callers wait for it."""

    task: asyncio.Task[object]
    waiter_count: int = 0


class Resolver:
    """Asks directories and hosts for DID documents. Keeps connections, but no answers.

    Belongs to the event loop in which it is first used. `close` ends it.
    """

    def __init__(
        self,
        plc_url: str = DEFAULT_PLC_URL,
        *,
        did_web_base: str | None = None,
        allow_localhost: bool = False,
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> None:
        """Takes the settings; nothing is connected yet.

        Args:
            plc_url: base URL of the PLC directory.
            did_web_base: for simulated networks: a URL under which every did:web document is
                found, as `{did_web_base}/<host>/.well-known/did.json`; None asks the host itself.
            allow_localhost: for development: whether `did:web:localhost[%3A<port>]` is looked up,
                over plain HTTP. Elsewhere it would lead outsiders to services on this machine.
            timeout_s: bound on each request, in seconds.

        Raises:
            ConfigError: an URL is not of the form http(s)://host[:port][/path].
        """
        self._plc_url = _base_url("the PLC directory's URL", plc_url)
        self._did_web_base = (
            None if did_web_base is None else _base_url("the did:web base URL", did_web_base)
        )
        self._allow_localhost = allow_localhost
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None
        self._plc_slots = asyncio.Semaphore(MAX_PLC_REQUESTS)
        self._web_slots = asyncio.Semaphore(MAX_WEB_REQUESTS)
        self._flights: dict[str, _Flight] = {}

    async def resolve(self, did: Did) -> Identity:
        """Fetches a DID's document.

        Args:
            did: the account.

        Returns:
            What its document says; the signing key may be None.

        Raises:
            IdentityError: there is no such DID, or no longer (`IDENTITY_NOT_FOUND`), its method or
                form is not one the network uses (`IDENTITY_UNSUPPORTED_METHOD`), or what was
                served is not its document (`IDENTITY_DOCUMENT`).
            IdentityUnavailableError: it cannot be known now.
        """
        if did.startswith("did:plc:"):
            url, slots = f"{self._plc_url}/{_checked_plc(did)}", self._plc_slots
        else:
            url, slots = self._did_web_url(did), self._web_slots
        return parse_document(did, await self._get(did, url, MAX_DOCUMENT_BYTES, slots))

    async def audit_log(self, did: Did) -> KeyHistory | None:
        """Fetches the history of a DID's signing keys.

        Args:
            did: the account.

        Returns:
            Its history, or None where there is none: for did:web, and from a directory that
            does not have one for this DID.

        Raises:
            IdentityError: the log is malformed or too large (`IDENTITY_LOG`).
            IdentityUnavailableError: it cannot be known now.
        """
        if not _match_plc(did):
            return None
        url = f"{self._plc_url}/{did}/log/audit"
        try:
            log = await self._get(did, url, MAX_AUDIT_LOG_BYTES, self._plc_slots)
        except IdentityError as error:
            if error.reason is Reason.IDENTITY_NOT_FOUND:
                return None
            raise IdentityError(Reason.IDENTITY_LOG, error.detail, did=did) from None
        return verify_audit_log(did, log)

    async def close(self) -> None:
        """Closes the connections. Requests that are under way fail as unavailable."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _did_web_url(self, did: Did) -> str:
        method, _, name = did.removeprefix("did:").partition(":")
        if method != "web":
            raise _unsupported(did, f"the network does not use DIDs of method {method}")
        is_localhost = _match_localhost(name) is not None
        host = name.replace("%3A", ":") if is_localhost else name
        if not is_localhost:
            try:
                parse_handle(host)  # a domain name has the same syntax
            except IdentifierError:
                raise _unsupported(did, "a did:web holds a host name and nothing else") from None
        if self._did_web_base is not None:
            return f"{self._did_web_base}/{host}/.well-known/did.json"
        if is_localhost and self._allow_localhost:
            return f"http://{host}/.well-known/did.json"
        if is_localhost or host.rpartition(".")[2].lower() in _RESERVED_TLDS:
            raise _unsupported(did, "its host is not a name on the public network")
        return f"https://{host}/.well-known/did.json"

    async def _get(self, did: Did, url: str, limit_bytes: int, slots: asyncio.Semaphore) -> object:
        """Returns the decoded JSON at a URL, through the request that is under way if any."""
        flight = self._flights.get(url)
        if flight is None:
            task = asyncio.create_task(self._fetch(did, url, limit_bytes, slots))
            flight = self._flights[url] = _Flight(task)
        flight.waiter_count += 1
        try:
            # Shielded: a caller that gives up must not take the answer from the others.
            return await asyncio.shield(flight.task)
        finally:
            flight.waiter_count -= 1
            if flight.waiter_count == 0:
                self._flights.pop(url, None)
                flight.task.cancel()
                await asyncio.gather(flight.task, return_exceptions=True)

    async def _fetch(
        self, did: Did, url: str, limit_bytes: int, slots: asyncio.Semaphore
    ) -> object:
        try:
            async with slots, self._open_session().get(url, allow_redirects=False) as response:
                if response.status != 200:
                    raise _status_error(did, url, response)
                body = await _read(response, limit_bytes)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            cause = str(error) or f"no answer within {self._timeout_s:g} s"
            raise IdentityUnavailableError(f"cannot fetch {url}: {cause}") from error
        if body is None:
            raise IdentityError(
                Reason.IDENTITY_DOCUMENT, f"{url} is larger than {limit_bytes} bytes", did=did
            )
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError:
            raise IdentityUnavailableError(
                f"{url} answered with something other than JSON"
            ) from None

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=self._timeout_s),
                connector=aiohttp.TCPConnector(limit=0),  # the slots are the bound
                cookie_jar=aiohttp.DummyCookieJar(),
                # Nothing small is worth a decompressor that a hostile host can feed.
                auto_decompress=False,
                headers={"User-Agent": _USER_AGENT, "Accept-Encoding": "identity"},
            )
        return self._session


async def _read(response: aiohttp.ClientResponse, limit_bytes: int) -> bytes | None:
    """Reads a body; None if it is longer than the limit."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > limit_bytes:
            return None
    return bytes(body)


def _status_error(
    did: Did, url: str, response: aiohttp.ClientResponse
) -> IdentityError | IdentityUnavailableError:
    status = response.status
    if status in (404, 410):
        return IdentityError(
            Reason.IDENTITY_NOT_FOUND, f"{url} does not exist (status {status})", did=did
        )
    if 300 <= status < 400 and did.startswith("did:web:"):
        # For good: as long as the host keeps sending us elsewhere, asking again is of no use.
        return IdentityError(
            Reason.IDENTITY_NOT_FOUND, f"{url} redirects, which is not followed", did=did
        )
    retry_after = response.headers.get("Retry-After", "")
    return IdentityUnavailableError(
        f"{url} answered with status {status}",
        retry_after_s=float(retry_after) if _match_seconds(retry_after) else None,
    )


def _base_url(what: str, url: str) -> str:
    match = _match_base_url(url)
    if match is None:
        raise ConfigError(
            f"{what} {url!r} is not of the form http(s)://host[:port][/path]: "
            f"give one like {DEFAULT_PLC_URL}"
        )
    return match[1]


def _checked_plc(did: Did) -> Did:
    if not _match_plc(did):
        raise IdentityError(
            Reason.IDENTITY_NOT_FOUND, "no did:plc of this form can exist", did=did
        )
    return did


def _unsupported(did: Did, detail: str) -> IdentityError:
    return IdentityError(Reason.IDENTITY_UNSUPPORTED_METHOD, detail, did=did)
