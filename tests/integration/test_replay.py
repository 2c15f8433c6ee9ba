"""`standpipe replay` over real topics, written as the bridge writes them."""

import base64
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import cramjam
import pyarrow.parquet as pq
import pytest
from support.kafka import create_topic, read_committed
from support.replay import (
    FIRST_MS,
    OTHER,
    RELAY,
    FrameWriter,
    Sent,
    create_bridge_topics,
    recorded_frames,
    run_replay,
)

from pipelines.atproto.frames import parse_envelope
from pipelines.captures import read_frames
from pipelines.config import KafkaConfig
from pipelines.errors import ConfigError
from pipelines.kafka.partition import partition_for
from pipelines.replay.ahead import Ahead
from pipelines.replay.planning import Request, plan_replay
from pipelines.replay.service import source_of
from pipelines.replay.window import Window

pytestmark = pytest.mark.broker

PARTITIONS = 3


class Filled(NamedTuple):
    """Topics and what the upstreams brought."""

    config: KafkaConfig
    sent: Sequence[Sent]

    def of(self, host: str) -> list[bytes]:
        return [one.frame for one in self.sent if one.host == host]


@pytest.fixture(scope="module")
def filled(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Filled:
    config = KafkaConfig(kafka, f"test-{tmp_path_factory.mktemp('replay').name}")
    create_bridge_topics(config, PARTITIONS)
    create_topic(config, "minutes", 1)
    sent = recorded_frames(Path(__file__).parents[1] / "data" / "capture")
    FrameWriter(config, PARTITIONS).write_all(sent, 7)
    return Filled(config, sent)


def lines_of(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


def frames_of(lines: Sequence[Any]) -> list[bytes]:
    return [base64.b64decode(line["value_base64"]) for line in lines]


def test_frames_of_all_partitions_come_by_time_each_once(filled: Filled, tmp_path: Path) -> None:
    for name in ("first.frames", "second.frames"):
        result = run_replay(filled.config, "frames", "--to-file", str(tmp_path / name))
        assert result.return_value == 0, result.stderr
        assert f"{len(filled.sent)} messages" in result.stderr
    # They were received a second apart, so the order of time is that of arrival.
    assert list(read_frames(tmp_path / "first.frames")) == [one.frame for one in filled.sent]
    assert (tmp_path / "first.frames").read_bytes() == (tmp_path / "second.frames").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first.frames", "second.frames"]


@pytest.mark.parametrize("host", [RELAY, OTHER])
def test_the_frames_of_a_host_come_in_its_own_order(
    filled: Filled, tmp_path: Path, host: str
) -> None:
    path = tmp_path / "host.frames"
    assert (
        run_replay(filled.config, "frames", "--host", host, "--to-file", str(path)).return_value
        == 0
    )
    assert list(read_frames(path)) == filled.of(host)
    assert filled.of(host) == sorted(
        filled.of(host), key=lambda frame: parse_envelope(frame).seq or 0
    )


def test_a_window_has_the_same_bytes_each_time(filled: Filled, tmp_path: Path) -> None:
    window = ("frames", f"--since={_iso(FIRST_MS + 50_000)}", f"--until={_iso(FIRST_MS + 90_000)}")
    for name in ("first", "second"):
        folder = tmp_path / name
        folder.mkdir()
        places = (
            ("--to-file", str(folder / "frames.jsonl.zst")),
            ("--to-parquet", str(folder / "lake")),
        )
        for place in places:
            assert run_replay(filled.config, *window, "--late=43200", *place).return_value == 0
    first, second = (_contents(tmp_path / name) for name in ("first", "second"))
    assert first == second
    assert {path.suffix for path in first} == {".zst", ".parquet", ".json"}
    [lake] = (tmp_path / "first").rglob("*.parquet")
    assert pq.read_table(lake)["value"].to_pylist() == [one.frame for one in filled.sent[50:90]]


def _contents(folder: Path) -> dict[Path, bytes]:
    return {
        path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_a_row_of_sequence_numbers_has_exactly_these(filled: Filled, tmp_path: Path) -> None:
    numbers = [one.seq for one in filled.sent if one.host == RELAY]
    first, last = numbers[40], numbers[90]
    path = tmp_path / "row.frames"
    row = ("--host", RELAY, "--seq", f"{first}..{last}")
    assert run_replay(filled.config, "frames", *row, "--to-file", str(path)).return_value == 0
    assert list(read_frames(path)) == filled.of(RELAY)[40:91]


def test_a_window_by_time_has_its_begin_and_not_its_end(filled: Filled) -> None:
    since, until = FIRST_MS + 100_000, FIRST_MS + 110_000
    # The suite may take long to come here, and until then nothing is written.
    bounds = (f"--since={_iso(since)}", f"--until={_iso(until)}", "--late=43200")
    result = run_replay(filled.config, "frames", *bounds)
    assert frames_of(lines_of(result.stdout)) == [one.frame for one in filled.sent[100:110]]


def test_offsets_are_those_of_one_partition(filled: Filled) -> None:
    there = read_committed(filled.config, filled.config.topic("frames"))
    offsets = [message.offset for message in there if message.partition == 1]
    result = run_replay(filled.config, "frames", "--offsets", f"1:{offsets[3]}..{offsets[9]}")
    found = [(line["partition"], line["offset"]) for line in lines_of(result.stdout)]
    assert found == [(1, offset) for offset in offsets[3:10]]


def test_of_an_account_only_its_partition_is_read(filled: Filled) -> None:
    dids = Counter(parse_envelope(one.frame).did for one in filled.sent)
    did, count = dids.most_common(3)[2]
    assert did is not None
    plan = plan_replay(filled.config, Request(("frames",), dids=(did,)))
    assert [where[1] for where in plan.ranges] == [partition_for(did, PARTITIONS)]
    lines = lines_of(run_replay(filled.config, "frames", "--did", did).stdout)
    assert [line["key"] for line in lines] == [did] * count


def test_a_line_has_all_of_its_message(filled: Filled, tmp_path: Path) -> None:
    path = tmp_path / "frames.jsonl.zst"
    assert run_replay(filled.config, "frames", "--to-file", str(path)).return_value == 0
    lines = lines_of(bytes(cramjam.zstd.decompress(path.read_bytes())).decode())
    there = read_committed(filled.config, filled.config.topic("frames"))
    expected = [
        {
            "topic": message.topic,
            "partition": message.partition,
            "offset": message.offset,
            "timestamp_ms": message.timestamp_ms,
            "key": (message.key or b"").decode(),
            "headers": {name: value.decode() for name, value in message.headers},
            "value_base64": base64.b64encode(message.value or b"").decode(),
        }
        for message in there
    ]
    assert sorted(lines, key=lambda line: (line["partition"], line["offset"])) == expected


def test_json_values_stand_in_their_lines(filled: Filled) -> None:
    lines = lines_of(run_replay(filled.config, "epochs").stdout)
    there = read_committed(filled.config, filled.config.topic("epochs"))
    assert [line["value"] for line in lines] == [json.loads(m.value or b"") for m in there]


def test_partitions_that_run_ahead_are_paused_and_nothing_is_lost(filled: Filled) -> None:
    plan = plan_replay(filled.config, Request(("frames",), Window()))
    starts = {where: start for where, (start, _) in plan.ranges.items()}
    # Far less than there is: with every read, all partitions that have something are paused.
    ahead = Ahead(filled.config, starts, lambda: False, max_bytes=1)
    found = [message for message in source_of(plan, ahead, plan.ranges) if message is not None]
    ahead.close()
    assert [message.value for message in found] == [one.frame for one in filled.sent]


def test_a_reader_that_closes_standard_output_ends_it(filled: Filled) -> None:
    with _process(filled, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.stdout.close()
        _, errors = process.communicate(timeout=120)
    assert json.loads(first)["offset"] == 0
    assert process.returncode == 1
    assert errors == "Error: cannot write to standard output: Broken pipe\n"


def test_standard_output_that_is_full_is_said(filled: Filled) -> None:
    with Path("/dev/full").open("wb") as full, _process(filled, stdout=full) as process:
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert errors.splitlines() == [
        "Error: cannot write to standard output: No space left on device"
    ]


def _process(filled: Filled, stdout: int | BinaryIO) -> subprocess.Popen[str]:
    cluster = ["--bootstrap-servers", filled.config.bootstrap_servers]
    options = ["frames", *cluster, "--topic-prefix", filled.config.topic_prefix]
    program = [sys.executable, "-c", "from pipelines.cli import main; main()"]
    return subprocess.Popen(
        [*program, "replay", *options], stdout=stdout, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nothing",), "create it with `standpipe topics apply`"),
        (("frames", "--host", "else.example", "--seq", "1.."), f"it has {OTHER}, {RELAY}"),
        (("frames", "--host", RELAY, "--seq", "9000000.."), "has such a --seq: there are"),
        (("frames", "--offsets", "7:0.."), "names partition 7, and there are 3"),
        (("minutes", "--did", "did:web:a.example"), "minutes has no accounts"),
    ],
    ids=["no-topics", "no-host", "no-number", "no-partition", "no-accounts"],
)
def test_what_is_not_there_is_said(filled: Filled, arguments: tuple[str, ...], said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        run_replay(filled.config, *arguments)


def _iso(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat().replace("+00:00", "Z")
