"""Any changed byte of a proven frame is noticed, or lies where nothing is signed.

A byte is changed to another value; the frame must then be refused. Where it is not, the field is
listed here with the reason, and what the frame proves (the commit, its ops, its records) must be
exactly what the honest frame proves.

Every byte outside `blocks` is tried once, in some frames also every bit, and so is every byte of
their `blocks`; of the other frames' `blocks`, a sample. The seed is fixed: a failure comes back.
"""

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import cbor2
import pytest
from support.oracle import dag_cbor
from support.recordings import Recording, load_recording
from support.spans import Span, block_spans, cid_offset, frame_spans

from pipelines.atproto.commit import VerifiedCommit
from pipelines.atproto.frames import Kind, parse_envelope
from pipelines.atproto.syntax import parse_datetime
from pipelines.identity.offline import OfflineKeys
from pipelines.verdict import Proven, Refused, Skipped, Verdict, judge_frame

_SEED = 20260704
_WHOLE_FRAMES_COUNT = 6
_SAMPLED_BYTES_COUNT = 60

# The second byte of a CID: an object or a blob.
_DAG_CBOR, _RAW = 0x71, 0x55

# Fields in which a changed byte may leave the frame proven, and why that is right.
_NEUTRAL = {
    "seq": "the upstream's own numbering, unsigned; any positive number below 2^53 is legal",
    "time": "the upstream's clock, unsigned; any time is legal",
    "since": "unsigned, and the frame has nothing to compare it with: the chain judges it",
    "rebase": "deprecated and ignored",
    "tooBig": "deprecated and ignored",
    "blobs (head)": "deprecated and ignored: an empty list becomes another empty or small value",
    "rebase (name)": "becomes an unknown field, which is ignored",
    "tooBig (name)": "becomes an unknown field, which is ignored",
    "blobs (name)": "becomes an unknown field, which is ignored",
}
# Fields in which it may turn the frame into one of a type that we do not know and pass over: then
# nothing is claimed, and the repository's chain shows that a commit is missing.
_UNKNOWN_TYPE = {
    "header.t": "the name of another type",
    "header.op": "another operation, or an error frame",
}


@pytest.fixture(params=["network-frames", "capture"])
def recording(request: pytest.FixtureRequest, capture_folder: Path) -> Recording:
    """Frames of the real network, and ours, of which a selection is enough."""
    if request.param == "network-frames":
        return load_recording(request.getfixturevalue("shared_data") / "network-frames")
    whole = load_recording(capture_folder)
    signed = [frame for frame in whole.frames if _is_proven(_judge(frame, frame, whole.keys))]
    return Recording(tuple(random.Random(_SEED).sample(signed, 40)), whole.keys)


def _judge(frame: bytes, honest: bytes, keys: OfflineKeys) -> Verdict:
    """Judges a frame as if it had come when the honest one did."""
    return judge_frame(frame, keys, parse_datetime(parse_envelope(honest).time))


def _is_proven(verdict: Verdict) -> bool:
    return isinstance(verdict, Proven)


def _content(verdict: Verdict) -> tuple[object, ...]:
    """Returns what was proven, without the unsigned claims beside it."""
    assert isinstance(verdict, Proven)
    verified = verdict.verified
    ops = verified.ops if isinstance(verified, VerifiedCommit) else ()
    return verified.commit, ops, verified.message.rev, verified.message.blocks


def _changed(frame: bytes, offset: int, rng: random.Random) -> bytes:
    return _flipped(frame, offset, rng.randrange(1, 256))


def _flipped(frame: bytes, offset: int, bits: int) -> bytes:
    return b"%b%c%b" % (frame[:offset], frame[offset] ^ bits, frame[offset + 1 :])


def _offsets_outside_blocks(frame: bytes) -> Iterator[tuple[int, str]]:
    for span in frame_spans(frame):
        if span.field != "blocks":
            for offset in range(span.start, span.end):
                yield offset, span.field


