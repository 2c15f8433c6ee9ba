"""Looks at a deployment: the cluster, its topics and groups, this machine, the directory.

Changes nothing. What cannot be looked at becomes `Unknown`, so that one thing that is broken does
not hide the others.
"""

import asyncio
import contextlib
import os
import shutil
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from confluent_kafka import KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # no explicit re-exports
    ClusterMetadata,
    ConfigResource,
    ResourceType,
)

from pipelines.atproto.errors import IdentityError
from pipelines.atproto.syntax import Did
from pipelines.config import KafkaConfig
from pipelines.doctor.findings import Unknown
from pipelines.doctor.snapshot import (
    Access,
    Broker,
    Clock,
    Cluster,
    Copies,
    Directory,
    Disk,
    Replicas,
    Server,
    Snapshot,
)
from pipelines.doctor.watching import Watcher
from pipelines.errors import (
    BrokerUnavailableError,
    ConfigError,
    IdentityUnavailableError,
    TransientError,
)
from pipelines.identity.resolver import Resolver
from pipelines.kafka.admin import CONNECT_TIMEOUT_S, Plan, plan
from pipelines.kafka.admission import TOPIC as TABLES
from pipelines.kafka.admitting import configured, deployed
from pipelines.kafka.beat import TOPIC as STATUS
from pipelines.kafka.beat import parse_beat
from pipelines.kafka.clients import create_admin
from pipelines.kafka.features import metadata_version
from pipelines.kafka.reading import REQUEST_TIMEOUT_S, log_ends, log_starts, read_between
from pipelines.kafka.topics import Registry
from pipelines.status.overview import Overview
from pipelines.status.watch import StatusReader

# Signs of life that are compared with the broker's clock; each process writes one in two seconds.
BEATS_S: Final = 60.0
# Any account will do: that the directory does not know it is an answer, too.
_PROBE: Final = Did("did:plc:ewvi7nxzyoun6zhxrhs64oiz")
_INTERNAL_TOPICS: Final = frozenset({"__consumer_offsets", "__transaction_state"})
_PLAIN: Final = frozenset({"plaintext", "sasl_plaintext"})

T = TypeVar("T")


def observe(
    kafka: KafkaConfig,
    *,
    plc_url: str,
    folders: Sequence[Path],
    patience_s: float,
    announce: Callable[[str], None],
) -> Snapshot:
    """Looks at everything once.

    Args:
        kafka: the cluster and the prefix of the deployment's topics.
        plc_url: base URL of the PLC directory.
        folders: of local stores on this machine.
        patience_s: how long to watch what does not move.
        announce: is told what is being done.

    Raises:
        ConfigError: a URL is none.
    """
    announce("asking the directory")
    directory = _directory(plc_url)
    disks = tuple(_disk(folder) for folder in folders)
    announce("connecting to the brokers")
    servers = [_server(address, is_bootstrap=True) for address in _addresses(kafka)]
    try:
        metadata = create_admin(kafka).list_topics(timeout=CONNECT_TIMEOUT_S)
    except KafkaException as error:
        nobody = Unknown("no broker answers")
        return Snapshot(
            access=Access(tuple(servers), error.args[0].str()),
            metadata_versions=nobody,
            cluster=nobody,
            copies=nobody,
            traffic=nobody,
            overview=nobody,
            clocks=nobody,
            disks=disks,
            directory=directory,
        )
    nodes = {f"{node.host}:{node.port}": node for node in metadata.brokers.values()}
    servers += [_server(address, is_bootstrap=False) for address in nodes]
    announce("comparing topics with the registry")
    cluster = _tried(lambda: _cluster(kafka, metadata))
    known: Registry | Unknown = Unknown("there are no tables")
    if kafka.topic(TABLES) in metadata.topics:
        known = _tried(lambda: deployed(kafka)[0])
    specs = configured(kafka) if isinstance(known, Unknown) else known
    topics = [kafka.topic(topic) for topic in specs.topics]
    ours = {
        name: list(metadata.topics[name].partitions) for name in topics if name in metadata.topics
    }
    watcher = Watcher(kafka, specs, ours)
    return Snapshot(
        access=Access(tuple(servers), None),
        metadata_versions=_metadata_versions(kafka, list(nodes)),
        cluster=cluster,
        copies=_copies(metadata, {*topics, *_INTERNAL_TOPICS}),
        traffic=_tried(lambda: watcher.watch(patience_s, announce)),
        overview=_tried(lambda: _overview(kafka)),
        clocks=_tried(lambda: _clocks(kafka, cluster)),
        disks=disks,
        directory=directory,
    )


def _tried(look: Callable[[], T | Unknown]) -> T | Unknown:
    try:
        return look()
    except (TransientError, ConfigError, KafkaException) as error:  # e.g. not allowed to look
        return Unknown(str(error))


def _addresses(kafka: KafkaConfig) -> list[str]:
    return [address.strip() for address in kafka.bootstrap_servers.split(",")]


