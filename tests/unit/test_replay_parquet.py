"""Messages as columns and files, with every offset in exactly one file."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from pipelines.errors import ConfigError
from pipelines.kafka.messages import InputMessage
from pipelines.kafka.topics import registry
from pipelines.replay.columns import Type, columns_of, row_of
from pipelines.replay.parquet import RANGES_KEY, ParquetOutput, table_of
from pipelines.replay.planning import Chosen, Plan
from pipelines.replay.progress import Progress
from pipelines.replay.selection import Selection
from pipelines.replay.window import Range

LIKES, OTHERS = "records.app.bsky.feed.like", "records.other"
DAY_MS = 86_400_000
FIRST_MS = 1_795_651_200_000  # 2026-11-26, midnight
SPEC = {"topics": ["records.*"]}


def _examples(topic: str) -> list[bytes]:
    [version] = registry().specs[topic].versions
    return [path.read_bytes() for path in sorted(version.examples.iterdir(), key=str)]


def _message(
    topic: str, offset: int, value: bytes | None, ms: int = FIRST_MS, **headers: str
) -> InputMessage:
    pairs = [(name, text.encode()) for name, text in headers.items()]
    return InputMessage(topic, 0, offset, ms, b"key", value, pairs)


@pytest.mark.parametrize("topic", sorted(registry().specs))
def test_every_topic_has_columns_that_take_its_examples(topic: str) -> None:
    spec = registry().specs[topic]
    columns = columns_of(spec)
    assert len({column.name for column in columns}) == len(columns)
    values = _examples(topic) if spec.versions else [b"\x00\xff"]
    table = table_of(columns, [_message(topic, n, value) for n, value in enumerate(values)])
    assert table.num_rows == len(values)
    rows = table.to_pylist()
    for row, value in zip(rows, values if spec.versions else [], strict=bool(spec.versions)):
        expected = json.loads(value)
        for column in columns:
            if column.name in expected:
                found = row[column.name]
                is_text = column.type is Type.JSON and found is not None
                assert (json.loads(found) if is_text else found) == expected[column.name]
    # Every member of an example is somewhere: none is lost on the way.
    named = {column.name for column in columns} | {"collection"}
    assert not {name for value in values if spec.versions for name in json.loads(value)} - named


def test_the_types_of_records_are_those_of_the_schema() -> None:
    types = {column.name: column.type for column in columns_of(registry().specs["records"])}
    assert types["uri"] is Type.TEXT
    assert types["prev"] is Type.TEXT
    assert types["seq"] is Type.INTEGER
    assert types["operation"] is Type.TEXT
    assert types["record"] is Type.JSON
    assert types["kafka_time"] is Type.TIME


def test_the_headers_tell_what_is_gone() -> None:
    columns = columns_of(registry().specs["latest"])
    gone = _message("latest", 0, None, did="did:web:a", operation="delete", rev="3k", live="true")
    row = dict(zip((column.name for column in columns), row_of(columns, gone), strict=True))
    assert (row["did"], row["operation"], row["rev"]) == ("did:web:a", "delete", "3k")
    assert row["record"] is None
    assert row["key"] == "key"


def _plan(ends: Sequence[int] = (6, 3)) -> Plan:
    spec = registry().specs["records"]
    topics = {f"t.{name}": Chosen(name, spec, 1) for name in (LIKES, OTHERS)}
    ranges = {(name, 0): Range(0, end) for name, end in zip(topics, ends, strict=True)}
    return Plan(topics, ranges, Selection())


def _record(topic: str, collection: str, offset: int, day: int = 0) -> InputMessage:
    value = json.loads(_examples("records")[0])
    value.update(uri=f"at://did:web:a/{collection}/{offset}", collection=collection)
    return _message(
        f"t.{topic}",
        offset,
        json.dumps(value).encode(),
        FIRST_MS + day * DAY_MS,
        collection=collection,
    )


_LIKE, _NOTE = "app.bsky.feed.like", "com.example.note"
_FIRST_BLOCK = [
    _record(LIKES, _LIKE, 0),
    _record(OTHERS, _NOTE, 0),
    _record(LIKES, _LIKE, 1, day=1),
]
_SECOND_BLOCK = [_record(LIKES, _LIKE, 4, day=1), _record(OTHERS, "com.example.else", 2)]


def _after(progress: Progress, likes: int, others: int) -> Progress:
    starts = (likes, others)
    ranges = {
        where: Range(start, end)
        for (where, (_, end)), start in zip(progress.ranges.items(), starts, strict=True)
    }
    return replace(progress, ranges=ranges, blocks_count=progress.blocks_count + 1)


def _output(folder: Path, plan: Plan | None = None) -> ParquetOutput:
    return ParquetOutput(folder, plan or _plan(), SPEC, (_LIKE,))


def _rows(query: str) -> list[tuple[Any, ...]]:
    relation = duckdb.sql(query)
    assert relation is not None
    return relation.fetchall()


def _places(folder: Path) -> Counter[tuple[str, int]]:
    found = _rows(f"SELECT kafka_topic, kafka_offset FROM read_parquet('{folder}/**/*.parquet')")
    return Counter((topic, offset) for topic, offset in found)


def test_each_collection_and_day_has_a_folder(tmp_path: Path) -> None:
    output = _output(tmp_path / "out")
    assert output.load() is None
    progress = Progress(SPEC, _plan().ranges)
    output.begin(progress)
    output.write(_FIRST_BLOCK, _after(progress, 2, 1))
    assert sorted(
        str(path.relative_to(tmp_path / "out")) for path in tmp_path.rglob("*.parquet")
    ) == [
        "collection=app.bsky.feed.like/date=2026-11-26/part-000001.parquet",
        "collection=app.bsky.feed.like/date=2026-11-27/part-000001.parquet",
        "collection=other/date=2026-11-26/part-000001.parquet",
    ]
    found = _rows(
        f"SELECT collection, date, count(*) FROM read_parquet('{tmp_path}/out/**/*.parquet', "
        "hive_partitioning = true) GROUP BY ALL ORDER BY ALL"
    )
    assert [(collection, str(date), count) for collection, date, count in found] == [
        (_LIKE, "2026-11-26", 1),
        (_LIKE, "2026-11-27", 1),
        ("other", "2026-11-26", 1),
    ]


def test_a_block_that_was_written_in_part_is_written_over_itself(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    begun = Progress(SPEC, _plan().ranges)
    first = _after(begun, 2, 1)
    killed = _output(folder)
    killed.begin(begun)
    killed.write(_FIRST_BLOCK, first)
    state = (folder / "_replay.json").read_bytes()
    second = _after(first, 6, 3)
    killed.write(_SECOND_BLOCK, second)
    # As if the state had not been written any more, and one of the files neither.
    (folder / "_replay.json").write_bytes(state)
    next((folder / "collection=other").rglob("part-000002.parquet")).unlink()
    output = _output(folder)
    assert output.load() == first
    output.write(_SECOND_BLOCK, second)
    messages = [*_FIRST_BLOCK, *_SECOND_BLOCK]
    assert _places(folder) == Counter((m.topic, m.offset) for m in messages)
    covered = Counter(
        (topic, number, offset)
        for ranges in {
            pq.read_schema(path).metadata[RANGES_KEY] for path in folder.rglob("*.parquet")
        }
        for topic, number, start, end in json.loads(ranges)
        for offset in range(start, end)
    )
    assert covered == Counter(
        (topic, number, offset)
        for (topic, number), (_, end) in _plan().ranges.items()
        for offset in range(end)
    )


def test_a_whole_directory_takes_what_has_come_since(tmp_path: Path) -> None:
    begun = Progress(SPEC, _plan((2, 1)).ranges)
    output = _output(tmp_path / "out", _plan((2, 1)))
    output.begin(begun)
    output.write(_FIRST_BLOCK, _after(begun, 2, 1))
    later = _output(tmp_path / "out")
    progress = later.load()
    assert progress is not None
    assert list(progress.ranges.values()) == [Range(2, 6), Range(1, 3)]
    # Its new ends are noted before anything is written.
    assert _output(tmp_path / "out", _plan((9, 9))).load() == progress


def test_a_directory_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("x")
    with pytest.raises(ConfigError, match="is not empty, and no replay made it"):
        _output(tmp_path).begin(Progress(SPEC, _plan().ranges))
    output = _output(tmp_path / "out")
    output.begin(Progress(SPEC, _plan().ranges))
    other = ParquetOutput(tmp_path / "out", _plan(), {"topics": ["events"]}, ())
    with pytest.raises(ConfigError, match="was asked for something else: topics"):
        other.load()
    (tmp_path / "out" / "_replay.json").write_text("{}")
    with pytest.raises(ConfigError, match="name another directory"):
        output.load()


def test_topics_of_several_kinds_are_refused(tmp_path: Path) -> None:
    topics = {name: Chosen(name, registry().topics[name], 1) for name in (LIKES, "events")}
    with pytest.raises(ConfigError, match="records, events have different columns"):
        ParquetOutput(tmp_path, Plan(topics, {}, Selection()), SPEC, ())
