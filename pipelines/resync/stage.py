"""Resync as a stage of the loop: requests in; chunks, manifests and jobs out.

A request becomes a job, in the transaction that commits its position. In between batches, what is
due is looked up and downloaded in another thread; what has landed goes out in slices. The end of a
job is in the transaction of its manifest, which comes after all its chunks: a kill at any point
leaves either the job, and perhaps chunks that nothing names, or the whole answer.
"""

import base64
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, assert_never

from pipelines import logs
from pipelines.atproto.cid import encode_cid
from pipelines.atproto.syntax import Did
from pipelines.errors import TransientError
from pipelines.identity.fetching import host_name
from pipelines.kafka.counts import Tally
from pipelines.kafka.loop import Background
from pipelines.kafka.messages import InputMessage, OutputMessage, Position
from pipelines.repair.manifests import Absent, Manifest, Snapshot, manifest_message
from pipelines.repair.requests import parse_request
from pipelines.resync.delivery import Delivery, Place
from pipelines.resync.downloads import (
    Account,
    Downloads,
    Failed,
    Fetched,
    Held,
    Located,
    Missing,
    Outcome,
)
from pipelines.resync.jobs import (
    Job,
    done_message,
    failed,
    is_satisfied,
    job_message,
    job_of,
    parse_job,
)
from pipelines.resync.schedule import Schedule, Start
from pipelines.resync.spool import Spool

STAGE: Final = "resync"
# When a partition has as many jobs as it may.
FULL_RETRY_S: Final = 1.0
# Repositories that are complete and wait for their transaction; while there are more, nothing new
# is started. Each may have `spool.MEMORY_BYTES` in memory.
MAX_LANDED_COUNT: Final = 64

_SECOND_US: Final = 1_000_000

_log = logs.get_logger(STAGE)


class TooManyJobsError(TransientError):
    """As many repositories as may be are asked for already."""


@dataclass(frozen=True, slots=True)
class Topics:
    """Physical topic names."""

    repairs: str
    chunks: str
    snapshots: str


