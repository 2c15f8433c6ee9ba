"""Lists of many hosts, read side by side: each page taken in before the next one is asked for.

    lists ─► requests for pages ─► steps ─► taken in (and written) ─► the next page

So what is in memory is one page of each list that is being read, and whoever takes steps in slowly
slows the reading down. A host that is away is asked again a few times, with pauses that double,
and then left for another day.
"""

import concurrent.futures
import heapq
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Final, NamedTuple, Protocol

from pipelines import logs
from pipelines.crawl.candidates import Judgment
from pipelines.crawl.listing import Listing, ListingError, Page
from pipelines.crawl.progress import Progress, State, Step, cut, step
from pipelines.errors import IdentityUnavailableError
from pipelines.identity.fetching import AbsentError, UnusableError

# How often a page is asked for in vain, and the pauses between: some two minutes in all.
ATTEMPTS_COUNT: Final = 6
MIN_PAUSE_S: Final = 4.0
WAKE_S: Final = 0.2

_log = logs.get_logger("crawl")


class RepoList(Protocol):
    """A list of repositories, page by page."""

    @property
    def subject(self) -> str:
        """What it is called in `crawls`."""

    @property
    def most_count(self) -> int | None:
        """How many repositories it may have; None for any number."""

    @property
    def host(self) -> str | None:
        """Base URL of the host that says it has these repositories; None if nobody says so."""

    def request(self, cursor: str | None) -> Future[Page]:
        """Begins to read a page.

        The outcome may be a `ListingError`, or what `pipelines.identity.fetching` raises.

        Args:
            cursor: that the page before named; None for the first one.
        """


class Taken(NamedTuple):
    """A page that was read, with the list that it is of."""

    repos: RepoList
    step: Step


@dataclass(order=True, slots=True)
class _Visit:
    """A list that is being read: waiting until it is due, or for its next page."""

    due_s: float
    number: int
    repos: RepoList = field(compare=False)
    progress: Progress = field(compare=False)
    failures_count: int = field(compare=False, default=0)


class Walker:
    """Reads lists. For one thread.

    Attributes:
        away: the problem of each list that was left for another day, by its subject.
    """

    def __init__(
        self,
        judge: Callable[[str, Listing], Judgment],
        take: Callable[[Sequence[Taken]], None],
        should_stop: Callable[[], bool],
        concurrent_count: int,
    ) -> None:
        """Takes what tells what to do with pages.

        Args:
            judge: as for `pipelines.crawl.progress.step`, of the list of that subject.
            take: takes steps of different lists in; may take its time.
            should_stop: asked all the time; what was not taken in by then is read again.
            concurrent_count: lists that are read at once.
        """
        self.away: dict[str, str] = {}
        self._judge = judge
        self._take = take
        self._should_stop = should_stop
        self._concurrent_count = concurrent_count
        self._running: dict[Future[Page], _Visit] = {}
        self._waiting: list[_Visit] = []

    def run(self, lists: Iterable[tuple[RepoList, Progress]]) -> None:
        """Reads lists to their ends, or until a stop.

        Args:
            lists: each with its progress so far; taken one by one, as there is room.
        """
        numbers = itertools.count()
        begun = (_Visit(0.0, next(numbers), *item) for item in lists)
        try:
            while not self._should_stop():
                self._start(begun)
                if not self._running and not self._waiting:
                    return
                self._land()
        finally:
            for page in self._running:
                page.cancel()

    def _start(self, begun: Iterator[_Visit]) -> None:
        """Asks for pages, as long as there is room; those that are due come first."""
        while len(self._running) < self._concurrent_count:
            visit: _Visit | None
            if self._waiting and self._waiting[0].due_s <= time.monotonic():
                visit = heapq.heappop(self._waiting)
            else:
                visit = next(begun, None)
            if visit is None:
                return
            self._request(visit)

    def _request(self, visit: _Visit) -> None:
        self._running[visit.repos.request(visit.progress.walk.cursor)] = visit

    def _land(self) -> None:
        """Takes in the pages that have come."""
        if not self._running:
            time.sleep(WAKE_S)
            return
        done, _ = concurrent.futures.wait(
            self._running, WAKE_S, concurrent.futures.FIRST_COMPLETED
        )
        landed = []
        for page in done:
            visit = self._running.pop(page)
            taken = self._step(visit, page)
            if taken is not None:
                landed.append((visit, taken))
        if not landed:
            return
        self._take([Taken(visit.repos, taken) for visit, taken in landed])
        for visit, (_, after, _) in landed:
            if after.state is State.RUNNING:
                visit.progress, visit.failures_count = after, 0
                self._request(visit)

    def _step(self, visit: _Visit, page: Future[Page]) -> Step | None:
        """Returns what a page comes to; None if the host is away."""
        progress = visit.progress
        try:
            judge = partial(self._judge, visit.repos.subject)
            return step(progress, page.result(), judge, visit.repos.most_count)
        except (ListingError, AbsentError, UnusableError) as error:
            return Step(progress, cut(progress, str(error)))
        except IdentityUnavailableError as error:
            self._postpone(visit, error)
            return None

    def _postpone(self, visit: _Visit, error: IdentityUnavailableError) -> None:
        subject = visit.progress.target.subject
        visit.failures_count += 1
        if visit.failures_count == ATTEMPTS_COUNT:
            self.away[subject] = str(error)
            _log.warning("host_away", list=subject, detail=str(error))
            return
        pause_s = MIN_PAUSE_S * 2 ** (visit.failures_count - 1)
        visit.due_s = time.monotonic() + max(pause_s, error.retry_after_s or 0.0)
        heapq.heappush(self._waiting, visit)
