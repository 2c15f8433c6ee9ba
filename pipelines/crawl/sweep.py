"""The sweep: what changed while an upstream's events were missing is asked for.

A message of `gaps` says that events of an upstream are missing, not which. So the list that the
upstream gives of its repositories is compared with `repos`, and what differs is asked for:

    listed, and newer or of another status than here    the list shows it
    here by this upstream, and no longer listed         it may have gone in the gap

One sweep answers all gaps of an upstream that were known when it began. That they are answered is
written (topic `crawls`) after its last requests: if it is ended before, it begins anew. Requests
may then be there twice, which have one fetch as their consequence.

Memory is that of a backfill with one list.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

from pipelines import logs
from pipelines.atproto.errors import ProtocolError
from pipelines.atproto.syntax import Did, parse_datetime
from pipelines.bridge.messages import parse_gap
from pipelines.config import KafkaConfig
from pipelines.crawl.candidates import Judgment, is_missed, judge_for_sweep
from pipelines.crawl.census import Before, Census, census
from pipelines.crawl.listing import PAGE_LIMIT, Listing, Walk
from pipelines.crawl.lists import HostList
from pipelines.crawl.progress import TOPIC, Job, Progress, State, Target
from pipelines.crawl.walking import Taken, Walker
from pipelines.crawl.writing import STAGE, RequestWriter, stored_progress
from pipelines.errors import FencedError
from pipelines.kafka.admin import check_partitions
from pipelines.kafka.beat import TOPIC as STATUS
from pipelines.kafka.beat import Report
from pipelines.kafka.beat import State as BeatState
from pipelines.kafka.following import Follower
from pipelines.kafka.heartbeat import heartbeat
from pipelines.kafka.messages import InputMessage
from pipelines.kafka.reading import log_ends, read_between
from pipelines.repair.requests import Cause, Request

SLOT: Final = "sweep"
# How often it is looked whether there is a new gap.
POLL_INTERVAL_S: Final = 2.0
# Until an upstream that was away, or gave no list, is asked again.
RETRY_INTERVAL_S: Final = 60.0

_GAPS: Final = "gaps"
_POLL_COUNT: Final = 1_000

_log = logs.get_logger(STAGE)


@dataclass(frozen=True, slots=True)
class Due:
    """The gaps of an upstream that are to be answered.

    Attributes:
        next_offset: the offset in `gaps` after the last of them.
        since_us: when the first of those began of which that is known, microseconds since the
            epoch; None if it is known of none.
    """

    next_offset: int
    since_us: int | None


def due_after(
    due: Mapping[str, Due], messages: Iterable[InputMessage], answered: Mapping[str, int]
) -> dict[str, Due]:
    """Returns what is to be answered once some more messages of `gaps` are known. Pure.

    Args:
        due: what is to be answered before them, by upstream.
        messages: in their order.
        answered: the offset in `gaps` up to which gaps are answered, by upstream.
    """
    after = dict(due)
    for message in messages:
        assert message.value is not None
        gap = parse_gap(message.value)
        if message.offset < answered.get(gap.host, 0):
            continue
        times = [_time_us(gap.from_time), after[gap.host].since_us if gap.host in after else None]
        since_us = min((time_us for time_us in times if time_us is not None), default=None)
        after[gap.host] = Due(message.offset + 1, since_us)
    return after


class Sweep:
    """Answers gaps; to be run once.

    Attributes:
        counts: what became of repositories, as far as it is committed. Replaced and not changed,
            as others read it.
        problems: why upstreams could not be swept the last time, by host.
        due: what is still to be answered, by host.
    """

    def __init__(
        self,
        kafka: KafkaConfig,
        list_of: Callable[[str], HostList],
        stop: threading.Event,
        *,
        follows: bool,
    ) -> None:
        """Prepares it.

        Args:
            kafka: the cluster.
            list_of: returns the list of an upstream, by its host as `gaps` names it.
            stop: ends it after the page in hand.
            follows: whether to wait for further gaps.
        """
        self.counts: Counter[Judgment] = Counter()
        self.problems: dict[str, str] = {}
        self.due: Mapping[str, Due] = {}
        self._kafka = kafka
        self._list_of = list_of
        self._stop = stop
        self._follows = follows
        self._state = BeatState.STARTING
        self._answered: dict[str, int] = {}

    def report(self) -> Report:
        """Returns what it has to say for its sign of life."""
        problems = "; ".join(f"{host}: {problem}" for host, problem in self.problems.items())
        return Report(
            state=BeatState.WAITING if problems else self._state,
            detail=problems or None,
            counters={
                "inputs": self.counts.total(),
                "outputs": self.counts[Judgment.REQUESTED],
            },
            groups={"repositories": {str(name): count for name, count in self.counts.items()}},
        )

    def run(self) -> None:
        """Answers the gaps that there are, and those to come if it follows.

        Raises:
            BrokerUnavailableError: the broker does not answer.
            ConfigError: a topic is missing.
            FencedError: another sweep has taken over.
        """
        check_partitions(self._kafka, ["repos", "resyncs", _GAPS, TOPIC, STATUS])
        with (
            heartbeat(self._kafka, STAGE, SLOT, self.report),
            closing(RequestWriter(self._kafka, SLOT, self._stop)) as writer,
            closing(Follower(self._kafka)) as follower,
        ):
            for progress in stored_progress(self._kafka, Job.SWEEP).values():
                host = progress.target.subject.removeprefix(f"{_GAPS} ")
                self._answered[host] = int(progress.walk.cursor or 0)
            where = (self._kafka.topic(_GAPS), 0)
            ends = log_ends(self._kafka, [where], is_readable=True)
            messages = read_between(self._kafka, {where: 0}, ends)
            self.due = due_after({}, messages, self._answered)
            follower.assign(ends)
            try:
                self._answer_all(follower, writer)
            except FencedError as error:
                raise FencedError(
                    "another sweep has taken over; only one can run at a time, so stop one of "
                    f"them ({error})"
                ) from None

    def _answer_all(self, follower: Follower, writer: RequestWriter) -> None:
        self._state = BeatState.RUNNING
        while not self._stop.is_set():
            for host, gaps in self.due.items():
                problem = self._answer(host, gaps, writer)
                if self._stop.is_set():
                    break
                if problem is not None:
                    _log.warning("sweep_failed", host=host, detail=problem)
                self.problems = _with(self.problems, host, problem)
            self.due = {
                host: gaps
                for host, gaps in self.due.items()
                if gaps.next_offset > self._answered.get(host, 0)
            }
            if not self._follows:
                return
            retry_s = time.monotonic() + RETRY_INTERVAL_S
            while not self._stop.wait(POLL_INTERVAL_S):
                messages = follower.poll(_POLL_COUNT)
                self.due = due_after(self.due, messages, self._answered)
                if messages or (self.due and time.monotonic() >= retry_s):
                    break

    def _answer(self, host: str, gaps: Due, writer: RequestWriter) -> str | None:
        """Sweeps an upstream; returns why not, if it could not be."""
        repos = self._list_of(host)
        begun = Progress(Target(Job.SWEEP, f"{_GAPS} {host}"))
        last: Progress = begun
        started_us = time.time_ns() // 1_000
        _log.info("sweep_begins", host=host, list=repos.subject)
        partitions_count = check_partitions(self._kafka, ["repos"])["repos"]
        with census(self._kafka, partitions_count) as known:

            def judge(subject: str, listing: Listing) -> Judgment:
                if known.mark_listed(listing.did, subject) is not Before.NOBODY:
                    return Judgment.AGAIN
                return judge_for_sweep(listing, known.get(listing.did), gaps.since_us)

            def take(taken: Sequence[Taken]) -> None:
                nonlocal last
                for _, (before, after, wanted) in taken:
                    writer.write(_requests(listing.did for listing in wanted))
                    self.counts = self.counts + Counter(after.counts) - Counter(before.counts)
                    last = after
                writer.wait_for_room()
                known.catch_up()

            walker = Walker(judge, take, self._stop.is_set, concurrent_count=1)
            walker.run([(repos, begun)])
            if last.state is not State.DONE:
                return walker.away.get(begun.target.subject) or last.problem or "it was stopped"
            self._finish(host, last, gaps, _missed(known, host, started_us), writer)
        _log.info(
            "sweep_done",
            host=host,
            listed=last.listed_count,
            requested=last.counts.get(Judgment.REQUESTED, 0),
        )
        return None

    def _finish(
        self,
        host: str,
        last: Progress,
        gaps: Due,
        missed: Iterator[Did],
        writer: RequestWriter,
    ) -> None:
        """Asks for what is no longer listed, and notes that the gaps are answered."""
        counts = Counter(last.counts)
        while not self._stop.is_set() and (dids := list(islice(missed, PAGE_LIMIT))):
            writer.write(_requests(dids))
            counts[Judgment.REQUESTED] += len(dids)
            self.counts = self.counts + Counter({Judgment.REQUESTED: len(dids)})
            writer.wait_for_room()
        if self._stop.is_set():
            return
        cursor = str(gaps.next_offset)
        done = replace(last, walk=Walk(cursor, last.walk.pages_count), counts=dict(counts))
        writer.write([], [done])
        self._answered[host] = gaps.next_offset


def _with(problems: Mapping[str, str], host: str, problem: str | None) -> dict[str, str]:
    """Returns problems with that of a host as it is now, as a new value: others read the old."""
    others = {name: detail for name, detail in problems.items() if name != host}
    return others if problem is None else {**others, host: problem}


def _missed(known: Census, host: str, listed_us: int) -> Iterator[Did]:
    return (did for did, repo in known.unlisted() if is_missed(repo, host, listed_us))


def _requests(dids: Iterable[Did]) -> list[Request]:
    now_us = time.time_ns() // 1_000
    # The server that the account names is asked, and not the upstream: it may be behind, too.
    return [Request(did, Cause.SWEEP, None, None, None, now_us) for did in dids]


def _time_us(time: str | None) -> int | None:
    if time is None:
        return None
    try:
        return parse_datetime(time)
    except ProtocolError:
        return None
