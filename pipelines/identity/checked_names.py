"""Names of hosts for an HTTP client, resolved to checked addresses only (spec: M-20).

The addresses of a name are checked (`pipelines.identity.addresses`) and the connection goes to one
of them: whoever owns the name cannot answer differently a second time.
"""

import asyncio
import socket
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeAlias

from aiohttp.abc import AbstractResolver, ResolveResult

from pipelines.identity.addresses import ForbiddenTargetError, check_addresses

# Names of outsiders are looked up in threads of their own: a name server that does not answer
# holds up none but them.
LOOKUP_THREADS: Final = 16

# Name and port → family by address; called in a thread.
Lookup: TypeAlias = Callable[[str, int], Mapping[str, int]]


class CheckedNames(AbstractResolver):
    """Gives aiohttp only those addresses of a name that may be connected to."""

    def __init__(
        self, lookup: Lookup | None, *, allow_loopback: bool, trusted: frozenset[str]
    ) -> None:
        """Starts the threads; `close` ends them.

        Args:
            lookup: finds the addresses of a name; None for the system's resolver.
            allow_loopback: for development: whether this machine's own addresses count.
            trusted: `host:port` of those whose addresses are not checked.
        """
        self._lookup = lookup or _system_lookup
        self._allow_loopback = allow_loopback
        self._trusted = trusted
        self._threads = ThreadPoolExecutor(LOOKUP_THREADS, thread_name_prefix="names")

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_UNSPEC,  # noqa: ARG002 - both are wanted
    ) -> list[ResolveResult]:
        """Returns the addresses of a name that may be connected to; there is one at least."""
        loop = asyncio.get_running_loop()
        try:
            families = await loop.run_in_executor(self._threads, self._lookup, host, port)
        except UnicodeError:  # a label too long, or empty
            raise ForbiddenTargetError(f"{host} is not a name of a host") from None
        allowed = list(families)
        if f"{host}:{port}" not in self._trusted:
            allowed = check_addresses(host, families, allow_loopback=self._allow_loopback)
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=families[address],
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in allowed
        ]

    async def close(self) -> None:
        """Ends the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _system_lookup(host: str, port: int) -> Mapping[str, int]:
    """Returns the addresses of a name with their families, by the system's resolver."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return {str(address[0]): family for family, _, _, _, address in found}
