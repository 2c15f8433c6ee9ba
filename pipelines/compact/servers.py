"""Asks the servers of accounts: DID document → getLatestCommit, or getRecord with its proof.

Many accounts at once, with a pace for each server, in the event loop of a thread of its own.
Servers are named by outsiders, so only public addresses are asked.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Final, Self
from urllib.parse import urlencode

from yarl import URL

from pipelines.atproto.errors import IdentityError
from pipelines.atproto.record_proof import VerifiedRecord
from pipelines.atproto.syntax import Did
from pipelines.compact.audit import Audit, PartitionReading
from pipelines.compact.provenance import LatestRecord
from pipelines.compact.record_standing import (
    RecordAnswer,
    compare_record,
    has_record_arrived,
    parse_record_answer,
)
from pipelines.compact.standing import (
    Comparison,
    NoAnswer,
    ServerAnswer,
    Standing,
    compare,
    has_arrived,
    parse_answer,
)
from pipelines.compact.state import RepoState
from pipelines.errors import IdentityUnavailableError
from pipelines.identity.background import BackgroundFetcher
from pipelines.identity.documents import Identity
from pipelines.identity.fetching import (
    Fetcher,
    FetchLimits,
    Guard,
    UnusableError,
    host_name,
    origin_of,
    parse_base_url,
)
from pipelines.identity.pace import PaceLimits
from pipelines.identity.resolver import Resolver
from pipelines.identity.streams import StreamLimits

# A server has thousands of accounts, and answers from its own tables.
HOST_LIMITS: Final = PaceLimits(concurrent_count=4, per_s=10, burst_count=20)
CONCURRENT_COUNT: Final = 32
# Accounts that are asked about at once. If one server has all of them, the last one waits for its
# turn for 24 s, which is just below what a fetcher takes on.
BATCH_COUNT: Final = 256
# What only a server has may be on its way: how often it is looked for, and after how long.
ARRIVAL_LOOKS_COUNT: Final = 5
ARRIVAL_PAUSE_S: Final = 2.0
# An answer is two short members.
_HEAD_LIMITS: Final = StreamLimits(total_bytes=64 * 1024, total_s=10, window_s=10, window_bytes=1)
# A record of a MiB, and the nodes on the way to it, of which a large repository has some 30 kB.
_RECORD_LIMITS: Final = StreamLimits(
    total_bytes=2 * 1024 * 1024, total_s=30, window_s=10, window_bytes=1
)
_NOT_ANSWERED: Final = (IdentityError, IdentityUnavailableError, UnusableError)


class Servers:
    """Asks servers while the block lasts. For one thread."""

    def __init__(self, resolver: Resolver, base_url: str | None, *, allow_loopback: bool) -> None:
        """Takes the settings; nothing is connected yet.

        Args:
            resolver: tells whose server is where; closed with the block.
            base_url: for simulated networks: a URL under which every server is found, as
                `{base_url}/<host>`; None asks the servers themselves.
            allow_loopback: for development: whether servers may be on this machine.

        Raises:
            ConfigError: the base URL is none.
        """
        self._resolver = resolver
        self._base = None
        trusted = frozenset[str]()
        if base_url is not None:
            self._base = parse_base_url("the base URL of all servers", base_url)
            trusted = frozenset({origin_of(URL(self._base))})
        fetcher = Fetcher(
            FetchLimits(HOST_LIMITS, CONCURRENT_COUNT), Guard(allow_loopback, trusted=trusted)
        )
        self._background = BackgroundFetcher(fetcher, "servers")

    def __enter__(self) -> Self:
        self._background.__enter__()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._background.run(self._resolver.close()).result()
        self._background.__exit__(None, None, None)

    def heads(self, dids: Iterable[Did]) -> dict[Did, ServerAnswer]:
        """Returns what the servers of accounts say; at most `BATCH_COUNT` accounts."""
        return self._background.run(self._ask_all(list(dids))).result()

    async def _ask_all(self, dids: list[Did]) -> dict[Did, ServerAnswer]:
        answers = await asyncio.gather(*map(self._ask, dids))
        return dict(zip(dids, answers, strict=True))

    def record(self, did: Did, path: str) -> RecordAnswer:
        """Returns what an account's server proves of a record, with the account's current key.

        Args:
            did: the account.
            path: of the record, `collection/rkey`.
        """
        return self._background.run(self._ask_record(did, path)).result()

    async def _ask(self, did: Did) -> ServerAnswer:
        try:
            identity = await self._resolver.resolve(did)
            status, body = await self._fetch(
                identity, "getLatestCommit", {"did": did}, _HEAD_LIMITS
            )
        except _NOT_ANSWERED as error:
            return NoAnswer(str(error))
        return parse_answer(status, body, time.time_ns() // 1_000)

    async def _ask_record(self, did: Did, path: str) -> RecordAnswer:
        collection, _, rkey = path.partition("/")
        query = {"did": did, "collection": collection, "rkey": rkey}
        try:
            identity = await self._resolver.resolve(did, past_caches=True)
            signing_key = identity.require_key()
            status, body = await self._fetch(identity, "getRecord", query, _RECORD_LIMITS)
        except _NOT_ANSWERED as error:
            return NoAnswer(str(error))
        now_us = time.time_ns() // 1_000
        return parse_record_answer(status, body, signing_key, did=did, path=path, now_us=now_us)

    async def _fetch(
        self, identity: Identity, method: str, query: Mapping[str, str], limits: StreamLimits
    ) -> tuple[int, bytes]:
        """Asks an account's server; returns the status, and the body or its beginning.

        Raises:
            UnusableError: no server is named, or as `Fetcher.stream`.
            IdentityUnavailableError: as `Fetcher.stream`.
        """
        pds = identity.pds
        if pds is None:
            raise UnusableError("its DID document names no server")
        body = bytearray()

        async def sink(piece: bytes) -> None:
            body.extend(piece)

        origin = pds if self._base is None else f"{self._base}/{host_name(pds)}"
        url = f"{origin}/xrpc/com.atproto.sync.{method}?{urlencode(query)}"
        answer = await self._background.fetcher.stream(url, sink, limits)
        return answer.status, bytes(body) or answer.body


def compare_one(
    look: Callable[[], LatestRecord | None], did: Did, path: str, servers: Servers
) -> tuple[LatestRecord | None, Comparison]:
    """Compares a record with what its account's server proves.

    Args:
        look: reads the record as `latest.*` has it now.
        did: the account.
        path: of the record, `collection/rkey`.
        servers: asked.

    Returns:
        The record as it was seen last, and the comparison; what was behind had time to arrive.

    Raises:
        BrokerUnavailableError: the broker does not answer.
    """
    # Before its server is asked: what is older there than here is really older.
    record = look()
    answer = servers.record(did, path)
    comparison = compare_record(record, answer)
    if comparison.standing is not Standing.BEHIND:
        return record, comparison
    assert isinstance(answer, VerifiedRecord)
    for _ in range(ARRIVAL_LOOKS_COUNT):
        time.sleep(ARRIVAL_PAUSE_S)
        record = look()
        if has_record_arrived(record, answer):
            return record, Comparison(Standing.EQUAL, None, answer.commit.rev)
    return record, comparison


def compare_all(
    reading: PartitionReading, audits: Iterable[Audit], servers: Servers
) -> Iterator[tuple[Audit, Comparison]]:
    """Compares audited repositories with what their servers say.

    Args:
        reading: of their partition.
        audits: of repositories in it.
        servers: asked for accounts that are active.

    Yields:
        Each audit with its comparison; what is behind comes last, after it had time to arrive.

    Raises:
        BrokerUnavailableError: the broker does not answer.
    """
    awaited: dict[Did, tuple[Audit, Comparison]] = {}
    audits = iter(audits)
    while batch := list(islice(audits, BATCH_COUNT)):
        # Before their servers are asked: what is older there than here is really older.
        states = {audit.did: _state(reading, audit.did) for audit in batch}
        answers = servers.heads(did for did, state in states.items() if state.active)
        for audit in batch:
            comparison = compare(states[audit.did], answers.get(audit.did))
            if comparison.standing is Standing.BEHIND:
                awaited[audit.did] = audit, comparison
            else:
                yield audit, comparison
    for _ in range(ARRIVAL_LOOKS_COUNT):
        if not awaited:
            return
        time.sleep(ARRIVAL_PAUSE_S)
        reading.catch_up()
        for did, (audit, comparison) in list(awaited.items()):
            assert comparison.rev is not None
            if has_arrived(_state(reading, did), comparison.rev):
                del awaited[did]
                yield audit, Comparison(Standing.EQUAL, None, comparison.rev)
    yield from awaited.values()


def _state(reading: PartitionReading, did: Did) -> RepoState:
    state = reading.repo(did)
    assert state is not None
    return state
