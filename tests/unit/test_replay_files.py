"""A replay into files: whole or not there, the same each time, gone on with where it was."""

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import cramjam
import pytest
from support.strikes import FAULTS, Fault, KilledError, full, striking

from pipelines.captures import encode_frame, read_frames
from pipelines.errors import ConfigError
from pipelines.kafka.messages import InputMessage, Position
from pipelines.replay.files import FileOutput
from pipelines.replay.job import Job, Tally
from pipelines.replay.lines import encode_line
from pipelines.replay.outputs import OutputError
from pipelines.replay.planning import Plan
from pipelines.replay.progress import Progress, difference, encode_progress, parse_progress
from pipelines.replay.selection import Selection
from pipelines.replay.service import resumed
from pipelines.replay.window import Range

WHERE: Position = ("frames", 0)
COUNT = 40
SPEC = {"topics": ["frames"], "since": None}


def _message(offset: int) -> InputMessage:
    value = b"%d" % offset * 200
    return InputMessage("frames", 0, offset, offset, b"did:web:a", value, [("seq", b"7")])


class _Source:
    """Messages from an offset on, in order."""

    def __init__(self, start: int) -> None:
        self.next_offsets = {WHERE: start}
        self.read_count = 0
        self.is_whole = True

    def __iter__(self) -> Iterator[InputMessage | None]:
        for offset in range(self.next_offsets[WHERE], COUNT):
            self.next_offsets[WHERE] = offset + 1
            self.read_count += 1
            yield _message(offset)


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FileOutput, "block_bytes", 1_000)


def _encode(message: InputMessage) -> bytes:
    return encode_frame(message.value or b"")


def _run(path: Path, stop_after: int = COUNT + 1, *, is_compressed: bool = False) -> bool:
    """Begins a replay, or goes on with one, and stops before one message or never."""
    moments: list[Tally] = []
    with closing(FileOutput(path, _encode, is_compressed=is_compressed)) as output:
        stored = output.load()
        progress = stored or Progress(SPEC, {WHERE: Range(0, COUNT)})
        if stored is None:
            output.begin(progress)
        source = _Source(progress.ranges[WHERE].start)
        is_whole = Job(source, output, progress).run(
            lambda: source.next_offsets[WHERE] > stop_after, moments.append
        )
    assert not is_whole or moments[-1].read_count == moments[-1].total_count
    return is_whole


@pytest.mark.parametrize("is_compressed", [False, True])
def test_wherever_it_is_stopped_the_file_is_the_same_in_the_end(
    tmp_path: Path, is_compressed: bool
) -> None:
    suffix = "frames.zst" if is_compressed else "frames"
    assert _run(tmp_path / f"whole.{suffix}", is_compressed=is_compressed)
    whole = (tmp_path / f"whole.{suffix}").read_bytes()
    for stop_after in range(0, COUNT, 3):
        path = tmp_path / f"{stop_after}.{suffix}"
        assert not _run(path, stop_after, is_compressed=is_compressed)
        assert not path.exists()
        assert _run(path, is_compressed=is_compressed)
        assert path.read_bytes() == whole
    if is_compressed:
        whole = bytes(cramjam.zstd.decompress(whole))
    assert whole == b"".join(_encode(_message(offset)) for offset in range(COUNT))
    assert not list(tmp_path.glob("*.part*"))


def test_what_was_written_behind_the_last_state_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "torn.frames"
    assert not _run(path, 20)
    with (tmp_path / "torn.frames.part").open("ab") as part:
        part.write(b"half a frame")
    assert _run(path)
    assert list(read_frames(path)) == [_message(offset).value for offset in range(COUNT)]


def test_a_part_that_is_shorter_than_its_state_is_refused(tmp_path: Path) -> None:
    assert not _run(tmp_path / "a.frames", 20)
    (tmp_path / "a.frames.part").write_bytes(b"")
    with pytest.raises(ConfigError, match="remove both to begin anew"):
        _run(tmp_path / "a.frames")
    (tmp_path / "a.frames.part.state").write_text("{}")
    with pytest.raises(
        ConfigError, match=r"not the state of a replay.*: remove it and a\.frames\.part"
    ):
        _run(tmp_path / "a.frames")


def test_a_file_that_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a.frames").write_bytes(b"precious")
    with pytest.raises(ConfigError, match="is there already: name another file"):
        _run(tmp_path / "a.frames")
    assert (tmp_path / "a.frames").read_bytes() == b"precious"


