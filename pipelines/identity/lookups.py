"""Look-ups under way: started here, run side by side in a thread of their own, and landed here.

A worker computes in one thread and must not stand still for a host that is slow. It starts
look-ups and goes on; their outcomes wait until it takes them. So nothing but this queue is shared
between the two threads. One look-up of a kind for one DID is under way at a time.
"""

import queue
import time
from collections import Counter
from collections.abc import Mapping
from enum import Enum, auto
from typing import Final, Literal, NamedTuple, Protocol, TypeAlias

from pipelines.atproto.errors import IdentityError
from pipelines.atproto.syntax import Did
from pipelines.errors import IdentityUnavailableError
from pipelines.identity.documents import Identity
from pipelines.identity.plc import KeyHistory
from pipelines.loop_thread import LoopThread

Method: TypeAlias = Literal["plc", "web"]

# At once, by the method of the DID; further ones are not started, and whoever wants them asks
# again. Each waits for its turn, so they may take a while: those of did:web hosts that never
# answer, which whoever owns a domain can have any number of, must leave room for the directory's.
MAX_LOOKUPS: Final[Mapping[Method, int]] = {"plc": 1_000, "web": 250}


class DidResolver(Protocol):
    """Where identities come from; see `pipelines.identity.resolver` for what the calls raise."""

    async def resolve(self, did: Did, *, past_caches: bool = False) -> Identity:
        """Returns what the DID's document says."""

    async def audit_log(self, did: Did) -> KeyHistory | None:
        """Returns the history of the DID's keys, or None where there is none."""

    def source_of(self, did: Did) -> str:
        """Returns the base URL of who is asked for the DID."""

    async def close(self) -> None:
        """Gives up what the resolver holds."""


class Kind(Enum):
    """What is looked up."""

    DOCUMENT = auto()
    FRESH_DOCUMENT = auto()  # past all caches
    HISTORY = auto()


def method_of(did: Did) -> Method:
    """Returns whom a DID is asked for of: the directory, or a host of its own."""
    return "plc" if did.startswith("did:plc:") else "web"


Failure: TypeAlias = IdentityError | IdentityUnavailableError
Outcome: TypeAlias = Identity | KeyHistory | Failure | None


class Landed(NamedTuple):
    """A look-up that has ended.

    Attributes:
        did: the account.
        kind: what was looked up.
        outcome: what came of it.
        asked_us: when it was started, microseconds since the epoch.
        duration_s: how long it took.
    """

    did: Did
    kind: Kind
    outcome: Outcome
    asked_us: int
    duration_s: float


class Lookups:
    """Runs a resolver in a thread. Every method is for one thread, that of the worker."""

    def __init__(self, resolver: DidResolver) -> None:
        """Starts the thread; `close` ends it and closes the resolver."""
        self._resolver = resolver
        self._asked_us: dict[tuple[Did, Kind], int] = {}
        self._under_way: Counter[Method] = Counter()
        self._landed: queue.SimpleQueue[Landed | BaseException] = queue.SimpleQueue()
        self._thread = LoopThread("lookups")

    def start(self, did: Did, kind: Kind, now_us: int) -> bool:
        """Starts a look-up, unless the same one is under way.

        Args:
            did: the account.
            kind: what to look up.
            now_us: the time of day, microseconds since the epoch.

        Returns:
            Whether it is under way now; False if there are `MAX_LOOKUPS` of its method already.
        """
        if (did, kind) in self._asked_us:
            return True
        method = method_of(did)
        if self._under_way[method] >= MAX_LOOKUPS[method]:
            return False
        self._under_way[method] += 1
        self._asked_us[did, kind] = now_us
        self._thread.start(self._fly(did, kind, now_us))
        return True

    def asked_us(self, did: Did, kind: Kind) -> int | None:
        """Returns when a look-up was started; None unless one is under way, or not yet taken."""
        return self._asked_us.get((did, kind))

    def land(self, timeout_s: float = 0.0) -> Landed | None:
        """Takes the outcome of one look-up that has ended.

        Args:
            timeout_s: how long to wait for one.

        Returns:
            The outcome; None if there is none in time.
        """
        try:
            landed = self._landed.get(timeout_s > 0, timeout_s if timeout_s > 0 else None)
        except queue.Empty:
            return None
        if isinstance(landed, BaseException):
            raise landed
        del self._asked_us[landed.did, landed.kind]
        self._under_way[method_of(landed.did)] -= 1
        return landed

    def close(self) -> None:
        """Cuts off what is under way and ends the thread."""
        self._thread.close(self._resolver.close())

    async def _fly(self, did: Did, kind: Kind, asked_us: int) -> None:
        started_s = time.monotonic()
        try:
            outcome = await self._look_up(did, kind)
        except (IdentityError, IdentityUnavailableError) as error:
            outcome = error.with_traceback(None)  # which would keep the frames alive
        except Exception as error:  # noqa: BLE001 - our own bug: raised in the worker's thread
            self._landed.put(error)
            return
        self._landed.put(Landed(did, kind, outcome, asked_us, time.monotonic() - started_s))

    async def _look_up(self, did: Did, kind: Kind) -> Outcome:
        if kind is Kind.HISTORY:
            return await self._resolver.audit_log(did)
        return await self._resolver.resolve(did, past_caches=kind is Kind.FRESH_DOCUMENT)