def _server(address: str, *, is_bootstrap: bool) -> Server:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), CONNECT_TIMEOUT_S):
            return Server(address, is_bootstrap, None)
    except OSError as error:
        return Server(address, is_bootstrap, error.strerror or str(error))


def _metadata_versions(kafka: KafkaConfig, addresses: Sequence[str]) -> dict[str, int] | Unknown:
    protocol = kafka.options.get("security.protocol", "plaintext").lower()
    if protocol not in _PLAIN:
        return Unknown(
            f"brokers are not asked for their version over {protocol}: their logs have it"
        )
    versions = {}
    for address in addresses:
        host, _, port = address.rpartition(":")
        try:
            versions[address] = metadata_version(host.strip("[]"), int(port))
        except (OSError, ValueError) as error:
            return Unknown(f"{address}: {error}")
    return versions


def _cluster(kafka: KafkaConfig, metadata: ClusterMetadata) -> Cluster:
    found: Plan = plan(kafka)
    names = {
        str(node.id): f"broker {node.id} ({node.host}:{node.port})"
        for node in metadata.brokers.values()
    }
    admin = create_admin(kafka)  # kept until the answers are there: they end with it
    futures = admin.describe_configs(
        [ConfigResource(ResourceType.BROKER, number) for number in names],
        request_timeout=REQUEST_TIMEOUT_S,
    )
    brokers = []
    for resource, future in futures.items():
        try:
            entries: dict[str, Any] = future.result(2 * REQUEST_TIMEOUT_S)
        except (KafkaException, TimeoutError) as error:
            raise BrokerUnavailableError(
                f"{names[resource.name]} does not tell its settings: {error}"
            ) from None
        settings = {
            name: entry.value for name, entry in entries.items() if entry.value is not None
        }
        brokers.append(Broker(names[resource.name], settings))
    return Cluster(tuple(brokers), found)


def _copies(metadata: ClusterMetadata, topics: set[str]) -> Copies:
    partitions = tuple(
        Replicas(
            topic=name,
            partition=partition.id,
            has_leader=partition.leader in metadata.brokers,
            count=len(partition.replicas),
            in_sync_count=len(partition.isrs),
        )
        for name, topic in sorted(metadata.topics.items())
        if name in topics
        for partition in topic.partitions.values()
    )
    return Copies(len(metadata.brokers), partitions)


def _overview(kafka: KafkaConfig) -> Overview:
    with contextlib.closing(StatusReader(kafka)) as reader:
        reader.refresh()
        return reader.look()


def _clocks(kafka: KafkaConfig, cluster: Cluster | Unknown) -> tuple[Clock, ...] | Unknown:
    """Compares what processes say the time is with when the broker took it in."""
    topic = kafka.topic(STATUS)
    if isinstance(cluster, Unknown) or any(
        difference.topic == topic and difference.name == "message.timestamp.type"
        for difference in cluster.plan.alter
    ):
        return Unknown(
            f"the broker does not note its time in {topic}: `standpipe topics apply` has it do so"
        )
    where = (topic, 0)
    now_s = time.time()
    ends = log_ends(kafka, [where])
    start = log_starts(kafka, [where], int((now_s - BEATS_S) * 1000))[where]
    if start is None:
        return Unknown("no process wrote a sign of life within the last minute")
    ahead_s: dict[str, float] = {}
    newest_s = 0.0
    for message in read_between(kafka, {where: start}, ends):
        newest_s = max(newest_s, message.timestamp_ms / 1000)
        if message.value is None:
            continue
        with contextlib.suppress(ValueError):  # of a newer version
            beat = parse_beat(message.value)
            ahead = beat.updated_us / 1e6 - message.timestamp_ms / 1000
            name = f"{beat.key.decode()} on {beat.machine}"
            # A beat may be under way for a while: the one that came soonest tells the most.
            ahead_s[name] = max(ahead, ahead_s.get(name, ahead))
    # Our own clock can be seen to be behind only: an old beat may be that of a process that died.
    here = Clock("this machine", min(0.0, now_s - newest_s))
    return (here, *(Clock(name, ahead) for name, ahead in sorted(ahead_s.items())))


def _disk(folder: Path) -> Disk:
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        return Disk(str(folder), f"{there} cannot be written to", 0, 0)
    usage = shutil.disk_usage(there)
    return Disk(str(folder), None, usage.free, usage.total)


def _directory(url: str) -> Directory:
    async def ask() -> None:
        resolver = Resolver(url)
        try:
            await resolver.resolve(_PROBE)
        finally:
            await resolver.close()

    started_s = time.monotonic()
    problem = None
    try:
        asyncio.run(ask())
    except IdentityUnavailableError as error:
        problem = str(error)
    except IdentityError:
        pass  # it knows the account and has no use for it, or does not know it: it answered
    return Directory(url, problem, time.monotonic() - started_s)
