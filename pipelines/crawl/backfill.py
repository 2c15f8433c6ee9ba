"""Backfill: every repository that lists name, and that we do not have, is asked for.

    1. what `repos` has is read, and how far earlier backfills came
    2. lists are read side by side (`walking.py`), and each repository compared (`candidates.py`)
    3. requests and the progress of their lists go into Kafka in one transaction (`writing.py`)

So a backfill may be ended at any moment, by a kill too, and goes on after the last page that led
to requests. It writes nothing but requests: live events of the same repositories keep their order,
and whoever fetches decides what a repository is worth.

Memory: a page of each list that is being read (`MAX_PAGE_BYTES`), the names of lists
(`MAX_LISTS_COUNT`), and what `census.py` and `writing.py` name.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Final

from pipelines import logs
from pipelines.config import KafkaConfig
from pipelines.crawl.candidates import Judgment, judge_for_backfill
from pipelines.crawl.census import Before, Census, census
from pipelines.crawl.listing import Listing
from pipelines.crawl.progress import TOPIC, Job, Progress, State, Step, Target
from pipelines.crawl.rate import Rate
from pipelines.crawl.walking import RepoList, Taken, Walker
from pipelines.crawl.writing import STAGE, RequestWriter, stored_progress
from pipelines.errors import FencedError
from pipelines.kafka.admin import check_partitions
from pipelines.kafka.beat import TOPIC as STATUS
from pipelines.kafka.beat import Report
from pipelines.kafka.beat import State as BeatState
from pipelines.kafka.heartbeat import heartbeat
from pipelines.repair.requests import Cause, Request

SLOT: Final = "backfill"
# Hosts: the network has some thousands.
MAX_LISTS_COUNT: Final = 100_000
# Pages that led to no request are not worth a transaction of 50 ms each; so many are read again
# after a kill.
UNWRITTEN_PAGES_COUNT: Final = 50

_log = logs.get_logger(STAGE)


@dataclass(slots=True)
class Tally:
    """What a backfill has done, and what earlier ones had.

    Attributes:
        counts: what became of listed repositories.
        invalid_count: entries of lists that are no repository.
        lists_count: all lists.
        before_count: of them, those that an earlier backfill has read.
        done_count: those that this one has read to their ends.
        problems: why the others cannot be read on, by the list's name.
    """

    counts: Counter[Judgment] = field(default_factory=Counter)
    invalid_count: int = 0
    lists_count: int = 0
    before_count: int = 0
    done_count: int = 0
    problems: dict[str, str] = field(default_factory=dict)

    @property
    def listed_count(self) -> int:
        """How many repositories were listed."""
        return self.counts.total()

    @property
    def is_complete(self) -> bool:
        """Whether every list was read to its end."""
        return self.before_count + self.done_count == self.lists_count


class Backfill:
    """A backfill, to be run once.

    Attributes:
        tally: what was done, as far as it is committed.
    """

    def __init__(
        self,
        kafka: KafkaConfig,
        lists: Sequence[RepoList],
        stop: threading.Event,
        on_progress: Callable[[Rate], None],
        *,
        expected_count: int | None,
        concurrent_count: int,
    ) -> None:
        """Prepares it.

        Args:
            kafka: the cluster.
            lists: what to read.
            stop: ends it after the pages in hand.
            on_progress: told after each page.
            expected_count: about how many repositories the lists have; None if nobody says.
            concurrent_count: lists that are read at once.
        """
        self.tally = Tally(lists_count=len(lists))
        self._kafka = kafka
        self._lists = lists
        self._stop = stop
        self._on_progress = on_progress
        self._expected_count = expected_count
        self._concurrent_count = concurrent_count
        self._listed_before_count = 0
        self._started_s = time.monotonic()
        self._state = BeatState.STARTING

    def report(self) -> Report:
        """Returns what it has to say for its sign of life."""
        counts = self.tally.counts
        return Report(
            self._state,
            counters={
                "inputs": self.tally.listed_count,
                "outputs": counts[Judgment.REQUESTED],
            },
            groups={"repositories": {str(name): count for name, count in counts.items()}},
        )

    def run(self, *, begins_anew: bool = False) -> Tally:
        """Reads the lists, from where earlier backfills came to.

        Args:
            begins_anew: read all of them from their beginning.

        Returns:
            What was done.

        Raises:
            BrokerUnavailableError: the broker does not answer.
            ConfigError: a topic is missing.
            FencedError: another backfill has taken over.
        """
        partitions_count = check_partitions(self._kafka, ["repos", "resyncs", TOPIC, STATUS])[
            "repos"
        ]
        with (
            heartbeat(self._kafka, STAGE, SLOT, self.report),
            closing(RequestWriter(self._kafka, SLOT, self._stop)) as writer,
            census(self._kafka, partitions_count) as known,
        ):
            stored = {} if begins_anew else stored_progress(self._kafka, Job.BACKFILL)
            self._listed_before_count = sum(
                stored[repos.subject].listed_count
                for repos in self._lists
                if repos.subject in stored
            )
            self._state = BeatState.RUNNING
            walker = Walker(
                lambda subject, listing: _judge(subject, listing, known),
                lambda taken: self._take(taken, writer, known),
                self._stop.is_set,
                self._concurrent_count,
            )
            try:
                walker.run(self._unfinished(stored))
            except FencedError as error:
                raise FencedError(
                    "another backfill has taken over; only one can run at a time, so stop one of "
                    f"them ({error})"
                ) from None
            self.tally.problems |= walker.away
        return self.tally

    def _unfinished(self, stored: Mapping[str, Progress]) -> Iterator[tuple[RepoList, Progress]]:
        for repos in self._lists:
            progress = stored.get(repos.subject) or Progress(Target(Job.BACKFILL, repos.subject))
            match progress.state:
                case State.DONE:
                    self.tally.before_count += 1
                case State.CUT:  # the host may have been mended meanwhile
                    yield repos, Progress(progress.target)
                case State.RUNNING:
                    yield repos, progress

    def _take(self, taken: Sequence[Taken], writer: RequestWriter, known: Census) -> None:
        now_us = time.time_ns() // 1_000
        requests = [
            Request(listing.did, Cause.BACKFILL, None, None, repos.host, now_us)
            for repos, step in taken
            for listing in step.wanted
        ]
        writer.write(requests, [step.after for _, step in taken if _is_worth_writing(step)])
        for _, (before, after, _) in taken:
            self._count(before, after)
        rate = Rate(
            self.tally.listed_count,
            self.tally.counts[Judgment.REQUESTED],
            self.tally.before_count + self.tally.done_count,
            self.tally.lists_count,
            self._left_count(),
            time.monotonic() - self._started_s,
        )
        self._on_progress(rate)
        writer.wait_for_room()
        known.catch_up()

    def _left_count(self) -> int | None:
        if self._expected_count is None:
            return None
        listed_count = self._listed_before_count + self.tally.listed_count
        return max(0, self._expected_count - listed_count)

    def _count(self, before: Progress, after: Progress) -> None:
        tally = self.tally
        # Replaced and not changed, as others read it.
        tally.counts = tally.counts + Counter(after.counts) - Counter(before.counts)
        tally.invalid_count += after.invalid_count - before.invalid_count
        match after.state:
            case State.DONE:
                tally.done_count += 1
            case State.CUT:
                subject, problem = after.target.subject, after.problem or ""
                tally.problems[subject] = problem
                _log.warning("list_cut", list=subject, detail=problem)
            case State.RUNNING:
                pass


def _is_worth_writing(step: Step) -> bool:
    """Tells whether a step is more than a page with nothing to ask for, to be read again."""
    return (
        bool(step.wanted)
        or step.after.state is not State.RUNNING
        or step.after.walk.pages_count % UNWRITTEN_PAGES_COUNT == 0
    )


def _judge(subject: str, listing: Listing, known: Census) -> Judgment:
    match known.mark_listed(listing.did, subject):
        case Before.NOBODY:
            return judge_for_backfill(listing, known.get(listing.did))
        case Before.ANOTHER:
            return Judgment.REPEATED
        case Before.ITSELF:
            return Judgment.AGAIN
