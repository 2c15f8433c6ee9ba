"""Repositories that are asked for: a server of theirs, a worker that fetches, what it wrote."""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

from aiohttp import web
from confluent_kafka import Producer
from support.kafka import read_committed, wait_until
from support.web import Handler, Server, running_server
from support.workers import StageThread

from pipelines.atproto.errors import IdentityError, Reason
from pipelines.atproto.keys import VerifyingKey
from pipelines.atproto.syntax import Did, Tid
from pipelines.config import KafkaConfig
from pipelines.identity.documents import Identity
from pipelines.identity.plc import KeyHistory
from pipelines.kafka.messages import InputMessage, OutputMessage
from pipelines.kafka.partition import partition_for
from pipelines.kafka.topics import validator
from pipelines.repair.chunks import ChunkRecord, parse_chunk
from pipelines.repair.manifests import Manifest, Snapshot, parse_manifest
from pipelines.repair.requests import Cause, Request, request_message
from pipelines.resync import service
from pipelines.resync.jobs import Job, parse_job
from pipelines.resync.service import Limits, Servers

PARTITIONS = 2


def car(body: bytes) -> Handler:
    """A server that gives a repository."""

    async def handler(_request: web.Request) -> web.StreamResponse:
        return web.Response(body=body, content_type="application/vnd.ipld.car")

    return handler


def refuses(error: str, status: int = 400) -> Handler:
    """A server that gives none, and says why."""

    async def handler(_request: web.Request) -> web.StreamResponse:
        return web.json_response({"error": error, "message": "no"}, status=status)

    return handler


class Pds:
    """A server of repositories that the test changes while it runs.

    Attributes:
        repos: how it answers for an account; another one is not found.
        asked: requests by account.
        server: the running server.
    """

    def __init__(self) -> None:
        self.repos: dict[Did, Handler] = {}
        self.asked: Counter[Did] = Counter()
        self.server: Server

    def running(self) -> AbstractContextManager[Server]:
        return running_server(self._handle)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        assert request.path.endswith("/xrpc/com.atproto.sync.getRepo")
        did = Did(request.query["did"])
        self.asked[did] += 1
        return await self.repos.get(did, refuses("RepoNotFound"))(request)


class Accounts:
    """A resolver of a few accounts.

    Attributes:
        keys: current key by DID; an account that is missing does not exist.
        cached_keys: what caches on the way say instead.
        servers: origin of each one's server; `server` for the others.
        asked: look-ups by account.
    """

    def __init__(self, server: str | None) -> None:
        self.keys: dict[Did, VerifyingKey] = {}
        self.cached_keys: dict[Did, VerifyingKey] = {}
        self.servers: dict[Did, str] = {}
        self.server = server
        self.asked: Counter[Did] = Counter()

    def source_of(self, did: Did) -> str:  # noqa: ARG002 - all are of one
        return "https://directory.example"

    async def resolve(self, did: Did, *, past_caches: bool = False) -> Identity:
        self.asked[did] += 1
        known = self.keys if past_caches else self.keys | self.cached_keys
        if did not in known:
            raise IdentityError(Reason.IDENTITY_NOT_FOUND, "no such account", did=did)
        return Identity(did, known[did], self.servers.get(did, self.server), None)

    async def audit_log(self, did: Did) -> KeyHistory | None:  # noqa: ARG002 - the resolver's
        return None

    async def close(self) -> None:
        """Holds nothing."""


class ResyncWorker(StageThread):
    """One worker."""

    def __init__(
        self,
        config: KafkaConfig,
        accounts: Accounts,
        folder: Path,
        *,
        slot: str = "0",
        servers: Servers = Servers(allow_loopback=True),  # noqa: B008 - frozen
        limits: Limits = service.DEFAULT_LIMITS,
    ) -> None:
        super().__init__(
            f"resync-{slot}",
            lambda should_stop: service.run(
                config,
                accounts,
                folder / slot,
                slot=slot,
                should_stop=should_stop,
                servers=servers,
                limits=limits,
            ),
        )