@pytest.mark.parametrize("fault", FAULTS)
def test_wherever_it_is_struck_the_file_is_whole_or_can_be_gone_on_with(
    tmp_path: Path, fault: Fault
) -> None:
    with striking(full, 0) as calls:
        assert _run(tmp_path / "whole.frames")
    whole = (tmp_path / "whole.frames").read_bytes()
    for number in range(1, calls[0] + 1):
        path = tmp_path / f"{number}.frames"
        with (
            striking(fault, number),
            pytest.raises((KilledError, OutputError), match=r"^$|No space left.*; make room, and"),
        ):
            _run(path)
        if not path.exists():
            with striking(full, 0):
                assert _run(path)
        assert path.read_bytes() == whole


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot write .*: No such file or directory"):
        _run(tmp_path / "nowhere" / "a.frames")


class _Topic:
    """Keeps what is written, as somebody would who waits for it."""

    block_bytes = 1_000
    is_prompt = True

    def __init__(self) -> None:
        self.written: list[InputMessage] = []
        self.progress = Progress(SPEC, {WHERE: Range(0, COUNT)})

    def load(self) -> Progress:
        return self.progress

    def begin(self, progress: Progress) -> None:
        raise AssertionError(progress)

    def write(self, messages: Sequence[InputMessage], progress: Progress) -> None:
        self.written += messages
        self.progress = progress

    def finish(self) -> None:
        assert self.progress.is_complete

    def close(self) -> None:
        """Has nothing open."""


@pytest.mark.parametrize("stop_after", range(0, COUNT, 3))
def test_what_was_read_when_it_is_stopped_is_written_and_not_read_again(stop_after: int) -> None:
    output = _Topic()
    source = _Source(0)
    stopped = Job(source, output, output.progress)
    assert not stopped.run(lambda: source.next_offsets[WHERE] > stop_after, lambda _: None)
    assert [message.offset for message in output.written] == list(range(stop_after + 1))
    rest = _Source(output.progress.ranges[WHERE].start)
    assert Job(rest, output, output.progress).run(lambda: False, lambda _: None)
    assert [message.offset for message in output.written] == list(range(COUNT))


def test_the_state_comes_back_as_it_was() -> None:
    ranges = {WHERE: Range(3, 9), ("frames", 1): Range(7, 7)}
    progress = Progress(SPEC, ranges, size_bytes=5, blocks_count=2)
    assert parse_progress(encode_progress(progress)) == progress
    assert not progress.is_complete
    assert replace(progress, ranges={WHERE: Range(9, 9)}).is_complete


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b'{"version":2}', b'{"version":1,"spec":{},"ranges":[],"size_bytes":0}'],
)
def test_what_is_no_state_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="not the state of a replay"):
        parse_progress(content)


def test_an_unfinished_replay_of_something_else_is_not_gone_on_with() -> None:
    plan = Plan({}, {WHERE: Range(0, 9)}, Selection())
    stored = Progress({**SPEC, "since": "2h"}, {WHERE: Range(3, 5)})
    assert resumed(stored, plan, stored.spec) is stored
    assert resumed(None, plan, SPEC) == Progress(SPEC, plan.ranges)
    with pytest.raises(ConfigError, match=r"since 2h \(now None\)"):
        resumed(stored, plan, SPEC)
    assert difference(SPEC, SPEC) == ""


@pytest.mark.parametrize(
    ("value", "is_json", "name", "expected"),
    [
        (b'{"a": 12345678901234567890}', True, "value", {"a": 12345678901234567890}),
        (b"\x00\xff", False, "value_base64", "AP8="),
        (None, True, "value", None),
        (None, False, "value", None),
    ],
)
def test_a_line_has_everything(
    value: bytes | None, is_json: bool, name: str, expected: object
) -> None:
    message = InputMessage("t", 1, 2, 3, b"at://did:web:a/x", value, [("rev", b"3k")])
    line = encode_line(message, is_json=is_json)
    assert line.endswith(b"}\n")
    assert json.loads(line) == {
        "topic": "t",
        "partition": 1,
        "offset": 2,
        "timestamp_ms": 3,
        "key": "at://did:web:a/x",
        "headers": {"rev": "3k"},
        name: expected,
    }
