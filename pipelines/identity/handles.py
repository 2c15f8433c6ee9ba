"""Handles: whether a name leads back to the account that claims it.

A name says whose it is in two ways, of which the first one counts if they differ:

    DNS     a TXT record of _atproto.<handle> with did=<did>; other records do not matter
    HTTPS   the body of https://<handle>/.well-known/atproto-did is <did>

An account claims a handle in its document, and has it only if the name leads back to the account.
That is for people: no commit depends on it, and nothing in the pipeline waits for it.

Implements "Handle Resolution" of https://atproto.com/specs/handle. spec: E-06…E-08, M-20, M-21.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import dns.asyncresolver
import dns.exception
import dns.name
import dns.rdatatype
import dns.resolver
from dns.rdtypes.txtbase import TXTBase

from pipelines.atproto.errors import IdentifierError, IdentityError, Reason
from pipelines.atproto.syntax import Did, Handle, parse_did
from pipelines.errors import IdentityUnavailableError
from pipelines.identity.fetching import (
    AbsentError,
    Fetcher,
    FetchLimits,
    Guard,
    UnusableError,
)
from pipelines.identity.names import is_public_name
from pipelines.identity.resolver import WEB_CONCURRENT_COUNT, WEB_HOST_LIMITS

# As deployed servers have it: the longest DID, and white space around it.
MAX_WELL_KNOWN_BYTES: Final = 2_048
# Of all tries with all name servers together.
DNS_TIMEOUT_S: Final = 10.0

_TXT_PREFIX: Final = "did="

# Name → the values of its TXT records; none if there are none. Raises IdentityUnavailableError.
TxtLookup = Callable[[str], Awaitable[Sequence[str]]]


class WebHosts(Protocol):
    """Asks hosts for small documents; `pipelines.identity.fetching` says what the calls raise."""

    async def get(self, url: str, limit_bytes: int) -> bytes:
        """Gets a document."""

    async def close(self) -> None:
        """Closes the connections."""


@dataclass(frozen=True, slots=True)
class HandleCheck:
    """Whether an account has the handle that it claims.

    Attributes:
        handle: the claim.
        did: whom the name leads to, or None.
        problem: why it is not the account's, or cannot be told now; None if it is.
    """

    handle: Handle
    did: Did | None
    problem: str | None


class HandleResolver:
    """Finds the DID that a handle leads to. Belongs to the event loop in which it is first used.

    Names under reserved top-level domains lead nowhere, also in development.
    """

    def __init__(self, hosts: WebHosts | None = None, lookup: TxtLookup | None = None) -> None:
        """Takes what it asks with.

        Args:
            hosts: by default a guarded fetcher. `close` closes it.
            lookup: asks the DNS; `lookup_txt` by default.
        """
        limits = FetchLimits(WEB_HOST_LIMITS, WEB_CONCURRENT_COUNT)
        self._hosts = hosts or Fetcher(limits, Guard())
        self._lookup = lookup or lookup_txt

    async def close(self) -> None:
        """Closes the connections."""
        await self._hosts.close()

    async def check(self, did: Did, handle: Handle) -> HandleCheck:
        """Checks that a handle leads back to the account that claims it."""
        try:
            found = await self.resolve(handle)
        except IdentityError as error:
            return HandleCheck(handle, None, error.detail)
        except IdentityUnavailableError as error:
            return HandleCheck(handle, None, f"it cannot be told now: {error}")
        if found != did:
            return HandleCheck(handle, found, f"it leads to {found}")
        return HandleCheck(handle, found, None)

    async def resolve(self, handle: Handle) -> Did:
        """Finds the DID that a handle leads to.

        Raises:
            IdentityError: it leads to none, or not to one (`IDENTITY_HANDLE`).
            IdentityUnavailableError: that cannot be told now.
        """
        if not is_public_name(handle):
            raise _unresolved("it is no name of the public network")
        unavailable: IdentityUnavailableError | None = None
        try:
            found = did_of_txt(await self._lookup(f"_atproto.{handle}"))
        except IdentityUnavailableError as error:
            found, unavailable = None, error
        if found is not None:
            return found
        url = f"https://{handle}/.well-known/atproto-did"
        try:
            return did_of_well_known(await self._hosts.get(url, MAX_WELL_KNOWN_BYTES))
        except (AbsentError, UnusableError) as error:
            if unavailable is not None:
                raise unavailable from None
            raise _unresolved(f"neither the DNS nor its host names a DID ({error})") from None


def did_of_txt(values: Iterable[str]) -> Did | None:
    """Reads the TXT records of a handle.

    Args:
        values: of `_atproto.<handle>`, each record as one text.

    Returns:
        The DID they name, or None if they name none.

    Raises:
        IdentityError: they name several, or what should be one is none (`IDENTITY_HANDLE`).
    """
    named = {value.removeprefix(_TXT_PREFIX) for value in values if value.startswith(_TXT_PREFIX)}
    if len(named) > 1:
        raise _unresolved("the DNS names several DIDs")
    return _checked(named.pop(), "the DNS") if named else None


def did_of_well_known(body: bytes) -> Did:
    """Reads what a handle's host says.

    Args:
        body: of `/.well-known/atproto-did`; white space around the DID does not matter.

    Raises:
        IdentityError: it is no DID (`IDENTITY_HANDLE`).
    """
    return _checked(body.decode("utf-8", "replace").strip(), "the host")


async def lookup_txt(name: str, resolver: dns.asyncresolver.Resolver | None = None) -> list[str]:
    """Asks name servers for the TXT records of a name.

    Args:
        name: absolute, without the last dot.
        resolver: which name servers; the system's by default.

    Returns:
        The value of each record; none if there is no such name or it has none.

    Raises:
        IdentityUnavailableError: no name server answers, or none that knows.
    """
    try:
        asked = resolver or dns.asyncresolver.get_default_resolver()
        answer = await asked.resolve(f"{name}.", dns.rdatatype.TXT, lifetime=DNS_TIMEOUT_S)
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer, dns.name.NameTooLong):
        return []
    except dns.exception.DNSException as error:
        raise IdentityUnavailableError(f"the DNS does not tell about {name}: {error}") from error
    return [
        b"".join(record.strings).decode("utf-8", "replace")
        for record in answer
        if isinstance(record, TXTBase)
    ]


def _checked(text: str, who: str) -> Did:
    try:
        return parse_did(text)
    except IdentifierError as error:
        raise _unresolved(f"{who} names {error.detail}") from None


def _unresolved(detail: str) -> IdentityError:
    return IdentityError(Reason.IDENTITY_HANDLE, detail)
