"""Repositories that are asked for: fetched from all kinds of servers, proven, published whole."""

import asyncio
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from aiohttp import web
from support import oracle, wire
from support.exports import export
from support.kafka import read_committed, wait_until
from support.repo import DID, OTHER_DID, SIGNER, record
from support.resyncs import (
    PARTITIONS,
    Accounts,
    Pds,
    ResyncWorker,
    ask,
    car,
    read_jobs,
    read_manifests,
    read_snapshots,
    refuses,
    wait_for_manifests,
)
from support.web import Handler

from pipelines.atproto.car import read_car
from pipelines.atproto.cid import encode_cid
from pipelines.atproto.commit import parse_commit
from pipelines.atproto.syntax import Did
from pipelines.config import KafkaConfig
from pipelines.identity import pace
from pipelines.identity.offline import OfflineKeys
from pipelines.kafka.admin import apply, plan
from pipelines.kafka.messages import Position
from pipelines.kafka.partition import partition_for
from pipelines.repair.manifests import Absent, RepoError
from pipelines.repair.requests import Cause
from pipelines.resync import delivery, downloads, jobs, service, spool
from pipelines.resync import schedule as schedule_module
from pipelines.resync.service import Limits, Servers
from pipelines.resync.stage import ResyncStage

pytestmark = pytest.mark.broker

VALUES = {f"com.example.note/{n:04}": record(f"note {n}") for n in range(40)}
EXPORT = export(VALUES, rev=wire.rev(5))


@pytest.fixture
def config(kafka: str, topic_prefix: str) -> KafkaConfig:
    config = KafkaConfig(kafka, topic_prefix)
    apply(plan(config, PARTITIONS))
    return config


@pytest.fixture
def pds() -> Iterator[Pds]:
    pds = Pds()
    with pds.running() as server:
        pds.server = server
        yield pds


@pytest.fixture
def accounts(pds: Pds) -> Accounts:
    accounts = Accounts(pds.server.url)
    accounts.keys[DID] = SIGNER.key
    return accounts


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "MIN_BACK_OFF_US", 50_000)
    monkeypatch.setattr(jobs, "MAX_BACK_OFF_US", 200_000)
    monkeypatch.setattr(pace, "MIN_PAUSE_S", 0.05)
    monkeypatch.setattr(pace, "MAX_PAUSE_S", 0.2)


def hangs() -> Handler:
    """A server that begins and never goes on."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(EXPORT.car()[:100])
        await asyncio.Event().wait()
        return response

    return handler


def in_turn(*handlers: Handler) -> Handler:
    """Answers in one way after the other, in the last one again and again."""
    left = list(handlers)

    async def handler(request: web.Request) -> web.StreamResponse:
        return await (left.pop(0) if len(left) > 1 else left[0])(request)

    return handler


def test_real_repositories_are_published_record_by_record(
    config: KafkaConfig, pds: Pds, accounts: Accounts, shared_data: Path, tmp_path: Path
) -> None:
    """Every captured repository, under the keys that its signers had in the end."""
    folder = shared_data / "pds-corpus"
    keys = OfflineKeys.load(folder / "identities.jsonl")
    truth: dict[Did, tuple[str, dict[str, bytes]]] = {}
    for path in sorted(folder.glob("accounts/*/repo.car")):
        roots, blocks = read_car(path.read_bytes())
        commit = parse_commit(blocks[roots[0]])
        truth[commit.did] = (commit.rev, oracle.read(blocks, commit.data_cid))
        pds.repos[commit.did] = car(path.read_bytes())
        accounts.keys[commit.did] = keys.current_key(commit.did)
    assert len(truth) == 33
    with ResyncWorker(config, accounts, tmp_path):
        ask(config, *truth, cause=Cause.BACKFILL)
        wait_for_manifests(config, len(truth))
    written = {found.manifest.did: found for found in read_snapshots(config)}
    assert written.keys() == truth.keys()
    for did, (rev, records) in truth.items():
        assert written[did].manifest.rev == rev
        assert written[did].paths == {path: encode_cid(cid) for path, cid in records.items()}
    assert read_jobs(config) == {}


def test_a_large_repository_is_written_in_several_transactions(
    config: KafkaConfig,
    pds: Pds,
    accounts: Accounts,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And one whose CAR is beyond the size from which on only a few are taken at a time."""
    monkeypatch.setattr(delivery, "SLICE_BYTES", 600_000)
    monkeypatch.setattr(downloads, "LARGE_BYTES", 100_000)
    values = {f"com.example.note/{n:04}": record("x" * 5_000) for n in range(400)}
    made = export(values, rev=wire.rev(5))
    pds.repos[DID] = car(made.car())
    with ResyncWorker(config, accounts, tmp_path):
        ask(config, DID)
        wait_for_manifests(config, 1)
    [written] = read_snapshots(config)
    assert written.manifest.chunks_count >= 4
    assert written.paths == {path: encode_cid(cid) for path, cid in made.records.items()}
    partition_ends = {m.offset for m in read_committed(config, config.topic("chunks"))}
    # Between transactions there are their marks.
    assert max(partition_ends) - min(partition_ends) >= len(partition_ends)


