"""`standpipe replay --to-topic` and `--reverify` over real topics."""

import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
from support import mortal
from support.kafka import create_topic, read_decided
from support.replay import FrameWriter, create_bridge_topics, recorded_frames, run_replay

from pipelines.config import KafkaConfig
from pipelines.errors import ConfigError, FencedError
from pipelines.kafka.messages import InputMessage
from pipelines.kafka.partition import partition_for
from pipelines.replay.planning import Plan, Request, plan_replay
from pipelines.replay.progress import Progress
from pipelines.replay.service import replay
from pipelines.replay.topic import TopicOutput

pytestmark = pytest.mark.broker

PARTITIONS = 3
SPEC = {"topics": ["frames"], "since": None}


@pytest.fixture(scope="module")
def source(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> KafkaConfig:
    config = KafkaConfig(kafka, f"test-{tmp_path_factory.mktemp('topic').name}")
    create_bridge_topics(config, PARTITIONS)
    sent = recorded_frames(Path(__file__).parents[1] / "data" / "capture")
    FrameWriter(config, PARTITIONS).write_all(sent, 40)
    return config


@pytest.fixture
def target(kafka: str, topic_prefix: str) -> str:
    return create_topic(KafkaConfig(kafka, topic_prefix), "frames", PARTITIONS + 1)


def run(
    config: KafkaConfig,
    target: str,
    plan_: Plan,
    stop_after: int | None = None,
    **members: bool,
) -> int:
    """Replays, and stops after so many blocks; returns how many were written."""
    written_count = 0

    def should_stop() -> bool:
        return stop_after is not None and written_count >= stop_after

    class Counting(TopicOutput):
        def write(self, messages: Sequence[InputMessage], progress: Progress) -> None:
            nonlocal written_count
            super().write(messages, progress)
            written_count += bool(messages)

    output = Counting(config, target, plan_, SPEC, lambda: False, **members)
    with closing(output):
        replay(config, plan_, output, SPEC, should_stop, lambda _: None)
    return written_count


def contents(messages: Sequence[InputMessage]) -> Counter[tuple[object, ...]]:
    return Counter(
        (message.key, message.value, tuple(message.headers), message.timestamp_ms)
        for message in messages
    )


def test_a_topic_gets_each_message_once_however_often_it_is_stopped(
    source: KafkaConfig, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TopicOutput, "block_bytes", 50_000)
    plan_ = plan_replay(source, Request(("frames",)))
    there = read_decided(source, source.topic("frames"))
    for _ in range(2):
        # What was read when it was stopped is written, too.
        assert run(source, target, plan_, stop_after=2) == 3
    assert run(source, target, plan_) > 2
    found = read_decided(source, target)
    assert contents(found) == contents(there)
    for message in found:
        did = (message.key or b"").decode()
        assert message.partition == partition_for(did, PARTITIONS + 1)
    for key in {message.key for message in there}:
        assert [m.value for m in found if m.key == key] == [m.value for m in there if m.key == key]
    # It is whole: nothing is written again, unless somebody wants that.
    assert run(source, target, plan_) == 0
    assert len(read_decided(source, target)) == len(there)
    assert run(source, target, plan_, is_again=True) > 2
    assert len(read_decided(source, target)) == 2 * len(there)


def test_a_topic_gets_each_message_once_wherever_in_a_transaction_it_is_killed(
    source: KafkaConfig, target: str
) -> None:
    cluster = ["--bootstrap-servers", source.bootstrap_servers]
    options = ["--to-topic", target, *cluster, "--topic-prefix", source.topic_prefix]
    for moment in mortal.Moment:
        command = [sys.executable, mortal.__file__, moment, "replay", "frames", *options]
        killed = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
    there = read_decided(source, source.topic("frames"))
    assert 0 < len(read_decided(source, target)) < len(there)
    assert run_replay(source, "frames", "--to-topic", target).return_value == 0
    assert contents(read_decided(source, target)) == contents(there)


def test_an_interrupted_replay_is_not_mixed_and_ends_where_the_topics_ended_at_its_start(
    source: KafkaConfig, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TopicOutput, "block_bytes", 50_000)
    whole = plan_replay(source, Request(("frames",)))
    shorter = {
        where: found._replace(end=found.start + (found.end - found.start) // 2)
        for where, found in whole.ranges.items()
    }
    early = Plan(whole.topics, shorter, whole.selection)
    run(source, target, early, stop_after=1)
    other = {**SPEC, "since": "2h"}
    with (
        closing(TopicOutput(source, target, whole, other, lambda: False)) as output,
        pytest.raises(ConfigError, match="was asked for something else is unfinished"),
    ):
        output.load()
    run(source, target, whole)
    there = [
        message
        for message in read_decided(source, source.topic("frames"))
        if message.offset < shorter[message.topic, message.partition].end
    ]
    assert contents(read_decided(source, target)) == contents(there)


def test_who_replays_into_the_same_topic_ends_the_one_before(
    source: KafkaConfig, target: str
) -> None:
    plan_ = plan_replay(source, Request(("frames",)))
    there = read_decided(source, source.topic("frames"))
    first = TopicOutput(source, target, plan_, SPEC, lambda: False)
    with (
        closing(first),
        closing(TopicOutput(source, target, plan_, SPEC, lambda: False)) as second,
    ):
        assert first.load() is None
        assert second.load() is None
        with pytest.raises(FencedError):
            first.begin(_begun(plan_))
        second.begin(_begun(plan_))
    run(source, target, plan_)
    assert contents(read_decided(source, target)) == contents(there)


def _begun(plan_: Plan) -> Progress:
    return Progress(SPEC, plan_.ranges)


@pytest.mark.parametrize(
    ("topic", "said"),
    [
        ("nowhere", "there is no topic nowhere at"),
        ("{prefix}.frames", "is what is replayed: name another topic"),
        ("{prefix}.events", "its stages write there: name a topic of another prefix"),
    ],
)
def test_what_may_not_be_written_is_said(source: KafkaConfig, topic: str, said: str) -> None:
    name = topic.format(prefix=source.topic_prefix)
    with pytest.raises(ConfigError, match=said):
        run_replay(source, "frames", "--to-topic", name)


def test_frames_are_proven_again(source: KafkaConfig, capture_folder: Path) -> None:
    identities = str(capture_folder / "identities.jsonl")
    result = run_replay(source, "frames", "--reverify", "--identities", identities)
    expected = Counter(
        json.loads(line)["verdict"]
        for line in (capture_folder / "expected.jsonl").read_text().splitlines()
    )
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["finding"] for line in found] == ["refused"] * expected["refused"]
    assert f"{expected['verified']} proven" in result.stderr
    assert f"{expected['skipped']} unsigned" in result.stderr
    assert all(line["reason"] and line["did"] and line["seq"] for line in found)
    assert result.return_value == 1


def test_proven_frames_alone_exit_0_and_go_where_they_are_sent(
    source: KafkaConfig, capture_folder: Path, tmp_path: Path
) -> None:
    good = next(
        (message.key or b"").decode() for message in read_decided(source, source.topic("frames"))
    )
    options = ("--did", good, "--identities", str(capture_folder / "identities.jsonl"))
    path = tmp_path / "good.frames"
    result = run_replay(source, "frames", "--reverify", *options, "--to-file", str(path))
    assert (result.return_value, result.stdout) == (0, "")
    assert path.stat().st_size > 0
