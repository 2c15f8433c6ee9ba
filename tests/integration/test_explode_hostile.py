"""Frames that mean no good, and an explode worker that runs as a process of its own.

Whoever writes to `frames`: the worker stays up, takes no more memory than ARCHITECTURE.md says,
everything that is valid arrives, once and in order, and everything else is in quarantine with a
reason.
"""

import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web
from confluent_kafka import Producer
from support.hostile import sized_event
from support.kafka import read_decided
from support.memory import peak_bytes
from support.pipeline import Stage
from support.repo import DID, OTHER_SIGNER, SIGNER, Repo, record
from support.web import running_server
from support.wire import frame as wire_frame
from support.workers import wait_for_positions

from pipelines.atproto.errors import Reason
from pipelines.atproto.frames import MAX_FRAME_BYTES, MAX_OPS_COUNT
from pipelines.config import KafkaConfig
from pipelines.kafka.admin import apply, plan
from pipelines.kafka.partition import partition_for

pytestmark = pytest.mark.broker

PARTITIONS = 2
SEED = 20261126
ROUNDS_COUNT = 2
# What a worker takes at most, whatever is in frames.
EXPLODE_BYTES = 512 * 1024 * 1024


@pytest.fixture
def config(kafka: str, topic_prefix: str) -> KafkaConfig:
    config = KafkaConfig(kafka, topic_prefix)
    everything = plan(config, PARTITIONS)
    # Those that the worker reads and writes.
    others = tuple(config.topic(name) for name in ("latest.", "minutes", "trends"))
    create = tuple(topic for topic in everything.create if not topic.name.startswith(others))
    apply(replace(everything, create=create))
    return config


async def directory(request: web.Request) -> web.StreamResponse:
    """A directory that knows one account, and no history of it."""
    if request.path != f"/{DID}":
        return web.Response(status=404)
    method = {
        "id": f"{DID}#atproto",
        "type": "Multikey",
        "controller": DID,
        "publicKeyMultibase": SIGNER.key.did_key().removeprefix("did:key:"),
    }
    server = {
        "id": "#atproto_pds",
        "type": "AtprotoPersonalDataServer",
        "serviceEndpoint": "https://pds.example",
    }
    return web.json_response({"id": DID, "verificationMethod": [method], "service": [server]})


class Sent:
    """What is written to `frames`, in its order.

    Attributes:
        frames: everything.
        commits: of it, the commits that have to arrive.
        others: of it, what else has to arrive, of other accounts.
    """

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.commits: list[bytes] = []
        self.others: list[bytes] = []
        self.repo = Repo()
        self._forger = Repo(OTHER_SIGNER)
        self._random = random.Random(SEED)
        self._seq = 0

    def next_seq(self) -> int:
        self._seq += 1
        return self._seq

    def add_commit(self, changes: dict[str, object]) -> None:
        self.commits.append(self.repo.apply(changes).frame(seq=self.next_seq()))
        self.frames.append(self.commits[-1])

    def add_round(self, number: int) -> None:
        """Adds each kind of bad frame once, between good ones."""
        for bad in self._bad(number):
            self.add_commit({f"com.example.note/n{len(self.frames)}": record("a note")})
            self.frames.append(bad)
        # Each of its two blocks is the record of a hundred operations; of each byte of text
        # JSON makes six.
        paths = [f"com.example.note/{number}-{n:03}" for n in range(MAX_OPS_COUNT)]
        blocks = [record(text * 950_000) for text in ("\x01", "\x02")]
        self.add_commit({path: blocks[n % 2] for n, path in enumerate(paths)})
        self.others.append(sized_event(self.next_seq(), MAX_FRAME_BYTES))
        self.frames.append(self.others[-1])

    def _bad(self, number: int) -> Iterator[bytes]:
        good = self._forger.apply({f"com.example.note/{number}": record("forged")})
        # Of another signer, who has a tree and a revision that are all right.
        yield good.frame(seq=self.next_seq())
        # Its own commit, without the last bytes of its blocks. That it is missing in the chain of
        # the valid ones is for compact to judge.
        own = self.repo.apply({f"com.example.note/x{number}": record("own")})
        yield own.frame(seq=self.next_seq(), blocks=own.car[:-20])
        whole = own.frame(seq=self.next_seq())
        yield whole[: self._random.randrange(1, len(whole))]
        yield self._random.randbytes(self._random.randrange(1, 2_000))
        yield self._random.randbytes(MAX_FRAME_BYTES)
        yield b"\x81" * MAX_FRAME_BYTES
        yield wire_frame("#commit", {"seq": self.next_seq(), "ops": [0] * 4_000_000})
        yield sized_event(self.next_seq(), MAX_FRAME_BYTES + 1)


def publish(config: KafkaConfig, frames: list[bytes]) -> None:
    producer = Producer(
        {
            "bootstrap.servers": config.bootstrap_servers,
            "message.max.bytes": 2 * MAX_FRAME_BYTES,
            "enable.idempotence": True,
        }
    )
    now_us = time.time_ns() // 1_000
    for number, frame in enumerate(frames):
        producer.produce(
            config.topic("frames"),
            frame,
            DID.encode(),
            partition_for(DID, PARTITIONS),
            headers=[
                ("host", b"relay.example"),
                ("seq", b"%d" % number),
                ("kind", b"commit"),
                ("received_us", b"%d" % now_us),
            ],
            timestamp=now_us // 1_000,
        )
        producer.poll(0)
    assert producer.flush(60) == 0


def test_what_is_valid_among_what_is_not_arrives_and_the_rest_is_in_quarantine(
    config: KafkaConfig, tmp_path: Path
) -> None:
    sent = Sent()
    for number in range(ROUNDS_COUNT):
        sent.add_round(number)
    publish(config, sent.frames)
    with running_server(directory) as plc:
        cluster = ["--bootstrap-servers", config.bootstrap_servers]
        prefix = ["--topic-prefix", config.topic_prefix]
        options = ["--plc-url", plc.url, "--state-dir", str(tmp_path / "explode")]
        stage = Stage(["explode", *options, *cluster, *prefix], tmp_path / "explode.log")
        try:
            wait_for_positions(config)
            peak = peak_bytes(stage.process.pid)
            assert stage.stop() == 0, stage.log()
        finally:
            if stage.is_running:
                stage.kill()
    frames = {
        (message.partition, message.offset): message.value
        for message in read_decided(config, config.topic("frames"))
    }
    events = [json.loads(m.value or b"") for m in read_decided(config, config.topic("events"))]
    arrived = [
        (event["did"], frames[event["frame_partition"], event["frame_offset"]])
        for event in events
        if event["kind"] != "refused"
    ]
    assert [frame for did, frame in arrived if did == DID] == sent.commits
    assert Counter(frame for did, frame in arrived if did != DID) == Counter(sent.others)
    # Of a commit that names a block so often bodies are left out, and no operation.
    assert max(len(event.get("ops", ())) for event in events) == MAX_OPS_COUNT

    quarantined = read_decided(config, config.topic("quarantine"))
    valid = Counter(sent.commits) + Counter(sent.others)
    assert Counter(message.value for message in quarantined) == Counter(sent.frames) - valid
    reasons = Counter(Reason(dict(m.headers)["q.reason"].decode()) for m in quarantined)
    assert reasons[Reason.SIGNATURE_INVALID] == ROUNDS_COUNT
    assert len(reasons) > 3
    assert peak <= EXPLODE_BYTES
