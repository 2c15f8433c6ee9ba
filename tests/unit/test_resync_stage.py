"""Requests, jobs and answers of resync, without a broker and without servers."""

from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from support import wire
from support.exports import export
from support.repo import DID, OTHER_DID, SIGNER, record

from pipelines.atproto.repo import Limits
from pipelines.atproto.syntax import Did, Tid
from pipelines.kafka.messages import InputMessage, OutputMessage
from pipelines.repair.manifests import Absent, Manifest, RepoError, Snapshot, parse_manifest
from pipelines.repair.requests import Cause, Request, request_message
from pipelines.resync import schedule as schedule_module
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
from pipelines.resync.jobs import Job, parse_job
from pipelines.resync.schedule import Places, Schedule, Start
from pipelines.resync.sources import Source
from pipelines.resync.spool import Proof, Spool
from pipelines.resync.stage import ResyncStage, TooManyJobsError, Topics

NOW_US = 1_790_000_000_000_000
SECOND_US = 1_000_000
SOURCE = Source("https://pds.example.com", is_last=True)
CAR = export({"com.example.note/1": record("here")}, rev=wire.rev(5)).car()
TOPICS = Topics("repairs", "chunks", "snapshots")


class FakeDownloads(Downloads):
    """Lands what the test puts in.

    Attributes:
        looked_up: what was started.
        fetched: likewise.
        outcomes: what lands next.
    """

    def __init__(self) -> None:
        self.looked_up: list[Start] = []
        self.fetched: list[Start] = []
        self.outcomes: deque[Outcome] = deque()

    def look_up(self, start: Start) -> None:
        self.looked_up.append(start)

    def fetch(self, start: Start, account: Account) -> None:
        assert account.source == SOURCE
        self.fetched.append(start)

    def land(self) -> Outcome | None:
        return self.outcomes.popleft() if self.outcomes else None

    def cancel(self) -> None:
        self.outcomes.clear()

    def close(self) -> None:
        """Holds nothing."""


class Running:
    """The stage with two partitions, of which DID has the first and OTHER_DID the second."""

    def __init__(self, folder: Path) -> None:
        self.now_us = NOW_US
        self.downloads = FakeDownloads()
        self.spool = Spool(folder, 10_000_000)
        self.kept: list[InputMessage] = []
        self.next_offsets = [0, 0]
        self.stage = ResyncStage(
            TOPICS,
            Schedule(Places(total_count=4, host_count=2, look_ups_count=4)),
            self.downloads,
            self.spool,
            lambda _partitions: iter(self.kept),
            lambda partitions: dict.fromkeys(partitions, 0),
            lambda: self.now_us,
        )
        self.restore()

    def restore(self) -> None:
        for _ in self.stage.restore([0, 1]):
            pass

    def ask(self, did: Did, offset: int, **changes: object) -> list[OutputMessage]:
        fields: dict[str, object] = {
            "did": did,
            "cause": Cause.DESYNCHRONIZED,
            "reason": None,
            "min_rev": None,
            "host": None,
            "requested_us": NOW_US,
        }
        request = Request(**fields | changes)  # type: ignore[arg-type]  # as the test wants them
        partition = int(did == OTHER_DID)
        made = request_message(request, partition, "resyncs")
        return list(
            self.stage.process(
                InputMessage("resyncs", partition, offset, 0, made.key, made.value, made.headers)
            )
        )

    def turn(self) -> list[OutputMessage]:
        """Returns what the next slice of work writes, and commits it."""
        work = self.stage.background([0, 1])
        if work is None:
            return []
        chunks_count = sum(output.topic == "chunks" for output in work.outputs)
        end_offset = self.next_offsets[work.partition] + chunks_count
        self.stage.committed({("chunks", work.partition): end_offset} if chunks_count else {})
        self.next_offsets[work.partition] = end_offset + (chunks_count > 0)  # a mark
        return list(work.outputs)

    def locate(self, *dids: Did) -> None:
        """Goes on until these are being fetched."""
        self.turn()
        for start in self.downloads.looked_up:
            if start.job.did in dids:
                self.downloads.outcomes.append(Located(start, Account(SIGNER.key, SOURCE)))
        self.turn()
        assert {start.job.did for start in self.downloads.fetched} >= set(dids)

    def fetched(self, start: Start) -> Fetched:
        with Proof(DID, SIGNER.key, self.spool, Limits()) as proof:
            proof.feed(CAR)
            return Fetched(start, SOURCE, "pds.example.com", proof.finish(), NOW_US)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    made = Running(tmp_path)
    yield made
    made.stage.close()
    assert made.spool.used_bytes == 0


def jobs_in(outputs: list[OutputMessage]) -> Mapping[bytes | None, Job | None]:
    return {
        output.key: None if output.value is None else parse_job(output.value)
        for output in outputs
        if output.topic == "repairs"
    }


def manifests_in(outputs: list[OutputMessage]) -> list[Manifest]:
    return [parse_manifest(o.value or b"") for o in outputs if o.topic == "snapshots"]


def test_a_manifest_and_the_end_of_the_job_come_together_after_the_chunks(
    running: Running,
) -> None:
    running.ask(DID, 7)
    running.locate(DID)
    running.downloads.outcomes.append(running.fetched(running.downloads.fetched[0]))
    assert [output.topic for output in running.turn()] == ["chunks"]
    outputs = running.turn()
    [manifest] = manifests_in(outputs)
    assert isinstance(manifest, Snapshot)
    assert (manifest.first_chunk_offset, manifest.end_chunk_offset) == (0, 1)
    assert jobs_in(outputs) == {DID.encode(): None}
    assert running.turn() == []
    assert running.stage.tally.groups["fetches"] == {"snapshot": 1}


