"""The hot path: from the bytes of a frame to proven records as JSON, in one process.

On frames of the real network where they are there, else on our own capture. Each line does what
the line before does and one thing more; the first line of all is what the PyPI package `atproto`
does with a frame, which is to parse it: it proves nothing. The steps take turns in every round, so
that a slow moment of the machine meets all of them.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import click
from atproto import (  # type: ignore[import-untyped]  # ships no types
    CAR,
    models,
    parse_subscribe_repos_message,
)
from atproto_subscription.frames import (  # type: ignore[import-untyped]  # likewise
    Frame,
    MessageFrame,
)
from support.recordings import Recording, load_recording
from support.shared import shared_folder

from pipelines.atproto import atjson
from pipelines.atproto.commit import (
    AuthenticCommit,
    OpenedCommit,
    VerifiedCommit,
    authenticate,
    open_commit,
    prove_commit,
)
from pipelines.atproto.errors import ProtocolError
from pipelines.atproto.frames import CommitMessage, parse_frame
from pipelines.atproto.keys import VerifyingKey
from pipelines.atproto.syntax import Did
from pipelines.verdict import Proven, judge_frame

_CAPTURE = Path(__file__).parent.parent / "data" / "capture"
_WARM_UP_ROUNDS_COUNT = 3


class _Line(NamedTuple):
    """A line of the table: a step's name, and what it does with a frame."""

    name: str
    run: Callable[[bytes], object]


class _Keys:
    """Parsed keys at hand, as a worker has them after an account's first commit."""

    def __init__(self, recording: Recording, frames: Sequence[bytes]) -> None:
        self.by_did = {did: recording.keys.current_key(did) for did in map(_did, frames)}

    def current_key(self, did: Did) -> VerifyingKey:
        return self.by_did[did]

    def refreshed_key(self, did: Did, since_us: int | None) -> None:
        raise AssertionError(f"the current key of {did} is right at {since_us}")

    def key_at(self, did: Did, time_us: int) -> None:
        raise AssertionError(f"the current key of {did} is right at {time_us}")


def run(rounds: int) -> None:
    """Measures and prints."""
    folder = recording_folder()
    recording = load_recording(folder)
    frames = _measurable(recording)
    keys = _Keys(recording, frames)
    size = sum(map(len, frames)) / len(frames)
    click.echo(
        f"Hot path: {len(frames)} commits of {folder.name}, {size:,.0f} bytes each on average"
    )
    click.echo(f"{'':34}  µs min  median  commits/s  to parse only = 1")
    lines = _lines(keys)
    times_us = _measure(lines, frames, rounds)
    base_us = min(times_us[0])
    for line, samples in zip(lines, times_us, strict=True):
        best_us = min(samples)
        click.echo(
            f"{line.name:34}  {best_us:6.1f}  {median(samples):6.1f}  "
            f"{1e6 / best_us:9,.0f}  {best_us / base_us:17.2f}"
        )


def recording_folder() -> Path:
    """Returns frames of the real network where they are there, else our own capture."""
    folder = shared_folder() / "network-frames"
    return folder if folder.is_dir() else _CAPTURE


def _lines(keys: _Keys) -> tuple[_Line, ...]:
    def decode(frame: bytes) -> CommitMessage:
        message = parse_frame(frame)
        assert isinstance(message, CommitMessage)
        return message

    def open_(frame: bytes) -> tuple[CommitMessage, OpenedCommit]:
        message = decode(frame)
        return message, open_commit(message.did, message.blocks)

    def authenticated(frame: bytes) -> tuple[CommitMessage, AuthenticCommit]:
        message, opened = open_(frame)
        return message, authenticate(opened, keys.by_did[message.did])

    def prove(frame: bytes) -> VerifiedCommit:
        return prove_commit(*authenticated(frame))

    def judge(frame: bytes) -> list[bytes | None]:
        verdict = judge_frame(frame, keys, received_us=None)
        assert isinstance(verdict, Proven)
        assert isinstance(verdict.verified, VerifiedCommit)
        return [_json_of(record) for _, record in verdict.verified.ops]

    return (
        _Line("atproto (PyPI), parse only", _parse_only),
        _Line("frame decoded and checked", decode),
        _Line("+ CAR split, every block hashed", open_),
        _Line("+ signature verified", authenticated),
        _Line("+ operations inverted", prove),
        _Line("+ records as JSON (whole verdict)", judge),
    )


def _parse_only(frame: bytes) -> object:
    parsed = Frame.from_bytes(frame)
    assert isinstance(parsed, MessageFrame)
    message = parse_subscribe_repos_message(parsed)
    assert isinstance(message, models.ComAtprotoSyncSubscribeRepos.Commit)
    assert isinstance(message.blocks, bytes)
    return CAR.from_bytes(message.blocks)


def _json_of(record: bytes | None) -> bytes | None:
    if record is None:
        return None
    try:
        return atjson.to_json(record)
    except ProtocolError:  # odd, and published as CBOR
        return None


def _measure(lines: Sequence[_Line], frames: Sequence[bytes], rounds: int) -> list[list[float]]:
    """Returns for every line the time a frame takes in each round, in microseconds."""
    samples: list[list[float]] = [[] for _ in lines]
    for number in range(_WARM_UP_ROUNDS_COUNT + rounds):
        for line, times_us in zip(lines, samples, strict=True):
            run_line = line.run
            start_ns = time.perf_counter_ns()
            for frame in frames:
                run_line(frame)
            elapsed_ns = time.perf_counter_ns() - start_ns
            if number >= _WARM_UP_ROUNDS_COUNT:
                times_us.append(elapsed_ns / 1_000 / len(frames))
    return samples


def _measurable(recording: Recording) -> list[bytes]:
    """Returns the commits that every line can do: proven by the current key, readable for all."""
    frames = []
    for frame in recording.frames:
        verdict = judge_frame(frame, recording.keys, received_us=None)
        if isinstance(verdict, Proven) and isinstance(verdict.verified, VerifiedCommit):
            message = verdict.verified.message
            try:
                key = recording.keys.current_key(message.did)
                authenticate(open_commit(message.did, message.blocks), key)
                _parse_only(frame)
            except (ProtocolError, ValueError):  # an earlier key, or nested too deep for `atproto`
                continue
            frames.append(frame)
    return frames


def _did(frame: bytes) -> Did:
    message = parse_frame(frame)
    assert isinstance(message, CommitMessage)
    return message.did
