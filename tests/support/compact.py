"""A compact process in a thread."""

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Self

from support.kafka import is_caught_up, wait_until

from pipelines.compact import service
from pipelines.compact.accounts import Policy
from pipelines.config import KafkaConfig

# What is not about deletions does not wait for anybody to confirm them.
AT_ONCE = Policy(purge_after_s=0)


class Running:
    """A compact process in a thread; leaving the context stops it and raises what it raised."""

    def __init__(
        self,
        config: KafkaConfig,
        folder: Path,
        slot: str = "0",
        policy: Policy = AT_ONCE,
    ) -> None:
        self._config = config
        self._folder = folder
        self._slot = slot
        self._policy = policy
        self._stop = threading.Event()
        self._failures: list[BaseException] = []
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            self.run()
        except BaseException as error:  # noqa: BLE001 - raised again by __exit__
            self._failures.append(error)

    def run(self) -> None:
        """Runs in this thread until it is asked to stop."""
        service.run(
            self._config,
            self._folder,
            slot=self._slot,
            policy=self._policy,
            should_stop=self._stop.is_set,
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(120)
        assert not self._thread.is_alive()
        assert self._failures == [], self._failures

    def finish(self) -> None:
        """Waits until every event is worked off."""
        topic = self._config.topic("events")
        self.wait_until(
            lambda: is_caught_up(self._config, "compact", topic), "compact to work off its input"
        )

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Waits for something that the process has to do; ends at once if it failed."""
        wait_until(lambda: bool(self._failures) or condition(), what)


def lose(folder: Path) -> None:
    """Removes the stores of a stopped process."""
    shutil.rmtree(folder)