def test_that_there_is_no_repository_is_an_answer(
    config: KafkaConfig, pds: Pds, accounts: Accounts, tmp_path: Path
) -> None:
    """Spec: I-08."""
    statuses = {
        RepoError.NOT_FOUND: None,
        RepoError.TAKENDOWN: "takendown",
        RepoError.SUSPENDED: "suspended",
        RepoError.DEACTIVATED: "deactivated",
    }
    dids = {Did(f"did:plc:{n:024}"): error for n, error in enumerate(statuses)}
    for did, error in dids.items():
        accounts.keys[did] = SIGNER.key
        pds.repos[did] = refuses(error)
    with ResyncWorker(config, accounts, tmp_path):
        ask(config, *dids)
        manifests = wait_for_manifests(config, len(dids))
    found = {m.did: (m.error, m.status) for m in manifests if isinstance(m, Absent)}
    assert found == {did: (error, statuses[error]) for did, error in dids.items()}
    assert {manifest.host for manifest in manifests} == {f"127.0.0.1:{pds.server.port}"}
    assert read_jobs(config) == {}
    assert pds.asked == dict.fromkeys(dids, 1)


def test_an_account_that_no_directory_knows_is_deleted(
    config: KafkaConfig, pds: Pds, accounts: Accounts, tmp_path: Path
) -> None:
    """But not at the first word of it: new ones are not known everywhere at once."""
    with ResyncWorker(config, accounts, tmp_path):
        ask(config, OTHER_DID)
        [manifest] = wait_for_manifests(config, 1)
    assert isinstance(manifest, Absent)
    assert (manifest.error, manifest.status) == (RepoError.NOT_FOUND, "deleted")
    assert accounts.asked[OTHER_DID] > downloads.GONE_ATTEMPTS
    assert pds.asked == {}


def test_another_server_is_asked_where_the_first_has_a_stale_copy_or_none(
    config: KafkaConfig, pds: Pds, accounts: Accounts, tmp_path: Path
) -> None:
    """A mirror has no last word, and is no way back to an older state. spec: I-05, I-06."""
    mirror = Pds()
    accounts.keys[OTHER_DID] = SIGNER.key
    pds.repos[DID] = car(EXPORT.car())
    pds.repos[OTHER_DID] = car(export(VALUES, did=OTHER_DID, rev=wire.rev(5)).car())
    mirror.repos[DID] = car(export(VALUES, rev=wire.rev(4)).car())
    with mirror.running() as server, ResyncWorker(config, accounts, tmp_path):
        ask(config, DID, OTHER_DID, min_rev=wire.rev(5), host=server.url)
        wait_for_manifests(config, 2)
    assert mirror.asked == {DID: 1, OTHER_DID: 1}
    written = {found.manifest.did: found.manifest for found in read_snapshots(config)}
    assert written.keys() == {DID, OTHER_DID}
    assert {found.rev for found in written.values()} == {wire.rev(5)}
    assert {found.host for found in written.values()} == {f"127.0.0.1:{pds.server.port}"}


