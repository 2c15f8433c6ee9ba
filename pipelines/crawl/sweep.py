"""The sweep: what changed while an upstream's events were missing is asked for.

A message of `gaps` says that events of an upstream are missing, not which. So the list that the
upstream gives of its repositories is compared with `repos`, and what differs is asked for:

    listed, and newer or of another status than here    the list shows it
    here by this upstream, and no longer listed         it may have gone in the gap

One sweep answers all gaps of an upstream that were known when it began. That they are answered is
written (topic `crawls`) after its last requests; if it is ended before, it goes on where it was
(`round.py`, which also says what is in memory).
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Final

from pipelines import logs
from pipelines.atproto.errors import ProtocolError
from pipelines.atproto.syntax import parse_datetime
from pipelines.bridge.messages import parse_gap
from pipelines.compact.tracking import EVERYTHING, Tracked
from pipelines.config import KafkaConfig
from pipelines.crawl.candidates import Judgment
from pipelines.crawl.census import census
from pipelines.crawl.listed import TOPIC as LISTINGS
from pipelines.crawl.listing import Walk
from pipelines.crawl.lists import HostList
from pipelines.crawl.progress import TOPIC, Job, Progress, Target
from pipelines.crawl.round import Round, begin, can_go_on
from pipelines.crawl.settling import TOPICS, Settling
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
        tracked: Tracked = EVERYTHING,
    ) -> None:
        """Prepares it.

        Args:
            kafka: the cluster.
            list_of: returns the list of an upstream, by its host as `gaps` names it.
            stop: ends it after the page in hand.
            follows: whether to wait for further gaps.
            tracked: which repositories are taken up.
        """
        self.counts: Counter[Judgment] = Counter()
        self.problems: dict[str, str] = {}
        self.due: Mapping[str, Due] = {}
        self._kafka = kafka
        self._list_of = list_of
        self._stop = stop
        self._follows = follows
        self._tracked = tracked
        self._state = BeatState.STARTING
        self._waits_for: str | None = None
        self._answered: dict[str, int] = {}
        self._begun: dict[str, Progress] = {}

    def report(self) -> Report:
        """Returns what it has to say for its sign of life."""
        problems = [f"{host}: {problem}" for host, problem in self.problems.items()]
        details = "; ".join([self._waits_for] if self._waits_for else problems)
        return Report(
            state=BeatState.WAITING if details else self._state,
            detail=details or None,
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
        check_partitions(self._kafka, [*TOPICS, "resyncs", _GAPS, LISTINGS, TOPIC, STATUS])
        with (
            heartbeat(self._kafka, STAGE, SLOT, self.report),
            closing(RequestWriter(self._kafka, SLOT, self._stop)) as writer,
            closing(Follower(self._kafka)) as follower,
            closing(Settling(self._kafka, self._stop, self._wait_for)) as settling,
        ):
            for subject, progress in stored_progress(self._kafka, Job.SWEEP).items():
                if progress.answer is not None:
                    self._begun[subject] = progress
                else:
                    host = subject.removeprefix(f"{_GAPS} ")
                    self._answered[host] = int(progress.walk.cursor or 0)
            where = (self._kafka.topic(_GAPS), 0)
            ends = log_ends(self._kafka, [where], is_readable=True)
            messages = read_between(self._kafka, {where: 0}, ends)
            self.due = due_after({}, messages, self._answered)
            follower.assign(ends)
            try:
                self._answer_all(follower, writer, settling)
            except FencedError as error:
                raise FencedError(
                    "another sweep has taken over; only one can run at a time, so stop one of "
                    f"them ({error})"
                ) from None

    def _answer_all(self, follower: Follower, writer: RequestWriter, settling: Settling) -> None:
        self._state = BeatState.RUNNING
        while not self._stop.is_set():
            for host, gaps in self.due.items():
                problem = self._answer(host, gaps, writer, settling)
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

    def _answer(
        self, host: str, gaps: Due, writer: RequestWriter, settling: Settling
    ) -> str | None:
        """Sweeps an upstream; returns why not, if it could not be."""
        repos = self._list_of(host)
        progress = self._begun.get(repos.subject)
        if progress is None or not can_go_on(self._kafka, progress):
            progress = begin(self._kafka, repos, host, gaps.next_offset, gaps.since_us)
        _log.info(
            "sweep_begins", host=host, list=repos.subject, listed_before=progress.listed_count
        )
        partitions_count = check_partitions(self._kafka, ["repos"])["repos"]
        with census(self._kafka, partitions_count) as known:
            reading = Round(
                self._kafka,
                repos,
                progress,
                known,
                writer,
                settling,
                self._stop,
                self._count,
                self._tracked,
            )
            problem = reading.run()
        done = reading.progress
        self._begun[repos.subject] = done
        if problem is not None:
            return problem
        self._finish(host, done, writer)
        _log.info(
            "sweep_done",
            host=host,
            listed=done.listed_count,
            requested=done.counts.get(Judgment.REQUESTED, 0),
        )
        return None

    def _finish(self, host: str, done: Progress, writer: RequestWriter) -> None:
        """Notes that the gaps are answered, and forgets how far the list was read."""
        assert done.answer is not None
        next_offset = done.answer.next_offset
        answered = replace(
            done,
            target=Target(Job.SWEEP, f"{_GAPS} {host}"),
            walk=Walk(str(next_offset), done.walk.pages_count),
            answer=None,
        )
        writer.write([], [answered], forgotten=[done.target])
        del self._begun[done.target.subject]
        self._answered[host] = next_offset

    def _count(self, counts: Counter[Judgment]) -> None:
        self.counts = self.counts + counts

    def _wait_for(self, detail: str | None) -> None:
        self._waits_for = detail


def _with(problems: Mapping[str, str], host: str, problem: str | None) -> dict[str, str]:
    """Returns problems with that of a host as it is now, as a new value: others read the old."""
    others = {name: detail for name, detail in problems.items() if name != host}
    return others if problem is None else {**others, host: problem}


def _time_us(time: str | None) -> int | None:
    if time is None:
        return None
    try:
        return parse_datetime(time)
    except ProtocolError:
        return None
