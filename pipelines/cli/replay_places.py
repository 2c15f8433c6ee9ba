"""Where a replay goes, as the command line says it."""

import sys
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import NamedTuple

import click

from pipelines.captures import encode_frame
from pipelines.config import KafkaConfig
from pipelines.errors import ConfigError
from pipelines.kafka.messages import InputMessage
from pipelines.kafka.topics import Format
from pipelines.replay.files import Encode, FileOutput, StreamOutput
from pipelines.replay.lines import encode_line
from pipelines.replay.outputs import Output
from pipelines.replay.planning import FRAMES, Plan
from pipelines.replay.progress import Spec
from pipelines.replay.reverify import Nowhere
from pipelines.replay.topic import TopicOutput


class Places(NamedTuple):
    """The options that name a place; with none of them it is standard output.

    Attributes:
        file: one file.
        folder: a directory of Parquet files.
        topic: physical name of a topic.
        is_again: whether a topic gets once more what it has.
        is_only_checked: whether messages do not go to standard output, where no place is named.
    """

    file: Path | None
    folder: Path | None
    topic: str | None
    is_again: bool
    is_only_checked: bool


def check_places(
    places: Places, topics: tuple[str, ...], *, is_following: bool, is_paced: bool
) -> None:
    """Checks what can be checked without a broker.

    Args:
        places: as given.
        topics: what is replayed.
        is_following: whether it has no end.
        is_paced: whether it is slower than it could be.

    Raises:
        click.UsageError: they do not go together.
    """
    if sum(place is not None for place in places[:3]) > 1:
        raise click.UsageError(
            "--to-file, --to-parquet and --to-topic exclude each other: run it once for each."
        )
    if places.is_again and places.topic is None:
        raise click.UsageError("--again is for --to-topic: files are removed by hand.")
    if places.file is None and places.folder is None:
        return
    if is_following:
        raise click.UsageError(
            "a file is named once it is whole, and --follow has no end; --to-parquet adds what is "
            "new with each run."
        )
    if is_paced:
        raise click.UsageError("nobody watches a file grow: --speed is for topics and stdout.")
    if places.file is not None:
        _check_name(places.file, topics)


def output_of(
    places: Places,
    kafka: KafkaConfig,
    plan: Plan,
    spec: Spec,
    collections: Collection[str],
    should_stop: Callable[[], bool],
) -> Output:
    """Returns what writes to a place.

    Args:
        places: checked by `check_places`.
        kafka: the cluster.
        plan: what is read.
        spec: what is asked for.
        collections: those that are asked for.
        should_stop: asked while the broker is away.

    Raises:
        BrokerUnavailableError: the broker does not answer.
        ConfigError: the place cannot take these messages.
    """
    if places.topic is not None:
        return TopicOutput(kafka, places.topic, plan, spec, should_stop, is_again=places.is_again)
    if places.folder is not None:
        return _parquet_output(places.folder, plan, spec, collections)
    if places.file is None and places.is_only_checked:
        return Nowhere()
    line_of = partial(_line_of, plan)
    if places.file is None:
        return StreamOutput(sys.stdout.buffer, line_of)
    suffix = places.file.suffix
    encode: Encode = _frame_of if suffix == ".frames" else line_of
    return FileOutput(places.file, encode, is_compressed=suffix == ".zst")


def _parquet_output(folder: Path, plan: Plan, spec: Spec, collections: Collection[str]) -> Output:
    try:
        # It is large, and optional.
        from pipelines.replay.parquet import ParquetOutput  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if error.name != "pyarrow":
            raise
        raise ConfigError(
            "--to-parquet needs pyarrow: install it with `pip install 'standpipe[parquet]'`"
        ) from None
    return ParquetOutput(folder, plan, spec, collections)


def _check_name(path: Path, topics: tuple[str, ...]) -> None:
    kinds = path.suffixes[-2:]
    if kinds[-1:] == [".frames"]:
        if topics != (FRAMES,):
            raise click.UsageError(
                f"{path.name} would hold frames alone: name it .jsonl or .jsonl.zst."
            )
    elif kinds[-1:] != [".jsonl"] and kinds != [".jsonl", ".zst"]:
        raise click.UsageError(
            f"{path.name} does not say what it holds: end it in .frames, .jsonl or .jsonl.zst."
        )
    if not path.parent.is_dir():
        raise click.UsageError(f"there is no folder {path.parent}: create it first.")


def _frame_of(message: InputMessage) -> bytes:
    return encode_frame(message.value or b"")


def _line_of(plan: Plan, message: InputMessage) -> bytes:
    spec = plan.topics[message.topic].spec
    return encode_line(message, is_json=spec.format is Format.JSON)
