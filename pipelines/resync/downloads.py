"""Look-ups of accounts and downloads of their repositories, in a thread of their own.

    look-up     DID → signing key, and which server to ask
    download    getRepo, streamed → proven while it arrives → spool

The event loop waits for hosts; what costs processor time is done in further threads, piece by
piece, while the host is pushed back. A signature that does not fit is tried once more, with a key
that was asked for past all caches.

Two repositories beyond LARGE_BYTES are taken at a time: the rest of such a one is read when the
others before it are done. So memory for the indices of CARs out of order is bounded.

Source: lexicon com.atproto.sync.getRepo. spec: I-04, I-06, I-08, M-07, M-20
"""

import asyncio
import queue
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple, TypeAlias, TypeVar
from urllib.parse import quote

import orjson
from yarl import URL

from pipelines import logs
from pipelines.atproto.commit import check_rev_not_future
from pipelines.atproto.errors import IdentityError, ProtocolError, Reason, SignatureError
from pipelines.atproto.keys import VerifyingKey
from pipelines.atproto.repo import Limits
from pipelines.errors import IdentityUnavailableError
from pipelines.identity.documents import Identity
from pipelines.identity.fetching import Answer, Fetcher, UnusableError, host_name, origin_of
from pipelines.identity.lookups import DidResolver
from pipelines.identity.streams import StreamLimits
from pipelines.loop_thread import LoopThread
from pipelines.repair.manifests import RepoError
from pipelines.repair.requests import Cause
from pipelines.resync.jobs import Job
from pipelines.resync.schedule import Start
from pipelines.resync.sources import Source, choose_source
from pipelines.resync.spool import Proof, Spool, Spooled, SpoolError

GET_REPO_PATH: Final = "/xrpc/com.atproto.sync.getRepo"
# Threads that prove. They share one interpreter: more would not be faster.
PROVING_THREADS: Final = 4
# A CAR beyond this is large. Its index may take 750 MB, at three million blocks.
LARGE_BYTES: Final = 64 * 1024 * 1024
LARGE_COUNT: Final = 2
# A DID that does not exist may be a new one, which is not known everywhere yet: only after so many
# tries, three minutes, is it gone. One whose account was announced as deleted is gone at once.
GONE_ATTEMPTS: Final = 2
# Until the disk is tried again, or a host that is left alone without having said for how long.
RETRY_S: Final = 10.0

_log = logs.get_logger("resync")
_Result = TypeVar("_Result")


class Account(NamedTuple):
    """What a look-up gave.

    Attributes:
        key: the current signing key.
        source: the server to ask.
    """

    key: VerifyingKey
    source: Source


@dataclass(frozen=True, slots=True)
class Located:
    """A look-up told the key and the server."""

    start: Start
    account: Account


@dataclass(frozen=True, slots=True)
class Fetched:
    """A repository is there, proven.

    Attributes:
        start: what was asked for.
        source: the server that was asked.
        host: who gave it in the end.
        spooled: the repository; to be closed.
        fetched_us: when it was asked for, microseconds since the epoch: what happened before is
            in it.
    """

    start: Start
    source: Source
    host: str
    spooled: Spooled
    fetched_us: int


@dataclass(frozen=True, slots=True)
class Missing:
    """Who has the last word says that there is no repository.

    Attributes:
        start: what was asked for.
        error: what it says.
        status: what that makes of the account, or None.
        host: who says so.
        fetched_us: when they were asked, microseconds since the epoch.
    """

    start: Start
    error: RepoError
    status: str | None
    host: str
    fetched_us: int


@dataclass(frozen=True, slots=True)
class Failed:
    """It was tried in vain.

    Attributes:
        start: what was asked for.
        detail: why.
        is_last_source: whether there is no other server to ask.
    """

    start: Start
    detail: str
    is_last_source: bool


@dataclass(frozen=True, slots=True)
class Held:
    """It was not tried: somebody wants to be left alone.

    Attributes:
        start: what was asked for.
        detail: why.
        retry_s: for how long, seconds.
    """

    start: Start
    detail: str
    retry_s: float


