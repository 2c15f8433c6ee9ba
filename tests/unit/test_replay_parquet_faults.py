"""Parquet files that a replay was making when it was killed, or when the disk was full."""

import json
import resource
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from support.strikes import FAULTS, Fault, KilledError, full, killed_before, striking

from pipelines.kafka.messages import InputMessage, Position
from pipelines.kafka.topics import registry
from pipelines.replay.job import Job
from pipelines.replay.outputs import OutputError
from pipelines.replay.parquet import RANGES_KEY, ParquetOutput
from pipelines.replay.planning import Chosen, Plan
from pipelines.replay.progress import Progress
from pipelines.replay.selection import Selection
from pipelines.replay.window import Range

TOPIC = "t.records.other"
SPEC = {"topics": ["records.*"]}
FIRST_MS = 1_795_737_000_000  # 2026-11-26, ten minutes before midnight
COUNTS = (7, 4)  # of the two partitions
COLLECTIONS = ("app.bsky.feed.like", "com.example.note", "com.example.else")
BLOCK_BYTES = 1_500  # five messages

_EXAMPLES = registry().specs["records"].versions[0].examples
_VALUE = json.loads(min(_EXAMPLES.iterdir(), key=str).read_bytes())


def _message(partition: int, offset: int) -> InputMessage:
    collection = COLLECTIONS[(offset + partition) % 3]
    uri = f"at://did:web:a.example/{collection}/{partition}-{offset}"
    value = json.dumps({**_VALUE, "uri": uri, "collection": collection}).encode()
    headers = [("collection", collection.encode())]
    # Two minutes apart: the partitions take turns, and a new day begins in the middle.
    time_ms = FIRST_MS + 120_000 * offset
    return InputMessage(TOPIC, partition, offset, time_ms, uri.encode(), value, headers)


MESSAGES = sorted(
    (
        _message(partition, offset)
        for partition, count in enumerate(COUNTS)
        for offset in range(count)
    ),
    key=lambda message: (message.timestamp_ms, message.partition),
)
OFFSETS = Counter((message.partition, message.offset) for message in MESSAGES)
RANGES = {(TOPIC, partition): Range(0, count) for partition, count in enumerate(COUNTS)}
PLAN = Plan({TOPIC: Chosen("records.other", registry().specs["records"], 2)}, RANGES, Selection())


class _Source:
    """The messages that are left, in their order."""

    def __init__(self, progress: Progress) -> None:
        self.next_offsets: dict[Position, int] = {
            where: start for where, (start, _) in progress.ranges.items()
        }
        self.read_count = 0
        self.is_whole = True

    def __iter__(self) -> Iterator[InputMessage | None]:
        for message in MESSAGES:
            where = (message.topic, message.partition)
            if message.offset >= self.next_offsets[where]:
                self.next_offsets[where] = message.offset + 1
                self.read_count += 1
                yield message


@pytest.fixture(autouse=True, scope="module")
def _small_blocks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ParquetOutput, "block_bytes", BLOCK_BYTES)
        yield


def _run(folder: Path) -> None:
    """Begins a replay, or goes on with one."""
    output = ParquetOutput(folder, PLAN, SPEC, COLLECTIONS[:1])
    stored = output.load()
    progress = stored or Progress(SPEC, RANGES)
    if stored is None:
        output.begin(progress)
    assert Job(_Source(progress), output, progress).run(lambda: False, lambda _: None)


def _offsets(folder: Path) -> Counter[tuple[int, int]]:
    """Returns how often each offset is there, for somebody who reads all files."""
    found: Counter[tuple[int, int]] = Counter()
    for path in folder.rglob("*.parquet"):
        table = pq.read_table(path, columns=["kafka_partition", "kafka_offset"], partitioning=None)
        found.update((row["kafka_partition"], row["kafka_offset"]) for row in table.to_pylist())
    return found


def _covered(folder: Path) -> Counter[tuple[int, int]]:
    """Returns how often each offset is in the range that a block says it covers."""
    blocks = {
        path.name: pq.read_schema(path).metadata[RANGES_KEY] for path in folder.rglob("*.parquet")
    }
    return Counter(
        (partition, offset)
        for ranges in blocks.values()
        for _, partition, start, end in json.loads(ranges)
        for offset in range(start, end)
    )


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("part-*")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], int]:
    """What a replay makes that nothing befalls, and how many calls that takes."""
    folder = tmp_path_factory.mktemp("whole") / "lake"
    with striking(full, 0) as calls:
        _run(folder)
    assert _offsets(folder) == _covered(folder) == OFFSETS
    dates = {path.parent.name for path in folder.rglob("*.parquet")}
    assert dates == {"date=2026-11-26", "date=2026-11-27"}
    assert len({path.name for path in folder.rglob("*.parquet")}) > 2
    return _contents(folder), calls[0]


@pytest.mark.parametrize("fault", FAULTS)
def test_wherever_it_is_struck_each_offset_is_there_once_in_the_end(
    tmp_path: Path, whole: tuple[dict[str, bytes], int], fault: Fault
) -> None:
    contents, calls_count = whole
    for number in range(1, calls_count + 1):
        folder = tmp_path / str(number)
        with (
            striking(fault, number),
            pytest.raises((KilledError, OutputError), match=r"^$|make room, and run the same"),
        ):
            _run(folder)
        # What has a name is whole, and nothing is there twice.
        assert _offsets(folder) <= OFFSETS
        with striking(full, 0):
            _run(folder)
        assert _offsets(folder) == _covered(folder) == OFFSETS
        assert _contents(folder) == contents


def test_struck_again_and_again_it_comes_to_the_same_end(
    tmp_path: Path, whole: tuple[dict[str, bytes], int]
) -> None:
    struck_count = 0
    for _ in range(2 * len(MESSAGES)):
        # Far enough for one block: some files and a state.
        with suppress(KilledError), striking(killed_before, 12):
            _run(tmp_path / "lake")
            break
        struck_count += 1
    assert 1 < struck_count < len(MESSAGES)
    assert _contents(tmp_path / "lake") == whole[0]


def test_a_disk_that_takes_no_more_is_said_as_the_system_says_it(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, limits[1]))
    try:
        with pytest.raises(
            OutputError, match=r"cannot write .*part-000001.parquet: File too large"
        ):
            _run(tmp_path / "lake")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list((tmp_path / "lake").rglob("*.parquet"))
    _run(tmp_path / "lake")
    assert _offsets(tmp_path / "lake") == OFFSETS
