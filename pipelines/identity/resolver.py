"""Resolves DIDs over HTTP: did:plc through a PLC directory, did:web through its own host.

Implements "DID Resolution" of https://web.plc.directory/spec/v0.1/did-plc and "did:web in AT
Protocol" of https://atproto.com/specs/did. Three outcomes are kept apart:

    an identity                 the document, or the audit log, was served and could be read
    IdentityError               the DID has none, and asking again soon changes nothing
    IdentityUnavailableError    nobody could say now: the host is away, overloaded or confused

Two callers that ask for the same thing at the same time share one request. How fast hosts are
asked, what is too much of an answer, and which hosts an outsider may send us to:
`pipelines.identity.fetching`.
"""

import asyncio
import re
from dataclasses import dataclass
from typing import Final

import orjson

from pipelines.atproto.errors import IdentifierError, IdentityError, Reason
from pipelines.atproto.syntax import Did, is_plc_did, parse_handle
from pipelines.errors import IdentityUnavailableError
from pipelines.identity.documents import Identity, parse_document
from pipelines.identity.fetching import (
    REQUEST_TIMEOUT_S,
    AbsentError,
    FetchCounts,
    Fetcher,
    FetchLimits,
    Guard,
    UnusableError,
    parse_base_url,
)
from pipelines.identity.names import is_public_name
from pipelines.identity.pace import PaceLimits
from pipelines.identity.plc import KeyHistory, verify_audit_log

DEFAULT_PLC_URL: Final = "https://plc.directory"

# A document has a handful of keys and services; the directory bounds an operation to 4 kB.
MAX_DOCUMENT_BYTES: Final = 256 * 1024
# The directory accepts 100 operations a week of one DID, so a log may grow for years.
MAX_AUDIT_LOG_BYTES: Final = 8 * 1024 * 1024
# The directory is one host for practically everybody. Deployed relays ask it as often.
PLC_CONCURRENT_COUNT: Final = 32
DEFAULT_PLC_PER_S: Final = 100
# A did:web host has one document. All of them together have a bound of their own, so that slow
# hosts of a few accounts do not keep everybody else's look-ups waiting.
WEB_HOST_LIMITS: Final = PaceLimits(concurrent_count=2, per_s=1, burst_count=5)
WEB_CONCURRENT_COUNT: Final = 32

_WELL_KNOWN: Final = "/.well-known/did.json"

_match_localhost = re.compile("localhost(?:%3A([0-9]{1,5}))?").fullmatch


@dataclass(slots=True)
class _Flight:
    """A request that is under way, and how many callers wait for it."""

    task: asyncio.Task[object]
    waiter_count: int = 0