def _blocks_range(frame: bytes) -> range:
    (span,) = [span for span in frame_spans(frame) if span.field == "blocks"]
    return range(span.start, span.end)


def test_a_changed_byte_outside_the_blocks_is_refused_or_neutral(recording: Recording) -> None:
    """Spec: G-17, M-13."""
    rng = random.Random(_SEED)
    proven: Counter[str] = Counter()
    passed_over: Counter[str] = Counter()
    for n, frame in enumerate(recording.frames):
        honest = _content(_judge(frame, frame, recording.keys))
        bits = [1 << bit for bit in range(8)] if n < _WHOLE_FRAMES_COUNT else []
        for offset, field in _offsets_outside_blocks(frame):
            damages = [_flipped(frame, offset, bit) for bit in bits]
            for damaged in (*damages, _changed(frame, offset, rng)):
                verdict = _judge(damaged, frame, recording.keys)
                match verdict:
                    case Refused():
                        continue
                    case Skipped(envelope):
                        assert envelope.kind in {Kind.UNKNOWN, Kind.ERROR}
                        passed_over[field] += 1
                    case _:
                        assert _content(verdict) == honest
                        proven[field] += 1
    # Not more, and not less: a field that is listed in vain would hide a change of behaviour.
    assert proven.keys() == _NEUTRAL.keys()
    assert passed_over.keys() == _UNKNOWN_TYPE.keys()


def test_a_changed_byte_inside_the_blocks_is_refused(recording: Recording) -> None:
    """Spec: A-45, G-06 to G-12: with one exception, for which see the next test."""
    rng = random.Random(_SEED)
    for n, frame in enumerate(recording.frames):
        codecs = {cid_offset(frame, section) + 1 for section in block_spans(frame)[1:]}
        offsets = _blocks_range(frame)
        chosen = offsets if n < _WHOLE_FRAMES_COUNT else rng.sample(offsets, _SAMPLED_BYTES_COUNT)
        for offset in chosen:
            damaged = _changed(frame, offset, rng)
            if offset in codecs and damaged[offset] == _RAW:
                continue
            verdict = _judge(damaged, frame, recording.keys)
            assert isinstance(verdict, Refused), (n, offset, verdict)


def test_a_block_renamed_to_a_blob_is_refused_where_the_block_is_needed(
    recording: Recording,
) -> None:
    """Spec: C-07, G-20.

    It still has its hash, so it is a good block that nobody asked for. The frame is then proven
    exactly where it is proven without the block: the rule for what belongs to a proof names nodes
    into which our inversion does not have to look.
    """
    outcomes: Counter[bool] = Counter()
    for frame in recording.frames:
        honest = _content(_judge(frame, frame, recording.keys))
        for section in block_spans(frame)[1:]:
            codec = cid_offset(frame, section) + 1
            assert frame[codec] == _DAG_CBOR
            renamed = _flipped(frame, codec, _DAG_CBOR ^ _RAW)
            verdict = _judge(renamed, frame, recording.keys)
            without = _judge(_without(frame, section), frame, recording.keys)
            assert type(verdict) is type(without)
            outcomes[_is_proven(verdict)] += 1
            if _is_proven(verdict):
                assert _content(verdict)[:3] == honest[:3]
    assert outcomes[False] > outcomes[True]


def _without(frame: bytes, section: Span) -> bytes:
    """Returns a frame without one of its blocks."""
    (payload_start,) = [s.start for s in frame_spans(frame) if s.field == "payload (head)"]
    payload = cbor2.loads(frame[payload_start:])
    assert dag_cbor(payload) == frame[payload_start:]
    sections = [kept for kept in block_spans(frame) if kept != section]
    payload["blocks"] = b"".join(frame[kept.start : kept.end] for kept in sections)
    return frame[:payload_start] + dag_cbor(payload)
