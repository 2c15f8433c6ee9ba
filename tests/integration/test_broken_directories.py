"""Workers against directories and hosts that misbehave, over real HTTP on a real broker."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import orjson
import pytest
from aiohttp import web
from support.frames import NOW_US, did_of, publish_frames
from support.judge import assert_judged_once_and_in_order, still_parked
from support.kafka import read_committed, wait_until
from support.recordings import Recording, load_recording
from support.web import Handler, running_server
from support.workers import Worker, wait_for_positions, wait_until_nothing_is_parked

from pipelines.atproto.errors import Reason
from pipelines.atproto.syntax import Did
from pipelines.config import KafkaConfig
from pipelines.identity import waiting
from pipelines.identity.resolver import Resolver
from pipelines.kafka.admin import apply, plan
from pipelines.sim.network import load_network
from pipelines.sim.ports import Network

pytestmark = [pytest.mark.broker, pytest.mark.slow]

PARTITIONS = 2

_match_path = re.compile(
    r"/plc/([^/]+)(/log/audit)?|/web/([^/]+)/\.well-known/did\.json"
).fullmatch


@pytest.fixture
def config(kafka: str, topic_prefix: str) -> KafkaConfig:
    config = KafkaConfig(kafka, topic_prefix)
    apply(plan(config, PARTITIONS))
    return config


@pytest.fixture
def recording(capture_folder: Path) -> Recording:
    return load_recording(capture_folder)


@pytest.fixture
def network(capture_folder: Path) -> Network:
    return load_network(capture_folder)


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "WAIT_S", {"plc": 0.3, "web": 0.3})


def asked_did(path: str) -> str:
    match = _match_path(path)
    assert match is not None, path
    return match[1] or f"did:web:{match[3].replace(':', '%3A')}"


def honest(network: Network) -> Handler:
    """Answers like a directory and like did:web hosts."""

    async def handler(request: web.Request) -> web.StreamResponse:
        identity = network.find_identity(asked_did(request.raw_path))
        assert identity is not None
        is_log = request.raw_path.endswith("/log/audit")
        return web.json_response(identity.audit_log if is_log else identity.document)

    return handler


def resolver_for(url: str) -> Callable[[], Resolver]:
    return lambda: Resolver(f"{url}/plc", did_web_base=f"{url}/web")


def test_in_a_storm_of_429_everybody_waits_and_nothing_is_refused(
    config: KafkaConfig, recording: Recording, network: Network, tmp_path: Path
) -> None:
    """Spec: E-17, E-18."""
    answer = honest(network)
    is_storm = True

    async def handler(request: web.Request) -> web.StreamResponse:
        if is_storm:
            return web.Response(status=429, headers={"Retry-After": "2"})
        return await answer(request)

    publish_frames(config, recording.frames, NOW_US)
    accounts = {did_of(frame) for frame in recording.frames}
    with (
        running_server(handler) as server,
        Worker(config, resolver_for(server.url), tmp_path),
    ):
        wait_for_positions(config)
        assert {key.partition(b"/")[0].decode() for key in still_parked(config)} == accounts
        wait_until(lambda: len(server.paths) > len(accounts), "the worker to ask again")
        assert read_committed(config, config.topic("quarantine")) == []
        # That nobody can tell is no reason to look for another key.
        assert not any(path.endswith("/log/audit") for path in server.paths)
        is_storm = False
        wait_until_nothing_is_parked(config)
    assert_judged_once_and_in_order(config, recording.keys)


def test_slow_answers_are_worth_waiting_for(
    config: KafkaConfig, recording: Recording, network: Network, tmp_path: Path
) -> None:
    """Spec: E-18."""
    answer = honest(network)

    async def handler(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(1.5)  # five times what a batch waits
        return await answer(request)

    publish_frames(config, recording.frames, NOW_US)
    with (
        running_server(handler) as server,
        Worker(config, resolver_for(server.url), tmp_path),
    ):
        wait_for_positions(config)
        wait_until_nothing_is_parked(config)
    assert_judged_once_and_in_order(config, recording.keys)
    asked = Counter(path for path in server.paths if not path.endswith("/log/audit"))
    # An account's document, and again after each of its announcements.
    frames = Counter(did_of(frame) for frame in recording.frames)
    assert all(count <= frames[Did(asked_did(path))] for path, count in asked.items())
    assert sum(asked.values()) < len(recording.frames) / 2


async def _enormous(_request: web.Request) -> web.StreamResponse:
    async def body() -> AsyncIterator[bytes]:
        yield b'{"id": "'
        for _ in range(50):
            yield b"x" * 1_000_000

    return web.Response(body=body())


async def _deep(_request: web.Request) -> web.StreamResponse:
    return web.Response(body=b'{"a":' * 10_000 + b"1" + b"}" * 10_000)


async def _misnamed(_request: web.Request) -> web.StreamResponse:
    return web.json_response({"id": "did:plc:" + "2" * 24})


def test_hostile_documents_harm_nobody_but_their_accounts(
    config: KafkaConfig, recording: Recording, network: Network, tmp_path: Path
) -> None:
    """Spec: M-20, M-21."""
    answer = honest(network)
    counts = Counter(did_of(frame) for frame in recording.frames)
    hosted = [did for did, _ in counts.most_common() if did.startswith("did:plc:")]
    enormous, deep, misnamed, astray = hosted[:4]
    with running_server(honest(network)) as private:

        async def _elsewhere(_request: web.Request) -> web.StreamResponse:
            return web.Response(status=302, headers={"Location": f"{private.url}/plc/{astray}"})

        hostile: dict[str, Handler] = {
            enormous: _enormous,
            deep: _deep,
            misnamed: _misnamed,
            astray: _elsewhere,
        }

        async def handler(request: web.Request) -> web.StreamResponse:
            return await hostile.get(asked_did(request.raw_path), answer)(request)

        publish_frames(config, recording.frames, NOW_US)
        with (
            running_server(handler) as server,
            Worker(config, resolver_for(server.url), tmp_path, waiting_s=3.0),
        ):
            wait_for_positions(config)
            wait_until_nothing_is_parked(config)
        # Somebody who could redirect us would reach what only this machine may.
        assert private.paths == []
    reasons: dict[str, set[str]] = {}
    for message in read_committed(config, config.topic("quarantine")):
        reason = dict(message.headers)["q.reason"].decode()
        reasons.setdefault((message.key or b"").decode(), set()).add(reason)
    proven_bad, not_known = {Reason.IDENTITY_DOCUMENT}, {Reason.IDENTITY_UNAVAILABLE}
    assert reasons[enormous] == reasons[misnamed] == proven_bad
    assert reasons[deep] == reasons[astray] == not_known
    events = [orjson.loads(m.value or b"") for m in read_committed(config, config.topic("events"))]
    told = Counter(event["did"] for event in events if event["kind"] != "unresolved")
    for did in counts.keys() - hostile.keys():
        assert told[did] == counts[did]