Outcome: TypeAlias = Located | Fetched | Missing | Failed | Held

_STATUS_BY_ERROR: Final = {
    RepoError.NOT_FOUND: None,
    RepoError.TAKENDOWN: "takendown",
    RepoError.SUSPENDED: "suspended",
    RepoError.DEACTIVATED: "deactivated",
}


@dataclass(frozen=True, slots=True)
class DownloadLimits:
    """What a repository may cost.

    Attributes:
        stream: size, time and speed of a download.
        repo: the CAR and its spill.
    """

    stream: StreamLimits
    repo: Limits


class Downloads:
    """Runs look-ups and downloads. Every method is for one thread, that of the stage."""

    def __init__(
        self,
        resolver: DidResolver,
        fetcher: Fetcher,
        spool: Spool,
        limits: DownloadLimits,
        base: str | None,
    ) -> None:
        """Takes resolver and fetcher over; `close` closes them.

        Args:
            resolver: asked for accounts.
            fetcher: gets repositories.
            spool: where they wait.
            limits: what they may cost.
            base: for simulated networks: a URL under which every server is found, as
                `{base}/<host>`; None asks the servers themselves.
        """
        self._resolver = resolver
        self._fetcher = fetcher
        self._spool = spool
        self._limits = limits
        self._base = base
        self._generation = 0
        self._landed: queue.SimpleQueue[tuple[int, Outcome] | BaseException] = queue.SimpleQueue()
        self._large = asyncio.Semaphore(LARGE_COUNT)
        self._threads = ThreadPoolExecutor(PROVING_THREADS, thread_name_prefix="proof")
        self._thread = LoopThread("downloads")

    def look_up(self, start: Start) -> None:
        """Starts a look-up."""
        self._thread.start(self._run(self._generation, partial(self._look_up, start)))

    def fetch(self, start: Start, account: Account) -> None:
        """Starts a download from the server that a look-up named."""
        self._thread.start(self._run(self._generation, partial(self._fetch, start, account)))

    def land(self) -> Outcome | None:
        """Returns the outcome of something that has ended; None if there is none."""
        while True:
            try:
                landed = self._landed.get_nowait()
            except queue.Empty:
                return None
            if isinstance(landed, BaseException):
                raise landed
            generation, outcome = landed
            if generation == self._generation:
                return outcome
            _let_go(outcome)

    def cancel(self) -> None:
        """Cuts off everything under way; nothing of it will land."""
        self._generation += 1
        self._thread.cancel()

    def close(self) -> None:
        """Cuts off everything under way and closes what was taken over."""
        self._generation += 1
        self._thread.close(self._close())
        self._threads.shutdown()
        self.land()

    async def _close(self) -> None:
        await self._fetcher.close()
        await self._resolver.close()

    # ---- in the thread of the event loop ---------------------------------------------------

    async def _run(self, generation: int, work: Callable[[], Awaitable[Outcome]]) -> None:
        try:
            outcome = await work()
        except Exception as error:  # noqa: BLE001 - our own bug: raised in the stage's thread
            self._landed.put(error)
            return
        self._landed.put((generation, outcome))

    async def _look_up(self, start: Start) -> Outcome:
        job, asked_us = start.job, _now_us()
        try:
            identity = await self._resolver.resolve(job.did)
            key = identity.require_key()
        except IdentityUnavailableError as error:
            return _unavailable(start, error, is_last_source=True)
        except IdentityError as error:
            is_sure = job.attempts >= GONE_ATTEMPTS or job.cause is Cause.DELETION
            if error.reason is Reason.IDENTITY_NOT_FOUND and is_sure:
                host = host_name(self._resolver.source_of(job.did))
                return Missing(start, RepoError.NOT_FOUND, "deleted", host, asked_us)
            return Failed(start, str(error), is_last_source=True)
        source = choose_source(job, identity.pds)
        if source is None:
            return Failed(start, "its DID document names no server", is_last_source=True)
        return Located(start, Account(key, source))

    async def _fetch(self, start: Start, account: Account) -> Outcome:
        source = account.source
        try:
            try:
                return await self._prove(start, source, account.key)
            except SignatureError as error:
                key = await self._fresh_key(start.job)
                if key == account.key:
                    raise
                _log.info("key_changed", did=start.job.did, detail=str(error))
                return await self._prove(start, source, key)
        except SpoolError as error:
            _log.warning("waiting", detail=str(error), retry_s=RETRY_S)
            return Held(start, str(error), RETRY_S)
        except IdentityUnavailableError as error:
            return _unavailable(start, error, is_last_source=source.is_last)
        except (ProtocolError, UnusableError) as error:
            return Failed(start, str(error), is_last_source=source.is_last)

    async def _fresh_key(self, job: Job) -> VerifyingKey:
        identity: Identity = await self._resolver.resolve(job.did, past_caches=True)
        return identity.require_key()

    async def _prove(self, start: Start, source: Source, key: VerifyingKey) -> Outcome:
        """Downloads a repository and proves it with a key."""
        job, host, asked_us = start.job, host_name(source.origin), _now_us()
        server = source.origin if self._base is None else f"{self._base}/{host}"
        url = f"{server}{GET_REPO_PATH}?did={quote(job.did, safe=':')}"
        fed_bytes = 0
        async with AsyncExitStack() as stack:
            proof = stack.enter_context(Proof(job.did, key, self._spool, self._limits.repo))

            async def sink(piece: bytes) -> None:
                nonlocal fed_bytes
                if fed_bytes <= LARGE_BYTES < fed_bytes + len(piece):
                    await stack.enter_async_context(self._large)
                fed_bytes += len(piece)
                await self._in_thread(proof, lambda: proof.feed(piece))

            answer = await self._fetcher.stream(url, sink, self._limits.stream)
            if origin_of(answer.url) != origin_of(URL(url)):
                host = host_name(str(answer.url))  # it was redirected
            if answer.status != 200:
                return _refusal(start, source, answer, host, asked_us)
            spooled = await self._in_thread(proof, proof.finish)
        try:
            check_rev_not_future(spooled.verified.commit.rev, _now_us())
        except ProtocolError:
            spooled.file.close()
            raise
        return Fetched(start, source, host, spooled, asked_us)

    async def _in_thread(self, proof: Proof, call: Callable[[], _Result]) -> _Result:
        """Calls something in a proving thread; who is cut off meanwhile waits for its end."""
        future = asyncio.get_running_loop().run_in_executor(self._threads, call)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            proof.is_given_up = True
            await asyncio.wait([future])
            if future.exception() is None and isinstance(spooled := future.result(), Spooled):
                spooled.file.close()
            raise