class Resolver:
    """Asks directories and hosts for DID documents. Keeps connections, but no answers.

    Belongs to the event loop in which it is first used, until `close`.
    """

    def __init__(
        self,
        plc_url: str = DEFAULT_PLC_URL,
        *,
        plc_per_s: float = DEFAULT_PLC_PER_S,
        did_web_base: str | None = None,
        allow_loopback: bool = False,
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> None:
        """Takes the settings; nothing is connected yet.

        Args:
            plc_url: base URL of the PLC directory.
            plc_per_s: requests a second to the directory.
            did_web_base: for simulated networks: a URL under which every did:web document is
                found, as `{did_web_base}/<host>/.well-known/did.json`; None asks the host itself.
            allow_loopback: for development: whether did:web hosts may be on this machine, also
                as `did:web:localhost[%3A<port>]` over plain HTTP. Elsewhere that would lead
                outsiders to services that are not for them.
            timeout_s: bound on each request, in seconds.

        Raises:
            ConfigError: an URL is not of the form http(s)://host[:port][/path].
        """
        self._plc_url = parse_base_url("the PLC directory's URL", plc_url)
        self._did_web_base = (
            None if did_web_base is None else parse_base_url("the did:web base URL", did_web_base)
        )
        self._allow_loopback = allow_loopback
        directory = PaceLimits(PLC_CONCURRENT_COUNT, plc_per_s, max(1, int(plc_per_s)))
        self._plc = Fetcher(FetchLimits(directory, PLC_CONCURRENT_COUNT, timeout_s))
        if did_web_base is None:
            limits = FetchLimits(WEB_HOST_LIMITS, WEB_CONCURRENT_COUNT, timeout_s)
            self._web = Fetcher(limits, Guard(allow_loopback))
        else:
            self._web = Fetcher(FetchLimits(directory, WEB_CONCURRENT_COUNT, timeout_s))
        self._flights: dict[tuple[str, bool], _Flight] = {}

    @property
    def counts(self) -> dict[str, FetchCounts]:
        """What was asked, by the method of the DIDs."""
        return {"plc": self._plc.counts, "web": self._web.counts}

    async def resolve(self, did: Did, *, past_caches: bool = False) -> Identity:
        """Fetches a DID's document.

        Args:
            did: the account.
            past_caches: ask caches on the way to ask the host itself.

        Returns:
            What its document says; the signing key may be None.

        Raises:
            IdentityError: there is no such DID, or no longer (`IDENTITY_NOT_FOUND`), its method or
                form is not one the network uses (`IDENTITY_UNSUPPORTED_METHOD`), or what was
                served is not its document (`IDENTITY_DOCUMENT`).
            IdentityUnavailableError: it cannot be known now.
        """
        return parse_document(did, await self.raw_document(did, past_caches=past_caches))

    async def raw_document(self, did: Did, *, past_caches: bool = False) -> object:
        """Fetches a DID's document as it is served: as for `resolve`, but not read.

        Args:
            did: the account.
            past_caches: ask caches on the way to ask the host itself.

        Returns:
            The decoded JSON.
        """
        if did.startswith("did:plc:"):
            url, fetcher = f"{self._plc_url}/{_checked_plc(did)}", self._plc
        else:
            url, fetcher = self._did_web_url(did), self._web
        return await self._get(did, fetcher, url, MAX_DOCUMENT_BYTES, past_caches)

    async def audit_log(self, did: Did) -> KeyHistory | None:
        """Fetches the history of a DID's signing keys.

        Args:
            did: the account.

        Returns:
            Its history, verified, or None where there is none: for did:web, and from a directory
            that does not have one for this DID.

        Raises:
            IdentityError: the log is not valid (`PlcError`) or too large (`IDENTITY_LOG`).
            IdentityUnavailableError: it cannot be known now.
        """
        log = await self.raw_audit_log(did)
        return None if log is None else verify_audit_log(did, log)

    async def raw_audit_log(self, did: Did) -> object | None:
        """Fetches an audit log as it is served: as for `audit_log`, but not verified.

        Args:
            did: the account.

        Returns:
            The decoded JSON.
        """
        if not is_plc_did(did):
            return None
        url = f"{self._plc_url}/{did}/log/audit"
        try:
            # Asked for when the current key does not fit: a change that has just been made counts.
            return await self._get(did, self._plc, url, MAX_AUDIT_LOG_BYTES, past_caches=True)
        except IdentityError as error:
            if error.reason is Reason.IDENTITY_NOT_FOUND:
                return None
            raise IdentityError(Reason.IDENTITY_LOG, error.detail, did=did) from None

    def source_of(self, did: Did) -> str:
        """Returns the base URL of who is asked for a DID, which is of a form that can be asked."""
        if did.startswith("did:plc:"):
            return self._plc_url
        return self._did_web_url(did).removesuffix(_WELL_KNOWN)

    async def close(self) -> None:
        """Closes the connections. Requests that are under way fail as unavailable."""
        await self._plc.close()
        await self._web.close()

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
            return f"{self._did_web_base}/{host}{_WELL_KNOWN}"
        if is_localhost and self._allow_loopback:
            return f"http://{host}{_WELL_KNOWN}"
        if not is_public_name(host):
            raise _unsupported(did, "its host is not a name on the public network")
        return f"https://{host}{_WELL_KNOWN}"

    async def _get(
        self, did: Did, fetcher: Fetcher, url: str, limit_bytes: int, past_caches: bool
    ) -> object:
        """Returns the decoded JSON at a URL, through the request that is under way if any."""
        # An answer from a cache is none for somebody who wants to get past it.
        key = (url, past_caches)
        flight = self._flights.get(key)
        if flight is None:
            fetch = _fetch(did, fetcher, url, limit_bytes, past_caches=past_caches)
            flight = self._flights[key] = _Flight(asyncio.create_task(fetch))
        flight.waiter_count += 1
        try:
            # Shielded: a caller that gives up must not take the answer from the others.
            return await asyncio.shield(flight.task)
        finally:
            flight.waiter_count -= 1
            if flight.waiter_count == 0:
                self._flights.pop(key, None)
                flight.task.cancel()
                await asyncio.gather(flight.task, return_exceptions=True)


async def _fetch(
    did: Did, fetcher: Fetcher, url: str, limit_bytes: int, *, past_caches: bool
) -> object:
    try:
        body = await fetcher.get(url, limit_bytes, past_caches=past_caches)
    except AbsentError as error:
        raise IdentityError(Reason.IDENTITY_NOT_FOUND, str(error), did=did) from None
    except UnusableError as error:
        raise IdentityError(Reason.IDENTITY_DOCUMENT, str(error), did=did) from None
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        raise IdentityUnavailableError(f"{url} answered with something other than JSON") from None


def _checked_plc(did: Did) -> Did:
    if not is_plc_did(did):
        raise IdentityError(
            Reason.IDENTITY_UNSUPPORTED_METHOD, "no did:plc of this form can exist", did=did
        )
    return did


def _unsupported(did: Did, detail: str) -> IdentityError:
    return IdentityError(Reason.IDENTITY_UNSUPPORTED_METHOD, detail, did=did)
