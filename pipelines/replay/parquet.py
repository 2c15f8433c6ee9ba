"""Writing a replay as Parquet files, for whoever computes over them with DuckDB and the like.

    DIR/collection=app.bsky.feed.post/date=2026-11-26/part-000001.parquet
    DIR/date=2026-11-26/part-000001.parquet                  topics without collections
    DIR/_replay.json                                         how far it goes

The date is that of the Kafka timestamp, in UTC. Collections have a folder of their own if they
have a topic of their own or were asked for, all others are in `collection=other`, so that what
outsiders write makes no folders; the at-uri tells them apart.

A block is one file in each folder that it has messages for. Blocks are the same each time, and a
file is renamed once it is whole. So a block that was written only in part, as the run was killed,
is written again over itself, and every offset is in exactly one file. The ranges that a file's
block covers stand in its metadata (`standpipe.ranges`).

A directory that is whole is gone on with by the same command: with what has come since.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.errors import ConfigError
from pipelines.kafka.messages import InputMessage, Position
from pipelines.kafka.topics import OTHER, TopicSpec
from pipelines.replay.columns import COLLECTION, Column, Type, columns_of, row_of
from pipelines.replay.files import unfinished_of, writing_whole
from pipelines.replay.outputs import OutputError
from pipelines.replay.planning import Plan
from pipelines.replay.progress import (
    Progress,
    Spec,
    difference,
    encode_progress,
    parse_progress,
)
from pipelines.replay.selection import header_of
from pipelines.replay.window import Range

# Sizes of the values of a block, before they are compressed; rows take some times as much while
# they are made.
PARQUET_BLOCK_BYTES: Final = 32 * 1024 * 1024
RANGES_KEY: Final = b"standpipe.ranges"
# Left alone by readers of a directory, as it begins with an underscore.
STATE_NAME: Final = "_replay.json"

_ARROW_TYPES: Final[Mapping[Type, pa.DataType]] = {
    Type.TEXT: pa.string(),
    Type.INTEGER: pa.int64(),
    Type.NUMBER: pa.float64(),
    Type.BOOLEAN: pa.bool_(),
    Type.BYTES: pa.binary(),
    Type.TIME: pa.timestamp("ms", tz="UTC"),
    Type.JSON: pa.string(),
}


class ParquetOutput:
    """A directory of Parquet files. Of `Output`."""

    block_bytes = PARQUET_BLOCK_BYTES
    is_prompt = False

    def __init__(self, folder: Path, plan: Plan, spec: Spec, collections: Collection[str]) -> None:
        """Touches nothing yet.

        Args:
            folder: the directory; made if it is missing.
            plan: what is read.
            spec: what is asked for.
            collections: those that are asked for.

        Raises:
            ConfigError: the topics make tables of several kinds.
        """
        self._folder = folder
        self._state = folder / STATE_NAME
        self._plan = plan
        self._spec = spec
        specs = {chosen.spec.name: chosen.spec for chosen in plan.topics.values()}
        if len(specs) > 1:
            raise ConfigError(
                f"{', '.join(specs)} have different columns: replay each into its own directory"
            )
        [self._topic_spec] = specs.values()
        self._named = frozenset(collections) | _own_topics(plan, self._topic_spec)
        self._columns = columns_of(self._topic_spec)
        self._before: Mapping[Position, Range] = {}

    def load(self) -> Progress | None:
        """As of `Output`; of a directory that is whole, what has come since is left to read."""
        try:
            stored = parse_progress(self._state.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._cannot("read", self._state, error) from None
        except ValueError as error:
            raise ConfigError(f"{self._state} is {error}: name another directory") from None
        if stored.spec != self._spec:
            raise ConfigError(
                f"{self._folder} holds a replay that was asked for something else: "
                f"{difference(stored.spec, self._spec)}; name another directory"
            )
        if stored.is_complete:
            ranges = {
                where: _further(stored.ranges.get(where), wanted)
                for where, wanted in self._plan.ranges.items()
            }
            stored = replace(stored, ranges=ranges)
            self._keep(stored)
        self._before = stored.ranges
        return stored

    def begin(self, progress: Progress) -> None:
        """As of `Output`.

        Raises:
            ConfigError: the directory holds something else.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            if set(self._folder.iterdir()) - {unfinished_of(self._state)}:
                raise ConfigError(
                    f"{self._folder} is not empty, and no replay made it: name another directory"
                )
        except OSError as error:
            raise self._cannot("make", self._folder, error) from None
        self._keep(progress)
        self._before = progress.ranges

    def write(self, messages: Sequence[InputMessage], progress: Progress) -> None:
        """As of `Output`."""
        folders: defaultdict[Path, list[InputMessage]] = defaultdict(list)
        for message in messages:
            folders[self._folder_of(message)].append(message)
        metadata = {RANGES_KEY: self._covered(progress)}
        for folder, part in folders.items():
            table = table_of(self._columns, part).replace_schema_metadata(metadata)
            path = folder / f"part-{progress.blocks_count:06}.parquet"
            try:
                folder.mkdir(parents=True, exist_ok=True)
                with writing_whole(path) as file:
                    pq.write_table(table, file, compression="zstd")
            except OSError as error:
                raise self._cannot("write", path, error) from None
        self._keep(progress)
        self._before = progress.ranges

    def finish(self) -> None:
        """As of `Output`: each file has its name already."""

    def close(self) -> None:
        """As of `Output`."""

    def _folder_of(self, message: InputMessage) -> Path:
        date = datetime.fromtimestamp(message.timestamp_ms / 1000, UTC).date().isoformat()
        collection = header_of(message, COLLECTION)
        if collection is None:
            return self._folder / f"date={date}"
        name = collection.decode(errors="replace")
        folder = name if name in self._named else OTHER
        return self._folder / f"{COLLECTION}={folder}" / f"date={date}"

    def _covered(self, progress: Progress) -> bytes:
        covered = [
            [*where, start, progress.ranges[where].start]
            for where, (start, _) in self._before.items()
            if progress.ranges[where].start > start
        ]
        return orjson.dumps(covered)

    def _keep(self, progress: Progress) -> None:
        try:
            with writing_whole(self._state) as file:
                file.write(encode_progress(progress))
        except OSError as error:
            raise self._cannot("write", self._state, error) from None

    def _cannot(self, verb: str, path: Path, error: OSError) -> OutputError:
        return OutputError(
            f"cannot {verb} {path}: {error.strerror}; make room, and run the same command again "
            "to go on where it was"
        )


def table_of(columns: Sequence[Column], messages: Sequence[InputMessage]) -> pa.Table:
    """Returns messages as a table.

    Args:
        columns: those of their topic.
        messages: in order.
    """
    rows: list[list[Any]] = [row_of(columns, message) for message in messages]
    values = zip(*rows, strict=True) if rows else ((),) * len(columns)
    arrays = [
        pa.array(cells, _ARROW_TYPES[column.type])
        for column, cells in zip(columns, values, strict=True)
    ]
    return pa.table(arrays, names=[column.name for column in columns])


def _own_topics(plan: Plan, spec: TopicSpec) -> frozenset[str]:
    return frozenset(name.removeprefix(f"{spec.name}.") for name, _, _ in plan.topics.values()) - {
        OTHER
    }


def _further(read: Range | None, wanted: Range) -> Range:
    """Returns what has come of a partition since it was read to an end."""
    return wanted if read is None else Range(read.start, max(read.start, wanted.end))