class ResyncStage:
    """Fetches what is asked for.

    Attributes:
        tally: tries by outcome, and what was written of repositories.
    """

    def __init__(
        self,
        topics: Topics,
        schedule: Schedule,
        downloads: Downloads,
        spool: Spool,
        load: Callable[[Sequence[int]], Iterator[InputMessage]],
        chunk_ends: Callable[[Sequence[int]], Mapping[int, int]],
        clock_us: Callable[[], int],
    ) -> None:
        """Wires the stage.

        Args:
            topics: where outputs go.
            schedule: which job is next.
            downloads: closed with this.
            spool: where downloads wait.
            load: yields what partitions of `repairs` hold, once everything in them is readable.
            chunk_ends: by partition, where `chunks` ends, once everything in it is readable.
            clock_us: the time of day, microseconds since the epoch.
        """
        self._topics = topics
        self._schedule = schedule
        self._downloads = downloads
        self._spool = spool
        self._load = load
        self._chunk_ends = chunk_ends
        self._clock_us = clock_us
        self._deliveries: dict[int, Delivery] = {}
        self._accounts: dict[Did, Account] = {}
        self._last_partition = -1
        self._state: Mapping[str, int] = {}
        self.tally = Tally()

    @property
    def groups(self) -> dict[str, Mapping[str, int]]:
        """What was counted, and what is under way."""
        return {**self.tally.groups, "repairs": self._state}

    def close(self) -> None:
        """Cuts off downloads and lets go of what waits."""
        self._downloads.close()
        self._forget()

    def prepare(self, batch: Sequence[InputMessage]) -> None:
        """Needs nothing from outside."""

    def process(self, message: InputMessage) -> Sequence[OutputMessage]:
        """Takes a request over as a job.

        Raises:
            TooManyJobsError: there is no room.
        """
        request = parse_request(message.value or b"")
        pending = self._schedule.find(request.did)
        if pending is None and self._schedule.is_full(message.partition):
            raise TooManyJobsError(
                "as many repositories are asked for as may be: further requests wait in the topic",
                retry_after_s=FULL_RETRY_S,
            )
        first_due_us = self._schedule.first_due_us(request.did, self._clock_us())
        job = job_of(request, message.offset, pending, first_due_us)
        self._schedule.put(job, message.partition)
        self.tally.add("requests", request.cause)
        return [job_message(job, message.partition, self._topics.repairs)]

    def restore(self, partitions: Sequence[int]) -> Iterator[None]:
        """Takes over the jobs of newly assigned partitions; what was under way begins anew."""
        self._downloads.cancel()
        self._forget()
        ends = self._chunk_ends(partitions)
        jobs: dict[bytes, tuple[Job, int]] = {}
        for number, message in enumerate(self._load(partitions)):
            assert message.key is not None
            if message.value is None:
                jobs.pop(message.key, None)
            else:
                jobs[message.key] = parse_job(message.value), message.partition
            if number % 1_000 == 0:
                yield
        self._schedule.restore(jobs.values())
        self._deliveries = {
            partition: Delivery(partition, self._topics.chunks, ends[partition])
            for partition in partitions
        }
        if jobs:
            _log.info("pending", jobs=len(jobs))

    def background(self, partitions: Collection[int]) -> Background | None:
        """Takes in what has landed, starts what is due, and returns the next slice."""
        if not self._deliveries:
            return None  # what was restored has been forgotten
        now_us = self._clock_us()
        while (outcome := self._downloads.land()) is not None:
            self._take(outcome, now_us)
        landed_count = sum(delivery.waiting_count for delivery in self._deliveries.values())
        if self._spool.has_room and landed_count < MAX_LANDED_COUNT:
            for start in self._schedule.start(now_us):
                self._start(start)
        self._state = {**self._schedule.counts, "landed": landed_count}
        # In turn: the ones after the last come first.
        for partition in sorted(partitions, key=lambda p: (p <= self._last_partition, p)):
            delivery = self._deliveries.get(partition)
            if delivery is not None and not delivery.is_empty:
                self._last_partition = partition
                return Background(partition, delivery.next_slice(self._answer))
        return None

    def committed(self, next_offsets: Mapping[Position, int]) -> None:
        """Notes where the chunks that were written end."""
        self.tally.commit()
        for (topic, partition), end_offset in next_offsets.items():
            if topic == self._topics.chunks:
                self._deliveries[partition].committed(end_offset)

    def discard(self) -> None:
        """Does not count what was not committed; what is to be done is read again."""
        self.tally.discard()
        self._forget()

    def _forget(self) -> None:
        for delivery in self._deliveries.values():
            delivery.close()
        self._deliveries.clear()
        self._accounts.clear()

    def _start(self, start: Start) -> None:
        if start.host is None:
            self._downloads.look_up(start)
        else:
            self._downloads.fetch(start, self._accounts.pop(start.job.did))

    def _take(self, outcome: Outcome, now_us: int) -> None:
        """Takes in what became of a look-up or a download."""
        start = outcome.start
        did = start.job.did
        match outcome:
            case Located(account=account):
                self._accounts[did] = account
                self._schedule.located(did, host_name(account.source.origin), now_us)
            case Fetched():
                self._take_fetched(outcome, now_us)
            case Missing():
                _log.info("absent", did=did, host=outcome.host, error=outcome.error)
                self.tally.add("fetches", "absent")
                self._schedule.landed(did)
                self._deliveries[start.partition].add_small(partial(self._absent, outcome))
            case Failed():
                self._take_failed(outcome, now_us)
            case Held():
                self.tally.add("fetches", "held")
                until_us = now_us + int(outcome.retry_s * _SECOND_US)
                if start.host is not None:
                    self._schedule.rest(start.host, until_us)
                self._schedule.postpone(did, until_us)
            case _:
                assert_never(outcome)

    def _take_fetched(self, outcome: Fetched, now_us: int) -> None:
        start, verified = outcome.start, outcome.spooled.verified
        if is_satisfied(start.job, verified.commit.rev):
            self._schedule.landed(start.job.did)
            self._deliveries[start.partition].add(outcome)
            return
        outcome.spooled.file.close()
        detail = (
            f"{outcome.host} has revision {verified.commit.rev}, "
            f"and {start.job.min_rev} is known: a stale copy"
        )
        self._take_failed(Failed(start, detail, outcome.source.is_last), now_us)

    def _take_failed(self, outcome: Failed, now_us: int) -> None:
        start = outcome.start
        did = start.job.did
        _log.warning(
            "failed",
            did=did,
            attempts=start.job.attempts + 1,
            host=start.host,
            detail=outcome.detail,
        )
        self.tally.add("fetches", "failed")
        pending = self._schedule.find(did)
        assert pending is not None
        job = failed(pending, outcome.detail, now_us, is_last_source=outcome.is_last_source)
        self._schedule.put(job, start.partition)
        self._schedule.postpone(did, job.not_before_us)
        self._deliveries[start.partition].add_small(partial(self._pending, did, start.partition))

    def _pending(self, did: Did, partition: int) -> list[OutputMessage]:
        """Returns the message that keeps a job, as it is when it is written."""
        job = self._schedule.find(did)
        return [] if job is None else [job_message(job, partition, self._topics.repairs)]

    def _absent(self, missing: Missing) -> list[OutputMessage]:
        """Returns what ends a job because there is no repository."""
        job = missing.start.job
        manifest = Absent(
            job.did, missing.error, missing.status, missing.host, missing.fetched_us, job.cause
        )
        return self._end(missing.start, manifest)

    def _answer(self, fetched: Fetched, place: Place) -> list[OutputMessage]:
        """Returns what ends a job whose chunks are committed."""
        start, verified, file = fetched.start, fetched.spooled.verified, fetched.spooled.file
        commit = verified.commit
        self.tally.add("fetches", "snapshot")
        self.tally.add("snapshots", "records", verified.record_count)
        self.tally.add("snapshots", "chunks", file.count)
        self.tally.add("snapshots", "bytes", file.size_bytes)
        manifest = Snapshot(
            did=start.job.did,
            rev=commit.rev,
            commit=encode_cid(verified.commit_cid),
            data=encode_cid(commit.data_cid),
            commit_block=base64.b64encode(commit.block).decode(),
            records_count=verified.record_count,
            chunks_count=file.count,
            chunks_sha256=file.digest,
            first_chunk_offset=place.first_offset,
            end_chunk_offset=place.end_offset,
            host=fetched.host,
            fetched_us=fetched.fetched_us,
            cause=start.job.cause,
        )
        return self._end(start, manifest)

    def _end(self, start: Start, manifest: Manifest) -> list[OutputMessage]:
        """Returns the messages that end a job, or go on with what was asked for meanwhile."""
        now_us = self._clock_us()
        outputs = [manifest_message(manifest, start.partition, self._topics.snapshots)]
        job = self._schedule.find(start.job.did)
        assert job is not None
        if _answers(manifest, job, start.job):
            self._schedule.finish(job.did, now_us)
            outputs.append(done_message(job, start.partition, self._topics.repairs))
            return outputs
        job = replace(job, attempts=0, not_before_us=now_us, last_error=None)
        self._schedule.put(job, start.partition)
        self._schedule.postpone(job.did, now_us)
        outputs.append(job_message(job, start.partition, self._topics.repairs))
        return outputs


def _answers(manifest: Manifest, job: Job, asked: Job) -> bool:
    """Tells whether an answer is one to everything that was asked for by now."""
    if job.request_offset == asked.request_offset:
        return True
    return (
        isinstance(manifest, Snapshot)
        and job.min_rev is not None
        and is_satisfied(job, manifest.rev)
    )
