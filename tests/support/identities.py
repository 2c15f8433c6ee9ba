"""Identities for tests: a resolver that answers from tables, keys, and a clock to turn."""

import asyncio
from collections import Counter

from pipelines.atproto.errors import IdentityError, Reason
from pipelines.atproto.keys import VerifyingKey, parse_multikey
from pipelines.atproto.syntax import Did
from pipelines.errors import IdentityUnavailableError
from pipelines.identity.documents import Identity
from pipelines.identity.entries import IdentityEntry
from pipelines.identity.offline import OfflineKeys
from pipelines.identity.plc import KeyHistory

ALICE, BOB, CAROL, DAVE = (Did(f"did:plc:{letter * 24}") for letter in "abcd")
WEB = Did("did:web:host.example.com")
OLD_KEY = parse_multikey("zQ3shqwJEJyMBsBXCWyCBpUBMqxcon9oHB7mCvx4sSpMdLJwc")
NEW_KEY = parse_multikey("zDnaembgSGUhZULN2Caob4HLJPaxBh92N7rtH21TErzqf8HQo")
SECOND_US = 1_000_000


class Clock:
    """The time of day, turned by hand."""

    def __init__(self) -> None:
        self.now_us = 1_790_000_000 * SECOND_US

    def __call__(self) -> int:
        return self.now_us

    def turn(self, seconds: float) -> None:
        self.now_us += int(seconds * SECOND_US)


class FakeResolver:
    """Answers from tables; a DID that is missing there does not exist.

    Attributes:
        keys: key by DID; None for a document without any.
        servers: server by DID, as the document names it.
        unavailable: DIDs about which nobody can say anything now, with the wish for a pause.
        held: DIDs whose answers do not come before they are taken out.
        logs: history by DID, or why there is none.
        fetched: documents that were asked for.
        forced: of these, past all caches.
        logs_fetched: histories that were asked for.
        running: requests under way.
        most_running: and how many there were at once.
        is_closed: whether the resolver was closed.
    """

    def __init__(self) -> None:
        self.keys: dict[Did, VerifyingKey | None] = {}
        self.servers: dict[Did, str] = {}
        self.unavailable: dict[Did, float | None] = {}
        self.held: set[Did] = set()
        self.logs: dict[Did, KeyHistory | IdentityError] = {}
        self.fetched: Counter[Did] = Counter()
        self.forced: Counter[Did] = Counter()
        self.logs_fetched: Counter[Did] = Counter()
        self.running = 0
        self.most_running = 0
        self.is_closed = False

    def source_of(self, did: Did) -> str:
        return f"https://directory.example/{did[4:7]}"

    async def resolve(self, did: Did, *, past_caches: bool = False) -> Identity:
        self.fetched[did] += 1
        self.forced[did] += past_caches
        key, is_known = self.keys.get(did), did in self.keys  # as of the moment of asking
        server = self.servers.get(did)
        await self._answer(did)
        if not is_known:
            raise IdentityError(Reason.IDENTITY_NOT_FOUND, "no such DID", did=did)
        return Identity(did, key, server, None)

    async def audit_log(self, did: Did) -> KeyHistory | None:
        self.logs_fetched[did] += 1
        await self._answer(did)
        log = self.logs.get(did)
        if isinstance(log, IdentityError):
            raise log
        return log

    async def close(self) -> None:
        self.is_closed = True

    async def _answer(self, did: Did) -> None:
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await asyncio.sleep(0.001)
            while did in self.held:  # noqa: ASYNC110 - released by another thread
                await asyncio.sleep(0.001)
        finally:
            self.running -= 1
        if did in self.unavailable:
            raise IdentityUnavailableError("away", retry_after_s=self.unavailable[did])


class RecordedResolver:
    """Answers with the identities of a recording."""

    def __init__(self, keys: OfflineKeys) -> None:
        self._keys = keys

    def source_of(self, did: Did) -> str:
        return f"https://recorded.example/{did[4:7]}"

    async def resolve(self, did: Did, *, past_caches: bool = False) -> Identity:  # noqa: ARG002 - the resolver's
        return Identity(did, self._keys.current_key(did), None, None)

    async def audit_log(self, did: Did) -> KeyHistory | None:
        history = self._keys._account(did).audit_log
        if isinstance(history, IdentityError):
            raise history
        return history

    async def close(self) -> None:
        """Holds nothing."""


class FakeShelf:
    """What a worker keeps of the topic, and what it would write into it."""

    def __init__(self) -> None:
        self.entries: dict[Did, IdentityEntry] = {}
        self.kept: list[IdentityEntry] = []

    def get(self, did: Did) -> IdentityEntry | None:
        return self.entries.get(did)

    def keep(self, entry: IdentityEntry) -> None:
        self.entries[entry.did] = entry
        self.kept.append(entry)
