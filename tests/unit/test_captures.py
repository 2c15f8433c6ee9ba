"""The capture file format: what is read, what is refused, and what a torn tail costs."""

import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest

from pipelines.captures import CaptureError, CaptureWriter, read_frames

MESSAGES = (b"first", b"", b"\x00third\xff" * 3)
# Where each whole frame of the file with MESSAGES ends.
ENDS = (0, 9, 13, 38)
FILE = b"\x00\x00\x00\x05first" + b"\x00\x00\x00\x00" + b"\x00\x00\x00\x15" + MESSAGES[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "frames.bin"


def write(path: Path, *messages: bytes, append: bool = False) -> CaptureWriter:
    with CaptureWriter(path, append=append) as writer:
        for message in messages:
            writer.append(message)
    return writer


def test_each_message_is_written_after_its_big_endian_length(path: Path) -> None:
    writer = write(path, *MESSAGES)
    assert path.read_bytes() == FILE
    assert (writer.frame_count, writer.byte_count) == (3, 26)
    assert (writer.resumed_count, writer.cut_bytes) == (0, 0)


def test_messages_come_back_as_they_were(path: Path) -> None:
    path.write_bytes(FILE)
    assert tuple(read_frames(path)) == MESSAGES


def test_an_empty_file_is_an_empty_capture(path: Path) -> None:
    path.write_bytes(b"")
    assert list(read_frames(path)) == []


@pytest.mark.parametrize("size", [size for size in range(len(FILE)) if size not in ENDS])
def test_a_truncated_file_names_the_offset_and_the_whole_frames(path: Path, size: int) -> None:
    path.write_bytes(FILE[:size])
    whole = max(n for n, end in enumerate(ENDS) if end <= size)
    frames = read_frames(path)
    assert tuple(islice(frames, whole)) == MESSAGES[:whole]
    with pytest.raises(CaptureError) as caught:
        next(frames)
    assert (caught.value.offset, caught.value.frame_count) == (ENDS[whole], whole)
    assert "truncated" in str(caught.value)
    assert f"frame n={whole}, at byte {ENDS[whole]}" in str(caught.value)
    assert str(path) in str(caught.value)


def test_an_impossible_length_is_damage(path: Path) -> None:
    path.write_bytes(FILE[:9] + b"\x01\x00\x00\x01" + bytes(100))
    frames = read_frames(path)
    assert next(frames) == b"first"
    with pytest.raises(CaptureError, match="length of 16777217 bytes is impossible") as caught:
        next(frames)
    assert (caught.value.offset, caught.value.frame_count) == (9, 1)


def test_the_longest_message_is_16_mib(path: Path) -> None:
    longest = bytes(16 * 1024 * 1024)
    write(path, longest)
    assert list(read_frames(path)) == [longest]
    with pytest.raises(CaptureError, match="cannot be captured"):
        write(path, longest + b"!", append=True)
    assert list(read_frames(path)) == [longest]


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="nothing-here: cannot read it: No such file"):
        next(read_frames(tmp_path / "nothing-here"))
    with pytest.raises(CaptureError, match="cannot read it: Is a directory"):
        next(read_frames(tmp_path))
    with pytest.raises(CaptureError, match="cannot write it: No such file"):
        CaptureWriter(tmp_path / "no-folder" / "frames.bin")


def test_an_existing_file_is_never_overwritten(path: Path) -> None:
    path.write_bytes(FILE)
    with pytest.raises(CaptureError, match="exists already: append to it"):
        CaptureWriter(path)
    assert path.read_bytes() == FILE


def test_appending_continues_a_file_or_begins_one(path: Path) -> None:
    write(path, *MESSAGES[:1], append=True)
    writer = write(path, *MESSAGES[1:], append=True)
    assert path.read_bytes() == FILE
    assert (writer.resumed_count, writer.frame_count, writer.cut_bytes) == (1, 2, 0)


@pytest.mark.parametrize("size", range(len(FILE)))
def test_appending_cuts_off_a_torn_tail(path: Path, size: int) -> None:
    path.write_bytes(FILE[:size])
    whole = max(n for n, end in enumerate(ENDS) if end <= size)
    writer = write(path, b"new", append=True)
    assert tuple(read_frames(path)) == (*MESSAGES[:whole], b"new")
    assert (writer.resumed_count, writer.cut_bytes) == (whole, size - ENDS[whole])


def test_appending_to_a_file_that_is_no_capture_changes_nothing(path: Path) -> None:
    path.write_bytes(b"#!/bin/sh\n")
    with pytest.raises(CaptureError, match="not a capture file"):
        CaptureWriter(path, append=True)
    assert path.read_bytes() == b"#!/bin/sh\n"


def test_a_write_that_finds_no_room_is_undone(path: Path) -> None:
    # The limit on the size of files makes the write stop in the middle of a frame.
    script = f"""
import resource
from pathlib import Path
from pipelines.captures import CaptureError, CaptureWriter
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
with CaptureWriter(Path({str(path)!r})) as writer:
    writer.append(b"a" * 60)
    try:
        writer.append(b"b" * 60)
    except CaptureError as error:
        print(error.problem)
    writer.append(b"c" * 30)
    print(writer.frame_count)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == "cannot write it: File too large\n2\n"
    assert list(read_frames(path)) == [b"a" * 60, b"c" * 30]