def test_a_failure_written_late_does_not_bring_an_older_request_back(running: Running) -> None:
    running.ask(DID, 7)
    running.ask(OTHER_DID, 3)
    running.turn()
    for start in running.downloads.looked_up:
        running.downloads.outcomes.append(Failed(start, "away", is_last_source=True))
    first = running.turn()  # of one of the two partitions
    [(key, _)] = jobs_in(first).items()
    late = OTHER_DID if key == DID.encode() else DID
    running.ask(late, 9, cause=Cause.AUDIT)
    [job] = jobs_in(running.turn()).values()
    assert job is not None
    assert (job.did, job.request_offset, job.cause) == (late, 9, Cause.AUDIT)
    assert (job.attempts, job.last_error) == (1, "away")


def test_what_is_asked_for_during_a_download_is_only_done_if_the_answer_is_new_enough(
    running: Running,
) -> None:
    running.ask(DID, 7)
    running.locate(DID)
    running.ask(DID, 9, min_rev=wire.rev(5))
    running.downloads.outcomes.append(running.fetched(running.downloads.fetched[0]))
    running.turn()
    assert jobs_in(running.turn()) == {DID.encode(): None}

    running.ask(DID, 11)
    running.locate(DID)
    running.ask(DID, 13, min_rev=wire.rev(6))
    running.downloads.outcomes.append(running.fetched(running.downloads.fetched[-1]))
    running.turn()
    outputs = running.turn()
    assert len(manifests_in(outputs)) == 1
    [job] = jobs_in(outputs).values()
    assert job is not None
    assert (job.request_offset, job.min_rev, job.attempts) == (13, Tid(wire.rev(6)), 0)


def test_a_stale_copy_is_not_published(running: Running) -> None:
    """Spec: I-05."""
    running.ask(DID, 7, min_rev=wire.rev(6))
    running.locate(DID)
    running.downloads.outcomes.append(running.fetched(running.downloads.fetched[0]))
    outputs = running.turn()
    assert {output.topic for output in outputs} == {"repairs"}
    [job] = jobs_in(outputs).values()
    assert job is not None
    assert "stale" in (job.last_error or "")
    assert running.spool.used_bytes == 0


def test_that_there_is_none_is_an_answer(running: Running) -> None:
    """Spec: I-08."""
    running.ask(DID, 7, cause=Cause.DELETION)
    running.locate(DID)
    start = running.downloads.fetched[0]
    running.downloads.outcomes.append(
        Missing(start, RepoError.TAKENDOWN, "takendown", "pds.example.com", NOW_US)
    )
    outputs = running.turn()
    assert manifests_in(outputs) == [
        Absent(DID, RepoError.TAKENDOWN, "takendown", "pds.example.com", NOW_US, Cause.DELETION)
    ]
    assert jobs_in(outputs) == {DID.encode(): None}


def test_a_host_that_rests_costs_no_try_and_is_left_alone(running: Running) -> None:
    running.ask(DID, 7)
    running.locate(DID)
    running.downloads.outcomes.append(Held(running.downloads.fetched[0], "busy", 60.0))
    assert running.turn() == []
    running.ask(OTHER_DID, 3)
    running.turn()
    other = running.downloads.looked_up[-1]
    running.downloads.outcomes.append(Located(other, Account(SIGNER.key, SOURCE)))
    running.turn()
    assert len(running.downloads.fetched) == 1
    running.now_us += 60 * SECOND_US
    running.turn()
    assert running.downloads.fetched[-1].job.did == OTHER_DID


def test_without_room_no_further_request_is_taken_over(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule_module, "MAX_JOBS_COUNT", 1)
    running.ask(DID, 7)
    assert len(running.ask(DID, 8)) == 1  # it has its place already
    with pytest.raises(TooManyJobsError):
        running.ask(Did(f"{DID}x"), 9)


def test_nothing_is_started_while_the_spool_is_full(running: Running) -> None:
    running.ask(DID, 7)
    running.spool.add(10_000_000)
    running.turn()
    assert running.downloads.looked_up == []
    running.spool.add(-10_000_000)
    running.turn()
    assert len(running.downloads.looked_up) == 1


def test_who_takes_a_partition_over_goes_on_with_what_is_pending(running: Running) -> None:
    [kept] = running.ask(DID, 7)
    [done] = running.ask(OTHER_DID, 3)
    running.kept = [
        InputMessage("repairs", m.partition, n, 0, m.key, m.value, m.headers)
        for n, m in enumerate([kept, done, done._replace(value=None)])
    ]
    running.locate(DID, OTHER_DID)
    running.downloads.outcomes.append(running.fetched(running.downloads.fetched[0]))
    running.turn()
    running.restore()
    assert running.spool.used_bytes == 0
    running.downloads.looked_up.clear()
    running.turn()
    assert [start.job.did for start in running.downloads.looked_up] == [DID]


def test_nothing_is_done_between_a_loss_and_a_restore(running: Running) -> None:
    running.ask(DID, 7)
    running.stage.discard()
    assert running.stage.background([0, 1]) is None
    assert running.downloads.looked_up == []
