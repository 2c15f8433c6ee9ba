"""75 contiguous frames of the real network: each is proven, and says what others say it says."""

from pathlib import Path
from typing import Any

import orjson
import pytest
from support.recordings import load_recording
from support.shared import frame_cases

from pipelines.atproto import atjson
from pipelines.atproto.cid import encode_cid
from pipelines.atproto.commit import VerifiedCommit
from pipelines.report import Chain, Outcome, report_frames
from pipelines.verdict import Proven, judge_frame

pytestmark = [pytest.mark.shared, pytest.mark.usefixtures("shared_data")]


@pytest.mark.parametrize("frame", frame_cases("network-frames/frames.bin"))
def test_a_frame_is_proven_with_inversion(frame: bytes, shared_data: Path) -> None:
    """Spec: G-06 to G-12."""
    keys = load_recording(shared_data / "network-frames").keys
    verdict = judge_frame(frame, keys, received_us=None)
    assert isinstance(verdict, Proven)
    assert isinstance(verdict.verified, VerifiedCommit)
    assert verdict.verified.message.prev_data is not None
    assert verdict.verified.ops


def test_the_report_says_verified_75_times(shared_data: Path) -> None:
    recording = load_recording(shared_data / "network-frames")
    lines = list(report_frames(recording.frames, recording.keys))
    assert [line.verdict for line in lines] == [Outcome.VERIFIED] * 75
    assert [line.n for line in lines] == list(range(75))
    assert {line.chain for line in lines} <= {Chain.FIRST, Chain.OK}


def test_the_records_are_those_that_another_implementation_emitted(shared_data: Path) -> None:
    """All 77, in order, with everything that the other one tells."""
    folder = shared_data / "network-frames"
    recording = load_recording(folder)
    ours = []
    for frame in recording.frames:
        verdict = judge_frame(frame, recording.keys, received_us=None)
        assert isinstance(verdict, Proven)
        verified = verdict.verified
        assert isinstance(verified, VerifiedCommit)
        for op, record in verified.ops:
            event: dict[str, Any] = {
                "rev": verified.commit.rev,
                "operation": op.action,
                "collection": op.collection,
                "rkey": op.rkey,
            }
            if record is not None and op.cid is not None:
                event |= {
                    "cid": encode_cid(op.cid),
                    "record": orjson.loads(atjson.to_json(record)),
                }
            ours.append((verified.commit.did, event))
    lines = (folder / "expected_jetstream_v1.jsonl").read_bytes().splitlines()
    theirs = [(event["did"], event["commit"]) for event in map(orjson.loads, lines)]
    assert len(theirs) == 77
    assert ours == theirs