def ask(
    config: KafkaConfig,
    *dids: Did,
    min_rev: str | None = None,
    host: str | None = None,
    cause: Cause = Cause.DESYNCHRONIZED,
    partitions: int = PARTITIONS,
) -> None:
    """Writes requests."""
    producer = Producer({"bootstrap.servers": config.bootstrap_servers, "linger.ms": 5})
    for did in dids:
        request = Request(
            did=did,
            cause=cause,
            reason=None,
            min_rev=None if min_rev is None else Tid(min_rev),
            host=host,
            requested_us=time.time_ns() // 1_000,
        )
        message = request_message(request, partition_for(did, partitions), config.topic("resyncs"))
        _produce(producer, message)
    assert producer.flush(20) == 0


def _produce(producer: Producer, message: OutputMessage) -> None:
    producer.produce(
        message.topic,
        message.value,
        message.key,
        message.partition,
        headers=list(message.headers),
        timestamp=message.timestamp_ms,
    )


def read_jobs(config: KafkaConfig) -> dict[Did, Job]:
    """Returns what is pending, by DID."""
    jobs: dict[Did, Job] = {}
    for message in read_committed(config, config.topic("repairs")):
        did = Did((message.key or b"").decode())
        if message.value is None:
            jobs.pop(did, None)
        else:
            validator("repairs", 1).validate(json.loads(message.value))
            jobs[did] = parse_job(message.value)
    return jobs


def read_manifests(config: KafkaConfig) -> list[Manifest]:
    """Returns all answers, partition by partition, each of the form that was promised."""
    manifests = []
    for message in read_committed(config, config.topic("snapshots")):
        assert message.value is not None
        validator("snapshots", 1).validate(json.loads(message.value))
        manifests.append(parse_manifest(message.value))
    return manifests


def wait_for_manifests(config: KafkaConfig, count: int) -> list[Manifest]:
    """Waits for answers, and returns them all."""
    wait_until(lambda: len(read_manifests(config)) >= count, f"{count} answers")
    return read_manifests(config)


class Written(NamedTuple):
    """A snapshot as a reader finds it."""

    manifest: Snapshot
    records: list[ChunkRecord]

    @property
    def paths(self) -> dict[str, str]:
        """CIDs by path."""
        return {record.path: record.cid for record in self.records}


def read_snapshots(config: KafkaConfig) -> list[Written]:
    """Reads every snapshot as its manifest says, checking all that it promises."""
    chunks = {
        (message.partition, message.offset): message
        for message in read_committed(config, config.topic("chunks"))
    }
    return [
        _read_snapshot(manifest, [m for where, m in chunks.items() if _holds(manifest, where)])
        for manifest in read_manifests(config)
        if isinstance(manifest, Snapshot)
    ]


def _holds(manifest: Snapshot, where: tuple[int, int]) -> bool:
    partition, offset = where
    return (
        partition == partition_for(manifest.did, PARTITIONS)
        and manifest.first_chunk_offset <= offset < manifest.end_chunk_offset
    )


def _read_snapshot(manifest: Snapshot, messages: Sequence[InputMessage]) -> Written:
    digest = hashlib.sha256()
    records: list[ChunkRecord] = []
    for index, message in enumerate(messages):
        value = message.value or b""
        validator("chunks", 1).validate(json.loads(value))
        chunk = parse_chunk(value)
        assert (chunk.did, chunk.rev, chunk.index) == (manifest.did, manifest.rev, index)
        digest.update(value)
        records += chunk.records
    assert len(messages) == manifest.chunks_count
    assert digest.hexdigest() == manifest.chunks_sha256
    assert len(records) == manifest.records_count
    paths = [record.path.encode() for record in records]
    assert paths == sorted(set(paths))
    return Written(manifest, records)
