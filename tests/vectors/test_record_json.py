"""Every real record there is: its JSON is that of the same CID, so nothing is lost or made up."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.recordings import load_recording

from pipelines.atproto import atjson
from pipelines.atproto.car import read_car
from pipelines.atproto.cid import cid_of
from pipelines.atproto.commit import VerifiedCommit, parse_commit
from pipelines.atproto.errors import DagCborError
from pipelines.atproto.repo import stream_repo
from pipelines.atproto.syntax import tid_time_us
from pipelines.verdict import Proven, judge_frame

pytestmark = pytest.mark.shared


def _of_frames(folder: Path) -> Iterator[tuple[bytes, bytes]]:
    recording = load_recording(folder)
    for frame in recording.frames:
        verdict = judge_frame(frame, recording.keys, None)
        if isinstance(verdict, Proven) and isinstance(verdict.verified, VerifiedCommit):
            for op, record in verdict.verified.ops:
                if record is not None:
                    assert op.cid is not None
                    yield op.cid, record


def _of_repositories(folder: Path) -> Iterator[tuple[bytes, bytes]]:
    keys = load_recording(folder).keys
    for path in sorted(folder.glob("accounts/*/repo.car")):
        roots, blocks = read_car(path.read_bytes())
        commit = parse_commit(blocks[roots[0]])
        key = keys.key_at(commit.did, tid_time_us(commit.rev)) or keys.current_key(commit.did)
        for record in stream_repo(path.read_bytes(), key):
            yield record.cid, record.block


def test_the_json_of_every_record_maps_back_to_its_cid(
    shared_data: Path, capture_folder: Path
) -> None:
    """The network's, those of another server's exports, and our own recording. spec: A-24"""
    odd_count = 0
    records: dict[bytes, bytes] = {}
    for source in (
        _of_frames(shared_data / "network-frames"),
        _of_frames(capture_folder),
        _of_frames(shared_data / "pds-corpus"),
        _of_repositories(shared_data / "pds-corpus"),
    ):
        found = dict(source)
        assert found
        records |= found
    for cid, record in records.items():
        try:
            text = atjson.to_json(record)
        except DagCborError:
            odd_count += 1  # goes out as its bytes
            continue
        assert cid_of(atjson.from_json(text)) == cid
    # Odd records exist, and are few.
    assert len(records) > 500
    assert 0 < odd_count < len(records) // 20
