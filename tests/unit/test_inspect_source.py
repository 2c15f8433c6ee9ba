"""Where an inspection gets its bytes: what is read, and how much of it."""

import io
import sys
from pathlib import Path

import click
import pytest

from pipelines.cli import inspect_source
from pipelines.cli.inspect_source import Source, read_source
from pipelines.config import KafkaConfig

_KAFKA = KafkaConfig("127.0.0.1:1")


def test_a_file_comes_before_a_message_of_the_same_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("frames:0:12").write_bytes(b"of the file")
    assert read_source("frames:0:12", _KAFKA) == Source(b"of the file", None)


@pytest.mark.parametrize("where", ["-", "file"])
def test_no_more_is_read_than_can_be_held(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspect_source, "MAX_SOURCE_BYTES", 10)
    monkeypatch.chdir(tmp_path)
    for size in (10, 11):
        Path("file").write_bytes(bytes(size))
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(bytes(size))))
        if size == 10:
            assert read_source(where, _KAFKA).raw == bytes(10)
        else:
            with pytest.raises(click.ClickException, match="larger than 10 bytes"):
                read_source(where, _KAFKA)


@pytest.mark.parametrize(
    "where",
    ["nowhere", "frames:0", "frames:0:x", "frames:-1:0", "frames:0:1\n", "a/b:0:1", ":0:1"],
)
def test_what_is_no_file_has_to_be_a_place_in_a_topic(where: str) -> None:
    with pytest.raises(click.BadParameter, match="topic:partition:offset"):
        read_source(where, _KAFKA)
