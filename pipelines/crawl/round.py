"""One list of an upstream, read and compared for a sweep; from where an earlier one was ended.

    1. pages are read, and what differs from `repos` is noted
    2. after some of them, or at the end: once `repos` has caught up (`settling.py`), what still
       differs is asked for, in one transaction with how far the list was read and what it had
    3. what is here by this upstream, and was on no page, is asked for likewise

So a round may be ended at any moment, by a kill too, and goes on after the last transaction.

Memory: what `HELD_PAGES_COUNT`, `HELD_WANTED_COUNT` and `HELD_LISTED_COUNT` name (each passed by a
page at most), and that of a backfill with one list.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Final

from pipelines.atproto.syntax import Did
from pipelines.compact.tracking import Tracked
from pipelines.config import KafkaConfig
from pipelines.crawl.candidates import Judgment, is_missed, judge_for_sweep
from pipelines.crawl.census import Before, Census
from pipelines.crawl.listed import TOPIC as LISTINGS
from pipelines.crawl.listed import fingerprint, listed_messages, parse_listed
from pipelines.crawl.listing import PAGE_LIMIT, Listing
from pipelines.crawl.lists import HostList
from pipelines.crawl.progress import Answer, Job, Progress, State, Target
from pipelines.crawl.settling import Settling
from pipelines.crawl.walking import Taken, Walker
from pipelines.crawl.writing import RequestWriter
from pipelines.kafka.messages import OutputMessage
from pipelines.kafka.reading import log_starts, read_between, readable_log_ends
from pipelines.repair.requests import Cause, Request

# Each time, `repos` has to catch up and a transaction is written: together a second or so. What
# is held is read again after a kill.
HELD_PAGES_COUNT: Final = 50
HELD_WANTED_COUNT: Final = 1_000
# A hostile page has a quarter of a million.
HELD_LISTED_COUNT: Final = 100_000

_STOPPED: Final = "it was stopped"


def can_go_on(kafka: KafkaConfig, progress: Progress) -> bool:
    """Tells whether a list can be read on from where an earlier round was ended.

    Args:
        kafka: the cluster.
        progress: how far it came.

    Raises:
        BrokerUnavailableError: the broker does not answer.
    """
    if progress.answer is None or progress.state is State.CUT:
        return False
    where = (kafka.topic(LISTINGS), 0)
    # What the first pages had may be deleted by now.
    return (log_starts(kafka, [where])[where] or 0) <= progress.answer.listings_offset


def begin(
    kafka: KafkaConfig, repos: HostList, host: str, next_offset: int, since_us: int | None
) -> Progress:
    """Returns the progress of a list of which nothing was read.

    Args:
        kafka: the cluster.
        repos: the list.
        host: as of `Answer`, as are the other two.
        next_offset: which gaps it answers.
        since_us: when they began.

    Raises:
        BrokerUnavailableError: the broker does not answer.
    """
    where = (kafka.topic(LISTINGS), 0)
    end_offset = readable_log_ends(kafka, [where])[where]
    answer = Answer(host, next_offset, since_us, time.time_ns() // 1_000, end_offset)
    return Progress(Target(Job.SWEEP, repos.subject), answer=answer)


@dataclass(slots=True)
class _Held:
    """Pages that were read, and of which nothing is written yet.

    Attributes:
        pages_count: how many.
        counts: what became of repositories on them, but for those that differ.
        wanted: those that differ.
        fingerprints: of all of them.
    """

    pages_count: int = 0
    counts: Counter[Judgment] = field(default_factory=Counter)
    wanted: list[Listing] = field(default_factory=list)
    fingerprints: list[bytes] = field(default_factory=list)

    @property
    def is_full(self) -> bool:
        return (
            self.pages_count >= HELD_PAGES_COUNT
            or len(self.wanted) >= HELD_WANTED_COUNT
            or len(self.fingerprints) >= HELD_LISTED_COUNT
        )


class Round:
    """A list that is compared; to be run once, by one thread.

    Attributes:
        progress: how far it came, as it is in Kafka.
    """

    def __init__(
        self,
        kafka: KafkaConfig,
        repos: HostList,
        progress: Progress,
        known: Census,
        writer: RequestWriter,
        settling: Settling,
        stop: threading.Event,
        on_counts: Callable[[Counter[Judgment]], None],
        tracked: Tracked,
    ) -> None:
        """Prepares it.

        Args:
            kafka: the cluster.
            repos: the list.
            progress: where to go on, as of `begin` or of a round that was ended.
            known: what `repos` says, in which nothing is marked as listed.
            writer: takes requests.
            settling: waits until that is up to date.
            stop: ends it after the page in hand.
            on_counts: told what became of repositories, once it is committed.
            tracked: which repositories are taken up.
        """
        assert progress.answer is not None
        self.progress = progress
        self._answer: Answer = progress.answer
        self._kafka = kafka
        self._repos = repos
        self._known = known
        self._writer = writer
        self._settling = settling
        self._stop = stop
        self._on_counts = on_counts
        self._tracked = tracked
        self._held = _Held()

    def run(self) -> str | None:
        """Compares the list, and what it does not have; returns why not, if it could not be.

        Raises:
            BrokerUnavailableError: the broker does not answer.
            FencedError: another sweep has taken over.
        """
        self._restore()
        if self.progress.state is State.RUNNING:
            problem = self._read_list()
            if problem is not None:
                return problem
        elif not self._settling.wait():
            return _STOPPED
        self._known.catch_up()
        self._ask_for_missed()
        return _STOPPED if self._stop.is_set() else None

    def _read_list(self) -> str | None:
        """Compares what is listed; returns why not to its end, if it was not."""
        walker = Walker(self._judge, self._take, self._stop.is_set, concurrent_count=1)
        walker.run([(self._repos, self.progress)])
        if self.progress.state is State.DONE:
            return None
        return walker.away.get(self._repos.subject) or self.progress.problem or _STOPPED

    def _restore(self) -> None:
        """Marks what was listed on the pages before."""
        where = (self._kafka.topic(LISTINGS), 0)
        starts = {where: self._answer.listings_offset}
        for message in read_between(self._kafka, starts, readable_log_ends(self._kafka, [where])):
            assert message.value is not None
            marks = parse_listed(message.value, self._answer)
            self._known.mark_all_listed(marks, self._repos.subject)

    def _judge(self, subject: str, listing: Listing) -> Judgment:
        if self._known.mark_listed(listing.did, subject) is not Before.NOBODY:
            return Judgment.AGAIN
        self._held.fingerprints.append(fingerprint(listing.did))
        return self._compare(listing)

    def _compare(self, listing: Listing) -> Judgment:
        known = self._known.get(listing.did)
        return judge_for_sweep(listing, known, self._answer.since_us, self._tracked)

    def _take(self, taken: Sequence[Taken]) -> None:
        held = self._held
        for _, (before, after, wanted) in taken:
            held.pages_count += 1
            held.counts += Counter(after.counts) - Counter(before.counts)
            held.wanted += wanted
            if held.is_full or after.state is not State.RUNNING:
                self._write(after)

    def _write(self, after: Progress) -> None:
        """Asks for what still differs once `repos` is up to date; writes how far the list is read.

        After a stop nothing is written: the pages will be read again.
        """
        if (self._held.wanted or after.state is State.DONE) and not self._settling.wait():
            return
        self._known.catch_up()
        held, self._held = self._held, _Held()
        del held.counts[Judgment.REQUESTED]
        wanted = []
        for listing in held.wanted:
            judgment = self._compare(listing)
            held.counts[judgment] += 1
            if judgment is Judgment.REQUESTED:
                wanted.append(listing.did)
        counts = Counter(self.progress.counts) + held.counts
        progress = replace(after, counts=dict(counts), answer=self._answer)
        now_ms = time.time_ns() // 1_000_000
        topic = self._kafka.topic(LISTINGS)
        listed = listed_messages(self._answer, held.fingerprints, topic, now_ms)
        self._commit(wanted, progress, listed)
        self._on_counts(held.counts)
        self._writer.wait_for_room()

    def _ask_for_missed(self) -> None:
        """Asks for what is no longer listed."""
        host, listed_us = self._answer.host, self._answer.listed_us
        missed = (
            did
            for did, repo in self._known.unlisted(self._answer.missed_did)
            if is_missed(repo, host, listed_us)
        )
        while not self._stop.is_set() and (dids := list(islice(missed, PAGE_LIMIT))):
            asked = Counter({Judgment.REQUESTED: len(dids)})
            self._answer = replace(self._answer, missed_did=dids[-1])
            counts = Counter(self.progress.counts) + asked
            self._commit(dids, replace(self.progress, counts=dict(counts), answer=self._answer))
            self._on_counts(asked)
            self._writer.wait_for_room()

    def _commit(
        self, dids: Iterable[Did], progress: Progress, listed: Iterable[OutputMessage] = ()
    ) -> None:
        now_us = time.time_ns() // 1_000
        # The server that the account names is asked, and not the upstream: it may be behind, too.
        requests = [Request(did, Cause.SWEEP, None, None, None, now_us) for did in dids]
        self._writer.write(requests, [progress], others=listed)
        self.progress = progress
