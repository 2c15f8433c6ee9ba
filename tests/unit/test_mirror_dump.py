"""Dumps: plain and compressed, whole and broken off (spec: L-12)."""

import gzip
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import ConfigError
from pipelines.mirror.dump import MAX_LINE_BYTES, DumpFile
from pipelines.mirror.export import FIRST, PAGE_LINES
from pipelines.mirror.source import Chunk

_COUNT = 2 * PAGE_LINES + 10
_LINES: list[dict[str, Any]] = [
    {"seq": seq, "createdAt": f"2026-01-01T00:{seq // 60:02}:{seq % 60:02}.000Z"}
    for seq in range(1, _COUNT + 1)
]
_TEXT = "".join(json.dumps(line) + "\n" for line in _LINES).encode()


def _write(folder: Path, raw: bytes) -> DumpFile:
    path = folder / "dump.jsonl"
    path.write_bytes(raw)
    return DumpFile(path)


def _chunks(dump: DumpFile, position: str = FIRST) -> list[Chunk]:
    return list(dump.chunks(position, threading.Event()))


@pytest.mark.parametrize(
    "raw",
    [_TEXT, _TEXT.rstrip(), _TEXT.replace(b"\n", b"\n\n"), gzip.compress(_TEXT)],
    ids=["plain", "no last line feed", "empty lines", "gzip"],
)
def test_a_dump_comes_in_pages(tmp_path: Path, raw: bytes) -> None:
    chunks = _chunks(_write(tmp_path, raw))
    assert [line for chunk in chunks for line in chunk.lines] == _LINES
    assert [chunk.position for chunk in chunks] == ["1000", "2000", "2010"]
    assert [chunk.is_last for chunk in chunks] == [False, False, True]
    shares = [chunk.share for chunk in chunks if chunk.share is not None]
    assert len(shares) == 3
    assert 0 < shares[0] <= shares[1] <= shares[2] == 1


def test_two_compressed_dumps_in_one_file_are_one(tmp_path: Path) -> None:
    lines = _TEXT.splitlines(keepends=True)
    halves = [b"".join(lines[:900]), b"".join(lines[900:])]
    dump = _write(tmp_path, b"".join(map(gzip.compress, halves)))
    assert [line for chunk in _chunks(dump) for line in chunk.lines] == _LINES


def test_what_is_behind_the_position_is_passed_over(tmp_path: Path) -> None:
    (chunk,) = _chunks(_write(tmp_path, _TEXT), "2005")
    assert chunk.lines == _LINES[2005:]
    (chunk,) = _chunks(_write(tmp_path, _TEXT), "2010")
    assert (chunk.lines, chunk.position, chunk.is_last) == ([], "2010", True)


def test_a_dump_by_time_goes_on_at_a_time(tmp_path: Path) -> None:
    lines = [{"createdAt": line["createdAt"]} for line in _LINES]
    dump = _write(tmp_path, "\n".join(map(json.dumps, lines)).encode())
    chunks = _chunks(dump)
    assert [line for chunk in chunks for line in chunk.lines] == lines
    assert chunks[0].position == lines[PAGE_LINES - 2]["createdAt"]
    (rest,) = _chunks(dump, chunks[1].position)
    assert rest.lines == lines[2 * PAGE_LINES - 1 :]


def test_an_empty_dump_has_nothing(tmp_path: Path) -> None:
    (chunk,) = _chunks(_write(tmp_path, b""))
    assert (chunk.lines, chunk.position, chunk.is_last) == ([], FIRST, True)


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        (_TEXT[:-30], "breaks off at line 2010: not JSON"),
        (_TEXT + b"[]\n", "breaks off at line 2011: not a JSON object"),
        (_TEXT + b'{"a": "' + b"x" * MAX_LINE_BYTES, "line 2011: longer than"),
        (gzip.compress(_TEXT)[:-20], "breaks off at line"),
        (gzip.compress(_TEXT)[:-8] + bytes(8), "breaks off at line"),
    ],
    ids=["cut off", "no object", "endless line", "cut off gzip", "bad sum"],
)
def test_a_broken_dump_gives_what_came_before(tmp_path: Path, raw: bytes, complaint: str) -> None:
    chunks = _write(tmp_path, raw).chunks(FIRST, threading.Event())
    seen: list[Chunk] = []
    with pytest.raises(ConfigError, match=complaint):
        seen.extend(chunks)
    got = [line for chunk in seen for line in chunk.lines]
    assert got == _LINES[: len(got)]
    assert len(got) >= PAGE_LINES
    assert not any(chunk.is_last for chunk in seen)


def test_lines_out_of_order_are_no_dump(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"not the dump of an export: .* 1 follows 2"):
        _chunks(_write(tmp_path, b'{"seq": 2}\n{"seq": 1}\n'))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.jsonl: No such file"):
        _chunks(DumpFile(tmp_path / "none.jsonl"))


def test_a_stop_ends_it_early(tmp_path: Path) -> None:
    stop = threading.Event()
    chunks = _write(tmp_path, _TEXT).chunks(FIRST, stop)
    assert next(chunks).position == "1000"
    stop.set()
    assert not any(chunk.is_last for chunk in chunks)