def _refusal(start: Start, source: Source, answer: Answer, host: str, asked_us: int) -> Outcome:
    """Says what it means that a server gives no repository."""
    name = error_name(answer.body)
    try:
        error = RepoError(name or "")
    except ValueError:
        detail = f"{answer.url} answered with status {answer.status}"
        return Failed(start, f"{detail} {name or ''}".rstrip(), is_last_source=source.is_last)
    if not source.is_last:
        # A relay, or a server that the account may have left: its own one has the last word.
        return Failed(start, f"{host} says {error}", is_last_source=False)
    return Missing(start, error, _STATUS_BY_ERROR[error], host, asked_us)


def error_name(body: bytes) -> str | None:
    """Returns the name of the error that the body of an answer tells, if it is one of XRPC.

    Args:
        body: bytes of any kind.
    """
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    name = fields.get("error") if isinstance(fields, dict) else None
    return name if isinstance(name, str) else None


def _unavailable(
    start: Start, error: IdentityUnavailableError, *, is_last_source: bool
) -> Outcome:
    if error.retry_after_s is None:
        return Failed(start, str(error), is_last_source=is_last_source)
    return Held(start, str(error), error.retry_after_s)


def _let_go(outcome: Outcome) -> None:
    if isinstance(outcome, Fetched):
        outcome.spooled.file.close()


def _now_us() -> int:
    return time.time_ns() // 1_000
