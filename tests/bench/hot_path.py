"""The hot path: from the bytes of a frame to proven records as JSON, in one process.

On frames of the real network where they are there, else on our own capture, and on generated
repositories of several sizes. Each step is measured with all steps before it, and printed is what
it adds: where the time of a commit goes. The last column is all of them as explode does it, one
step for a whole group of frames before the next. Beside it stands what the PyPI package `atproto`
takes for the same frames, which is to parse them: it proves nothing. The steps take turns in every
round, so that a slow moment of the machine meets all of them, and what counts is the time of this
process on a processor, so that others on the machine only disturb its caches.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
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
from bench import processors
from support.recordings import load_recording
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
from pipelines.atproto.frames import CommitMessage, Kind, parse_frame
from pipelines.atproto.keys import VerifyingKey
from pipelines.atproto.syntax import Did
from pipelines.explode.judging import GROUP_COUNT
from pipelines.sim.generator import Generator
from pipelines.sim.mix import Mix, Settings
from pipelines.verdict import Arrival, Proven, judge_frame, judge_frames

_CAPTURE = Path(__file__).parent.parent / "data" / "capture"
_WARM_UP_ROUNDS_COUNT = 3
_GENERATED_FRAMES_COUNT = 100
_MAX_OPS_COUNT = 20
# Only commits, of one operation each, with keys on the curve of practically every account.
_ONE_OP = Mix(
    p256=0,
    did_web=0,
    several_ops=0,
    delete_account=0,
    deactivate_account=0,
    change_handle=0,
    rotate_key=0,
    sign_again=0,
)


class _Generated(NamedTuple):
    """A line of the table on generated repositories.

    Attributes:
        name: what it is.
        settings: the network whose first commits are taken.
    """

    name: str
    settings: Settings


_GENERATED = (
    _Generated("10 records", Settings(100, records_count=10, mix=_ONE_OP)),
    _Generated("1,000 records", Settings(10, records_count=1_000, mix=_ONE_OP)),
    _Generated("100,000 records", Settings(1, records_count=100_000, mix=_ONE_OP)),
    _Generated(
        f"1,000 records, 2-{_MAX_OPS_COUNT} ops",
        Settings(10, records_count=1_000, mix=replace(_ONE_OP, several_ops=1)),
    ),
    _Generated(
        "1,000 records, P-256", Settings(10, records_count=1_000, mix=replace(_ONE_OP, p256=1))
    ),
)


class _Step(NamedTuple):
    """A column of the table: a step's name, and what is done with frames up to it."""

    name: str
    run: Callable[[Sequence[bytes]], object]


class _Keys:
    """Parsed keys at hand, as a worker has them after an account's first commit."""

    def __init__(self) -> None:
        self.by_did: dict[Did, VerifyingKey] = {}

    def current_key(self, did: Did) -> VerifyingKey:
        return self.by_did[did]

    def refreshed_key(self, did: Did, since_us: int | None) -> None:
        raise AssertionError(f"the current key of {did} is right at {since_us}")

    def key_at(self, did: Did, time_us: int) -> None:
        raise AssertionError(f"the current key of {did} is right at {time_us}")


def run(rounds: int) -> None:
    """Measures and prints."""
    keys = _Keys()
    steps = _steps(keys)
    names = "".join(f"{step.name:>11}" for step in steps[1:-1])
    click.echo(
        f"Hot path: microseconds of processor a commit, at the fastest of {rounds} rounds; "
        "the rates are those\n"
        f"in groups of {GROUP_COUNT}, at the fastest round and at the median ({processors.load()})"
    )
    click.echo(
        f"{'':24}  bytes{steps[0].name:>11} |{names}  together  {steps[-1].name}"
        "  commits/s  median"
    )
    folder = recording_folder()
    _print_line(folder.name, _recorded(folder, keys), steps, rounds)
    for name, settings in _GENERATED:
        _print_line(name, _generate(settings, keys), steps, rounds)


def _print_line(name: str, frames: Sequence[bytes], steps: Sequence[_Step], rounds: int) -> None:
    parse_only, *ours, grouped = _measure(steps, frames, rounds)
    best_us = [0.0, *map(min, ours)]
    added = "".join(f"{after - before:11.1f}" for before, after in pairwise(best_us))
    size = sum(map(len, frames)) / len(frames)
    click.echo(
        f"{name:24}  {size:5.0f}{min(parse_only):11.1f} |{added}  {best_us[-1]:8.1f}"
        f"  {min(grouped):9.1f}  {1e6 / min(grouped):9,.0f}  {1e6 / median(grouped):6,.0f}"
    )


def recording_folder() -> Path:
    """Returns frames of the real network where they are there, else our own capture."""
    folder = shared_folder() / "network-frames"
    return folder if folder.is_dir() else _CAPTURE


def _steps(keys: _Keys) -> tuple[_Step, ...]:
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

    def judge(frames: Sequence[bytes]) -> None:
        for verdict in judge_frames([Arrival(frame, None) for frame in frames], keys):
            assert isinstance(verdict, Proven)
            assert isinstance(verdict.verified, VerifiedCommit)
            for _, record in verdict.verified.ops:
                _json_of(record)

    def in_groups(frames: Sequence[bytes]) -> None:
        for start in range(0, len(frames), GROUP_COUNT):
            judge(frames[start : start + GROUP_COUNT])

    return (
        _Step("parse only", _each(_parse_only)),
        _Step("decode", _each(decode)),
        _Step("hashes", _each(open_)),
        _Step("signature", _each(authenticated)),
        _Step("inversion", _each(prove)),
        _Step("JSON", _each(lambda frame: judge([frame]))),
        _Step("in groups", in_groups),
    )


def _each(run_step: Callable[[bytes], object]) -> Callable[[Sequence[bytes]], None]:
    def run(frames: Sequence[bytes]) -> None:
        for frame in frames:
            run_step(frame)

    return run


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


def _measure(steps: Sequence[_Step], frames: Sequence[bytes], rounds: int) -> list[list[float]]:
    """Returns for every step the time that a frame takes in each round, in microseconds."""
    samples: list[list[float]] = [[] for _ in steps]
    for number in range(_WARM_UP_ROUNDS_COUNT + rounds):
        for step, times_us in zip(steps, samples, strict=True):
            start_ns = time.process_time_ns()
            step.run(frames)
            elapsed_ns = time.process_time_ns() - start_ns
            if number >= _WARM_UP_ROUNDS_COUNT:
                times_us.append(elapsed_ns / 1_000 / len(frames))
    return samples


def _recorded(folder: Path, keys: _Keys) -> list[bytes]:
    """Returns the commits that every step can do: proven by the current key, readable for all."""
    recording = load_recording(folder)
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
            keys.by_did[message.did] = key
            frames.append(frame)
    return frames


def _generate(settings: Settings, keys: _Keys) -> list[bytes]:
    """Returns the first commits of a network that have few enough operations."""
    frames: list[bytes] = []
    for event in Generator(settings).events():
        if event.kind is Kind.COMMIT and len(event.ops) <= _MAX_OPS_COUNT:
            keys.by_did[event.state.did] = event.state.identity.signing_key
            frames.append(event.frame)
            if len(frames) == _GENERATED_FRAMES_COUNT:
                break
    return frames
