"""What outsiders write becomes no topic and no label of a metric.

A network that says as many different things as it can goes through bridge, explode and compact:
names of collections, of languages, of types of events and of statuses, accounts that nobody knows,
commits that are not true, and bytes that are nothing.
"""

from collections.abc import Mapping
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient
from support import wire
from support.bridge import RunningBridge, frames_in, last_seq_in
from support.hostile import Habits, HostileUpstream
from support.identities import FakeResolver
from support.kafka import is_caught_up, read_decided, wait_until
from support.pipeline import Stage
from support.repo import DID, SIGNER, Repo
from support.workers import Worker, wait_for_positions

from pipelines.atproto.errors import Reason
from pipelines.atproto.frames import Kind as FrameKind
from pipelines.compact.audit import Finding
from pipelines.compact.reducer import Outcome
from pipelines.compact.state import Sync
from pipelines.config import KafkaConfig
from pipelines.identity.lookups import Kind as LookupKind
from pipelines.kafka.admin import apply, plan
from pipelines.kafka.beat import parse_beat
from pipelines.kafka.distribution import BOUNDS, MORE, SUM
from pipelines.status.upstreams import TROUBLES

pytestmark = pytest.mark.broker

PARTITIONS = 2
SEED = 20261125
NAMES_COUNT = 40
# Fewer than make a worker stop, as it would if all the world were refused.
STRANGERS_COUNT = 10

# What a label may be, by the group of a report that it comes from.
OF_UPSTREAMS = frozenset(
    {"connected", "first", "duplicates", "coverage_ppm", "missing", "busy_accounts"}
    | {"seq", "delay_ms"}
    | TROUBLES.keys()
)
CLOSED: Mapping[str, frozenset[str]] = {
    "proven": frozenset({"commit", "sync"}),
    "unsigned": frozenset({"identity", "account"}),
    "refused": frozenset(Reason),
    "refused_lately": frozenset({"frames", "accounts", "servers"}),
    "skipped": frozenset(FrameKind),
    "written": frozenset(
        {"events", "records", "quarantine", "identities", "parked", "repos", "latest", "resyncs"}
    ),
    "lookups": frozenset(
        {kind.name.lower() for kind in LookupKind} | {"shelf", "unavailable", "put_off"}
    ),
    "keys": frozenset({"memory"}),
    "parked": frozenset({"frames", "accounts"}),
    "events": frozenset(Outcome),
    "repos": frozenset(Sync),
    "deletions": frozenset({"waiting"}),
    "audited": frozenset(Finding),
    **{name: frozenset((*map(str, bounds), MORE, SUM)) for name, bounds in BOUNDS.items()},
}


@pytest.fixture
def config(kafka: str, topic_prefix: str) -> KafkaConfig:
    config = KafkaConfig(kafka, topic_prefix)
    apply(plan(config, PARTITIONS))
    return config


def made_up() -> list[bytes]:
    """Events with as many different words in them as there are events, numbered from 1 on."""
    repo = Repo()
    frames: list[bytes] = []

    def add(type_name: str, **fields: object) -> None:
        payload = {"seq": len(frames) + 1, "time": wire.START_TIME} | fields
        frames.append(wire.frame(type_name, payload))

    for n in range(NAMES_COUNT):
        record = {"$type": f"com.evil.c{n}", "text": "x", "langs": [f"x{n}"]}
        step = repo.apply({f"com.evil.c{n}/x": record})
        frames.append(step.frame(seq=len(frames) + 1))
        add(f"#evil-{n}", did=f"did:web:u{n}.example", word=f"w{n}")
        add("#account", did=f"did:web:a{n}.example", active=False, status=f"evil-{n}")
        add("#identity", did=f"did:web:i{n}.example", handle=f"h{n}.evil.example")
    for n in range(STRANGERS_COUNT):
        frames.append(step.frame(seq=len(frames) + 1, repo=f"did:web:s{n}.example"))
    return frames


def topics_of(config: KafkaConfig) -> set[str]:
    admin = AdminClient({"bootstrap.servers": config.bootstrap_servers})
    return {name for name in admin.list_topics(timeout=20).topics if not name.startswith("__")}


def test_outsiders_make_no_topic_and_no_label(config: KafkaConfig, tmp_path: Path) -> None:
    sent = Habits(made_up(), SEED)
    resolver = FakeResolver()
    resolver.keys[DID] = SIGNER.key
    before = topics_of(config)
    cluster = ["--bootstrap-servers", config.bootstrap_servers]
    prefix = ["--topic-prefix", config.topic_prefix]
    stores = ["--state-dir", str(tmp_path / "stores")]
    compact = Stage(["compact", *stores, *cluster, *prefix], tmp_path / "compact.log")
    try:
        with (
            HostileUpstream(sent.garbage) as upstream,
            RunningBridge(config, upstream.relay, 0) as bridge,
            Worker(config, lambda: resolver, tmp_path / "explode"),
        ):
            bridge.wait_until(lambda: last_seq_in(config) == len(sent.events), "all events")
            wait_for_positions(config)
            wait_until(lambda: is_caught_up(config, "compact", config.topic("events")), "compact")
        assert compact.stop() == 0, compact.log()
    finally:
        if compact.is_running:
            compact.kill()
    assert [message.value for message in frames_in(config)] == list(sent.events)
    assert topics_of(config) == before

    seen: dict[str, set[str]] = {}
    for message in read_decided(config, config.topic("status")):
        for group, members in parse_beat(message.value or b"").report.groups.items():
            seen.setdefault(group, set()).update(members)
    hosts = frozenset({upstream.host})
    for group, found in seen.items():
        assert found <= (hosts if group in OF_UPSTREAMS else CLOSED[group]), group
    assert CLOSED.keys() <= seen.keys()
    # It did say all that.
    kinds = [dict(m.headers)["kind"] for m in read_decided(config, config.topic("events"))]
    assert kinds.count(b"commit") == kinds.count(b"account") == kinds.count(b"identity")
    assert kinds.count(b"commit") == NAMES_COUNT
    others = read_decided(config, config.topic("records.other"))
    assert len({dict(m.headers)["collection"] for m in others}) == NAMES_COUNT