def test_a_host_that_hangs_holds_up_nobody_else(
    config: KafkaConfig, pds: Pds, accounts: Accounts, tmp_path: Path
) -> None:
    stuck = Pds()
    dids = [Did(f"did:plc:{letter * 24}") for letter in "abcdefghijkl"]
    pds.repos[DID] = car(EXPORT.car())
    with stuck.running() as server:
        for did in dids:
            accounts.keys[did] = SIGNER.key
            accounts.servers[did] = server.url
            stuck.repos[did] = hangs()
        with ResyncWorker(config, accounts, tmp_path):
            ask(config, *dids)
            wait_until(lambda: stuck.asked.total() > 0, "requests to the host that hangs")
            ask(config, DID)
            [manifest] = wait_for_manifests(config, 1)
    assert manifest.did == DID
    assert read_jobs(config).keys() == set(dids)


def test_requests_that_find_no_room_wait_and_are_served(
    config: KafkaConfig,
    pds: Pds,
    accounts: Accounts,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(schedule_module, "MAX_JOBS_COUNT", 2)
    dids = [Did(f"did:plc:{letter * 24}") for letter in "abcdefghijkl"]
    for did in dids:
        accounts.keys[did] = SIGNER.key
        pds.repos[did] = car(export({}, did=did, rev=wire.rev(5)).car())
    with ResyncWorker(config, accounts, tmp_path):
        ask(config, *dids)
        wait_for_manifests(config, len(dids))
    assert sorted(manifest.did for manifest in read_manifests(config)) == dids
    assert read_jobs(config) == {}


def test_what_is_asked_for_while_it_is_fetched_is_fetched_again(
    config: KafkaConfig, pds: Pds, accounts: Accounts, tmp_path: Path
) -> None:
    """What the first answer has may be from before the second request."""
    is_let_go = threading.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        while not is_let_go.is_set():  # noqa: ASYNC110 - set by another thread
            await asyncio.sleep(0.01)
        return await car(EXPORT.car())(request)

    pds.repos[DID] = slow
    with ResyncWorker(config, accounts, tmp_path):
        ask(config, DID)
        wait_until(lambda: pds.asked[DID] == 1, "the first download")
        ask(config, DID, cause=Cause.AUDIT)
        wait_until(
            lambda: getattr(read_jobs(config).get(DID), "cause", None) is Cause.AUDIT,
            "the second request to be taken over",
        )
        pds.repos[DID] = car(EXPORT.car())
        is_let_go.set()
        wait_for_manifests(config, 2)
    causes = [manifest.cause for manifest in read_manifests(config)]
    assert causes == [Cause.DESYNCHRONIZED, Cause.AUDIT]
    assert read_jobs(config) == {}


def test_another_worker_goes_on_where_one_was_stopped(
    config: KafkaConfig, pds: Pds, accounts: Accounts, tmp_path: Path
) -> None:
    """What is pending is in the topic, with its tries."""
    pds.repos[DID] = refuses("InvalidRequest")
    with ResyncWorker(config, accounts, tmp_path):
        ask(config, DID)
        wait_until(lambda: getattr(read_jobs(config).get(DID), "attempts", 0) >= 2, "two failures")
    attempts = read_jobs(config)[DID].attempts
    pds.repos[DID] = in_turn(refuses("InvalidRequest"), car(EXPORT.car()))
    with ResyncWorker(config, accounts, tmp_path, slot="1"):
        wait_for_manifests(config, 1)
    tries = [m for m in read_committed(config, config.topic("repairs")) if m.value is not None]
    assert jobs.parse_job(tries[-1].value or b"").attempts == attempts + 1
    assert read_jobs(config) == {}


def test_a_second_worker_makes_downloads_begin_anew_and_nothing_comes_twice(
    config: KafkaConfig, pds: Pds, accounts: Accounts, tmp_path: Path
) -> None:
    """What was answered is not asked for again, by whoever has its partition now."""
    is_let_go = threading.Event()
    early, late = ([Did(f"did:plc:{letter * 24}") for letter in part] for part in ("abcd", "efgh"))
    assert {partition_for(did, PARTITIONS) for did in early} == set(range(PARTITIONS))
    assert {partition_for(did, PARTITIONS) for did in late} == set(range(PARTITIONS))

    def once_let_go(answer: Handler) -> Handler:
        async def handler(request: web.Request) -> web.StreamResponse:
            while not is_let_go.is_set():  # noqa: ASYNC110 - set by another thread
                await asyncio.sleep(0.01)
            return await answer(request)

        return handler

    for did in (*early, *late):
        accounts.keys[did] = SIGNER.key
        answer = car(export(VALUES, did=did, rev=wire.rev(5)).car())
        pds.repos[did] = answer if did in early else once_let_go(answer)
    # Those of a host come in turn: all are to be under way at once.
    limits = Limits(host_count=len(late))
    with ResyncWorker(config, accounts, tmp_path, limits=limits):
        ask(config, *early)
        wait_for_manifests(config, len(early))
        ask(config, *late)
        wait_until(lambda: all(pds.asked[did] for did in late), "downloads under way")
        asked = {did: pds.asked[did] for did in late}
        with ResyncWorker(config, accounts, tmp_path, slot="1", limits=limits):
            wait_until(lambda: all(pds.asked[did] > asked[did] for did in late), "new downloads")
            is_let_go.set()
            wait_for_manifests(config, len(early) + len(late))
            wait_until(lambda: not read_jobs(config), "all to be done")
    written = read_snapshots(config)
    assert sorted(found.manifest.did for found in written) == [*early, *late]
    for found in written:
        assert found.paths == {path: encode_cid(cid) for path, cid in EXPORT.records.items()}
    assert {did: pds.asked[did] for did in early} == dict.fromkeys(early, 1)


class KilledError(Exception):
    """Stands for the end of a process at a point that the test chose."""


def test_a_kill_after_any_transaction_leaves_no_half_snapshot_and_loses_nothing(
    config: KafkaConfig,
    pds: Pds,
    accounts: Accounts,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each worker gets one transaction further than the one before, until the job is done."""
    monkeypatch.setattr(spool, "CHUNK_BYTES", 2_000)
    monkeypatch.setattr(delivery, "SLICE_BYTES", 1)
    pds.repos[DID] = car(EXPORT.car())
    ask(config, DID)
    committed = ResyncStage.committed
    workers_count = 0
    while workers_count == 0 or read_jobs(config):
        left = max(1, workers_count)  # the first transaction takes the request over
        workers_count += 1

        def kill_in_time(self: ResyncStage, next_offsets: Mapping[Position, int]) -> None:
            nonlocal left
            committed(self, next_offsets)
            left -= 1
            if not left:
                raise KilledError

        monkeypatch.setattr(ResyncStage, "committed", kill_in_time)
        with pytest.raises(KilledError):
            service.run(
                config,
                accounts,
                tmp_path,
                slot="0",
                should_stop=lambda: False,
                servers=Servers(allow_loopback=True),
            )
        assert len(read_manifests(config)) == (not read_jobs(config))
    [written] = read_snapshots(config)
    # The request, each chunk, the manifest.
    assert workers_count == 2 + written.manifest.chunks_count
    assert written.paths == {path: encode_cid(cid) for path, cid in EXPORT.records.items()}
    chunks_count = len(read_committed(config, config.topic("chunks")))
    assert chunks_count > 2 * written.manifest.chunks_count  # what was left behind
