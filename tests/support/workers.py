"""Explode workers in threads of the test, with a directory that the test breaks and mends."""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from support.judge import still_parked
from support.kafka import is_caught_up, wait_until

from pipelines.atproto.syntax import Did
from pipelines.config import KafkaConfig
from pipelines.errors import IdentityUnavailableError
from pipelines.explode import service
from pipelines.explode.service import Limits
from pipelines.identity.documents import Identity
from pipelines.identity.lookups import DidResolver
from pipelines.identity.plc import KeyHistory

WORKER_KEYS_COUNT = 1_000


class Directory:
    """What all workers ask: the answers of a resolver, as far as the test lets them out.

    Attributes:
        is_away: whether nobody can say anything.
        away: accounts about which nobody can say anything.
        retry_after_s: the wish for a pause that then comes along.
        held: accounts whose answers do not come before they are taken out.
        asked: requests by account.
    """

    def __init__(self, answers: DidResolver) -> None:
        self.answers = answers
        self.is_away = False
        self.away: set[Did] = set()
        self.retry_after_s: float | None = 0.2
        self.held: set[Did] = set()
        self.asked: Counter[Did] = Counter()

    def client(self) -> DidResolver:
        """Returns a worker's way to ask."""
        return _Client(self)

    async def answer(self, did: Did) -> None:
        self.asked[did] += 1
        while did in self.held:  # noqa: ASYNC110 - released by another thread
            await asyncio.sleep(0.01)
        if self.is_away or did in self.away:
            raise IdentityUnavailableError("away", retry_after_s=self.retry_after_s)


class _Client:
    """One worker's way to the directory."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    def source_of(self, did: Did) -> str:
        return self._directory.answers.source_of(did)

    async def resolve(self, did: Did, *, past_caches: bool = False) -> Identity:
        await self._directory.answer(did)
        return await self._directory.answers.resolve(did, past_caches=past_caches)

    async def audit_log(self, did: Did) -> KeyHistory | None:
        await self._directory.answer(did)
        return await self._directory.answers.audit_log(did)

    async def close(self) -> None:
        """Holds nothing."""


class StageThread:
    """A stage in a thread of the test; as a context it runs and is stopped in the end."""

    def __init__(self, name: str, run: Callable[[Callable[[], bool]], None]) -> None:
        self._stop = threading.Event()
        self.failures: list[BaseException] = []

        def target() -> None:
            try:
                run(self._stop.is_set)
            except BaseException as error:  # noqa: BLE001 - the test judges it
                self.failures.append(error)

        self._thread = threading.Thread(target=target, name=name)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join(120)
        if exc is None:
            assert not self._thread.is_alive()
            assert self.failures == [], self.failures


class Worker(StageThread):
    """One worker."""

    def __init__(
        self,
        config: KafkaConfig,
        create_resolver: Callable[[], DidResolver],
        folder: Path,
        *,
        slot: str = "0",
        waiting_s: float = 3_600,
    ) -> None:
        def run(should_stop: Callable[[], bool]) -> None:
            service.run(
                config,
                create_resolver(),
                folder / slot,
                slot=slot,
                should_stop=should_stop,
                limits=Limits(WORKER_KEYS_COUNT, waiting_s),
            )

        super().__init__(f"worker-{slot}", run)


def wait_for_positions(config: KafkaConfig) -> None:
    """Waits until workers have gone past every frame, judged or parked."""
    wait_until(
        lambda: is_caught_up(config, "explode", config.topic("frames")),
        "the end of the frames",
    )


def wait_until_nothing_is_parked(config: KafkaConfig) -> None:
    """Waits until every frame that was parked has been judged."""
    wait_until(lambda: not still_parked(config), "the parked frames to be judged")
