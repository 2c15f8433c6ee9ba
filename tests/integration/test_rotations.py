"""New signing keys, and when a worker learns of them: each commit is proven, with few requests."""

import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest
from support.frames import publish_frames
from support.kafka import read_committed
from support.network import make_events
from support.workers import Worker, wait_for_positions

from pipelines.atproto.errors import Reason
from pipelines.atproto.frames import Kind
from pipelines.config import KafkaConfig
from pipelines.identity.resolver import Resolver
from pipelines.kafka.admin import apply, plan
from pipelines.sim.events import Event
from pipelines.sim.mix import Mix, Settings
from pipelines.sim.network import CapturedNetwork
from pipelines.sim.ports import Identity
from pipelines.sim.service import SimServer

pytestmark = pytest.mark.broker

METHODS = ("plc", "web")
SIGNED = (Kind.COMMIT, Kind.SYNC)


class Rotation:
    """An account that changes its key: what happens before, the change, and what comes then."""

    def __init__(self, method: str) -> None:
        mix = Mix(
            did_web=float(method == "web"),
            delete_account=0,
            deactivate_account=0,
            change_handle=0,
            rotate_key=0.2,
            rotate_web_key=1,
            sign_again=0,
        )
        events = make_events(Settings(accounts_count=1, mix=mix), 200)
        assert events[0].state.did.startswith(f"did:{method}:")
        keys = [event.state.identity.signing_key for event in events]
        changes = [at for at in range(1, len(keys)) if keys[at] != keys[at - 1]]
        # One with commits on both sides.
        start, at, end = next(
            places
            for places in zip([0, *changes], changes, changes[1:], strict=False)
            if places[1] - places[0] > 5 and places[2] - places[1] > 5
        )
        assert events[at].kind is Kind.IDENTITY
        self.before = [event for event in events[start:at] if event.kind in SIGNED]
        self.announcement = events[at]
        self.after = [event for event in events[at:end] if event.kind in SIGNED]
        assert {event.kind for event in self.after} == set(SIGNED)


class Host:
    """A directory that says what the test wants it to, and a worker that asks it."""

    def __init__(self, config: KafkaConfig, sim: SimServer, known: dict[str, Identity]) -> None:
        self._config = config
        self._sim = sim
        self._known = known

    def says(self, event: Event) -> None:
        """Has the directory say what is so after an event."""
        identity = event.state.identity
        self._known[event.state.did] = Identity(identity.document(), identity.audit_log())

    def send(self, *events: Event) -> None:
        """Sends events to the worker, and waits until it has judged them."""
        frames = [event.frame for event in events]
        publish_frames(self._config, frames, time.time_ns() // 1_000)
        wait_for_positions(self._config)

    def requests(self) -> Counter[str]:
        return Counter(self._sim.status()["requests"])


@pytest.fixture
def config(kafka: str, topic_prefix: str) -> KafkaConfig:
    config = KafkaConfig(kafka, topic_prefix)
    apply(plan(config, 2))
    return config


@pytest.fixture
def host(config: KafkaConfig, tmp_path: Path) -> Iterator[Host]:
    known: dict[str, Identity] = {}
    with SimServer(CapturedNetwork(frames=(), identities=known)) as sim:
        plc, web = sim.addresses.plc, sim.addresses.did_web
        with Worker(config, partial(Resolver, plc, did_web_base=web), tmp_path):
            yield Host(config, sim, known)


def judged(config: KafkaConfig) -> list[tuple[str, int]]:
    """Returns kind and sequence number of every event, in the order of one account."""
    events = [json.loads(m.value or b"") for m in read_committed(config, config.topic("events"))]
    return [(event["kind"], event["seq"]) for event in events]


def as_proven(events: Sequence[Event]) -> list[tuple[str, int]]:
    return [(event.kind, event.seq) for event in events]


@pytest.mark.parametrize("method", METHODS)
def test_a_new_key_after_its_announcement(config: KafkaConfig, host: Host, method: str) -> None:
    """spec: E-13: the document is asked for again, once, and nothing has to be tried."""
    rotation = Rotation(method)
    host.says(rotation.before[-1])
    host.send(*rotation.before)
    host.says(rotation.announcement)
    sent = [rotation.announcement, *rotation.after]
    host.send(*sent)
    assert judged(config) == as_proven([*rotation.before, *sent])
    assert host.requests() == {f"{method}_document": 2}


@pytest.mark.parametrize("method", METHODS)
def test_a_new_key_before_its_announcement(config: KafkaConfig, host: Host, method: str) -> None:
    """spec: E-14: the signature does not fit, so the document is asked for once more."""
    rotation = Rotation(method)
    host.says(rotation.before[-1])
    host.send(*rotation.before)
    host.says(rotation.announcement)
    sent = [*rotation.after, rotation.announcement]
    host.send(*sent)
    assert judged(config) == as_proven([*rotation.before, *sent])
    assert host.requests() == {f"{method}_document": 2}


@pytest.mark.parametrize("method", METHODS)
def test_a_directory_that_learns_of_it_later_than_the_stream(
    config: KafkaConfig, host: Host, method: str
) -> None:
    """What it says after the announcement is still the old key."""
    rotation = Rotation(method)
    host.says(rotation.before[-1])
    first, *late = rotation.before
    host.send(first)
    host.send(rotation.announcement, *late)
    host.says(rotation.announcement)
    host.send(*rotation.after)
    sent = [first, rotation.announcement, *late, *rotation.after]
    assert judged(config) == as_proven(sent)
    assert host.requests() == {f"{method}_document": 3}


def test_a_worker_that_comes_late_looks_into_the_log(config: KafkaConfig, host: Host) -> None:
    """spec: L-06: the directory has the new key only, the frames were signed with both."""
    rotation = Rotation("plc")
    host.says(rotation.announcement)
    sent = [*rotation.before, rotation.announcement, *rotation.after]
    host.send(*sent)
    assert judged(config) == as_proven(sent)
    requests = host.requests()
    # The first look-up, the one that the signature forced, and perhaps one for the announcement.
    assert requests["plc_audit_log"] == 1
    assert 2 <= requests["plc_document"] <= 3


def test_of_a_did_web_nobody_can_tell_the_old_key(config: KafkaConfig, host: Host) -> None:
    """Its commits of before the change are refused, for there is nothing that proves them."""
    rotation = Rotation("web")
    host.says(rotation.announcement)
    host.send(*rotation.before, rotation.announcement, *rotation.after)
    assert judged(config) == as_proven([rotation.announcement, *rotation.after])
    quarantined = read_committed(config, config.topic("quarantine"))
    assert [message.value for message in quarantined] == [e.frame for e in rotation.before]
    reasons = {dict(message.headers)["q.reason"].decode() for message in quarantined}
    assert reasons == {Reason.SIGNATURE_INVALID}
