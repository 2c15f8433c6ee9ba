"""Reports of frames: which check failed, and that it is the one that the verdict is about."""

import random
from pathlib import Path
from typing import Any

import pytest
from support import oracle, wire
from support.damage import damage
from support.recordings import load_recording
from support.repo import OTHER_SIGNER, SIGNER, Repo, ScriptedKeys, Step, make_step, record

from pipelines.atproto.cid import cid_of, encode_cid
from pipelines.atproto.errors import IdentityError, Reason
from pipelines.atproto.frames import parse_envelope
from pipelines.atproto.keys import VerifyingKey
from pipelines.atproto.syntax import parse_datetime
from pipelines.inspection import frames
from pipelines.inspection.commits import SIGNATURE
from pipelines.inspection.report import Failed, NotReached, Passed, Report
from pipelines.verdict import Refused, judge_frame

_STEP = make_step()
_START_US = parse_datetime(wire.START_TIME)
_ENVELOPE_NAMES = [step.name for step in frames._ENVELOPE]
_ALL_STEPS = (
    *frames._ENVELOPE,
    frames._FIELDS,
    frames._OPERATIONS,
    *frames._OPEN,
    SIGNATURE,
    frames._NOT_FUTURE,
    *frames._CLAIMS,
)


def _inspect(
    frame: bytes, signing_key: VerifyingKey | None = SIGNER.key, **options: Any
) -> Report:
    defaults: dict[str, Any] = {
        "received_us": _START_US, "has_records": False, "max_tree_lines": 100
    }  # fmt: skip
    return frames.inspect_frame(frame, signing_key=signing_key, **defaults | options)


def _failures(report: Report) -> list[tuple[str, Reason]]:
    return [(check.name, check.reason) for check in report.checks if isinstance(check, Failed)]


def _facts(report: Report, title: str) -> dict[str, Any]:
    (section,) = [section for section in report.sections if section.title == title]
    return dict(section.facts)


def test_a_good_commit_passes_every_check() -> None:
    report = _inspect(_STEP.frame())
    assert report.title == f"commit frame of {len(_STEP.frame())} bytes"
    assert all(isinstance(check, Passed) for check in report.checks)
    assert len(report.checks) == len(_ALL_STEPS)
    assert _facts(report, "commit") == {
        "cid": encode_cid(cid_of(_STEP.commit)),
        "did": "did:plc:ewvi7nxzyoun6zhxrhs64oiz",
        "rev": _STEP.rev,
        "rev_time": "2026-01-01T00:00:01.000000Z",
        "data": encode_cid(_STEP.after.root),
        "prev": None,
        "signature": _STEP.opened().commit.signature.hex(),
    }
    assert _facts(report, "message")["prev_data"] == encode_cid(_STEP.before.root)


def test_operations_are_listed_and_marked_in_the_picture() -> None:
    report = _inspect(_STEP.frame())
    before, after = (oracle.read(tree.nodes, tree.root) for tree in (_STEP.before, _STEP.after))
    deleted, updated, created = (f"com.example.note/{rkey}" for rkey in ("0003", "0005", "0005a"))
    assert _facts(report, "operations (3)") == {
        f"delete {deleted}": f"no record, before {encode_cid(before[deleted])}",
        f"update {updated}": f"{encode_cid(after[updated])}, before {encode_cid(before[updated])}",
        f"create {created}": encode_cid(after[created]),
    }
    marked = {line.split()[-3]: line.split()[-1] for line in report.tree[:-1] if "ated" in line}
    assert marked == {updated: "updated", created: "created"}
    assert report.tree[-1] == f"not in what was sent: {deleted}  deleted"


def test_records_are_shown_when_asked_for() -> None:
    report = _inspect(_STEP.frame(), has_records=True)
    assert [(view.path, view.json) for view in report.records] == [
        ("com.example.note/0005", b'{"text":"second","$type":"com.example.note"}'),
        ("com.example.note/0005a", b'{"text":"new","$type":"com.example.note"}'),
    ]
    assert _inspect(_STEP.frame()).records == ()


def test_without_a_key_only_the_signature_is_left_open() -> None:
    report = _inspect(_STEP.frame(), signing_key=None)
    assert report.is_good
    assert [check for check in report.checks if not isinstance(check, Passed)] == [
        NotReached(SIGNATURE.name, "give the key with --key did:key:z…")
    ]


def test_a_wrong_key_leaves_the_rest_to_be_checked() -> None:
    report = _inspect(_STEP.frame(), signing_key=OTHER_SIGNER.key)
    assert _failures(report) == [(SIGNATURE.name, Reason.SIGNATURE_INVALID)]
    assert not any(isinstance(check, NotReached) for check in report.checks)


def test_a_sync_has_no_operations_and_no_picture() -> None:
    report = _inspect(_STEP.sync_frame())
    assert report.is_good
    assert report.title.startswith("sync frame")
    assert report.tree == ()
    assert [check.name for check in report.checks][-1] == "the message has the commit's revision"


def test_an_unsigned_message_is_only_read() -> None:
    frame = wire.frame(
        "#account",
        {
            "seq": 7,
            "did": "did:plc:ewvi7nxzyoun6zhxrhs64oiz",
            "time": wire.START_TIME,
            "active": False,
            "status": "takendown",
        },
    )
    report = _inspect(frame)
    assert report.is_good
    assert _facts(report, "message")["status"] == "takendown"
    assert len(report.checks) == 3


def _without_blocks(step: Step, *cids: bytes) -> bytes:
    blocks = [block for cid, block in step.blocks.items() if cid not in cids]
    return step.frame(blocks=wire.car(cid_of(step.commit), blocks))


@pytest.mark.parametrize(
    ("frame", "name", "reason"),
    [
        (b"\xa1", _ENVELOPE_NAMES[0], Reason.FRAME_NOT_CBOR),
        (b"", _ENVELOPE_NAMES[1], Reason.FRAME_HEADER),
        (_STEP.frame(seq=0), _ENVELOPE_NAMES[1], Reason.FRAME_FIELD),
        (
            _STEP.frame(blocks=_STEP.car[:-1]),
            "every block has the hash of its CID",
            Reason.CAR_TRUNCATED,
        ),
        (
            _STEP.frame(blocks=_STEP.car[:-1] + b"?"),
            "every block has the hash of its CID",
            Reason.CID_HASH_MISMATCH,
        ),
        (
            _without_blocks(_STEP, cid_of(_STEP.commit)),
            "the root is a commit object",
            Reason.CAR_ROOT_MISSING,
        ),
        (
            _STEP.frame(repo="did:plc:z72i7hdynmk6r22z27h6tvur"),
            "the commit is of this account",
            Reason.COMMIT_DID_MISMATCH,
        ),
        (_STEP.frame(since="x"), "every field of the message", Reason.FRAME_FIELD),
        (
            _STEP.frame(ops=[{"action": "move", "path": "com.example.note/1", "cid": None}]),
            "every operation by itself",
            Reason.FRAME_OP,
        ),
        (
            _STEP.frame(rev=wire.rev(9)),
            "the message has the commit's revision",
            Reason.COMMIT_REV_MISMATCH,
        ),
        (
            _STEP.frame(commit=oracle.link(_STEP.after.root)),
            "the message has the commit's CID",
            Reason.COMMIT_CID_MISMATCH,
        ),
        (
            _without_blocks(_STEP, *_STEP.records),
            "every record was sent",
            Reason.COMMIT_RECORD_MISSING,
        ),
        (
            _without_blocks(_STEP, _STEP.after.root),
            "the operations can be undone on the tree",
            Reason.MST_BLOCK_MISSING,
        ),
        (
            _STEP.frame(prevData=oracle.link(_STEP.after.root)),
            "undone, they give the previous root",
            Reason.COMMIT_PREV_DATA_MISMATCH,
        ),
    ],
    ids=lambda value: value if isinstance(value, Reason) else "",
)
def test_the_check_that_failed_is_named(frame: bytes, name: str, reason: Reason) -> None:
    report = _inspect(frame)
    assert _failures(report) == [(name, reason)]


def test_a_revision_is_held_against_the_time_of_arrival_or_else_the_frame_s_own() -> None:
    step = Repo().apply({"com.example.note/1": record("x")}, rev=wire.rev(3600))
    frame = step.frame()
    expected = [("the revision is not from the future", Reason.COMMIT_REV_FUTURE)]
    assert _failures(_inspect(frame)) == expected
    assert _failures(_inspect(frame, received_us=None)) == expected
    assert _inspect(frame, received_us=_START_US + 3600 * 1_000_000).is_good


def _first_failure(report: Report) -> Reason | None:
    return next((reason for _, reason in _failures(report)), None)


def _verdict_reason(frame: bytes, keys: ScriptedKeys, received_us: int | None) -> Reason | None:
    verdict = judge_frame(frame, keys, received_us)
    return verdict.error.reason if isinstance(verdict, Refused) else None


def test_the_first_failure_is_the_reason_of_the_verdict() -> None:
    """And every failed check is about what its name says, however the frame is damaged."""
    rng = random.Random(20)
    steps = {step.name: step for step in _ALL_STEPS}
    seen = set()
    for frame in (_STEP.frame(), _STEP.sync_frame()):
        for _ in range(1_500):
            damaged = damage(frame, rng, rng.randrange(1, 3))
            report = _inspect(damaged)
            reason = _verdict_reason(damaged, ScriptedKeys(SIGNER.key), _START_US)
            assert _first_failure(report) == reason
            for name, failed_reason in _failures(report):
                assert steps[name].has(failed_reason), (name, failed_reason)
            seen.add(reason)
    assert len(seen) > 10


def test_recorded_frames_get_the_verdict_s_reason(capture_folder: Path) -> None:
    frames_, keys = load_recording(capture_folder)
    refused = 0
    for frame in frames_:
        did = parse_envelope(frame).did
        try:
            key = None if did is None else keys.current_key(did)
        except IdentityError:
            key = None
        if key is None:
            continue
        report = _inspect(frame, key, received_us=None)
        reason = _verdict_reason(frame, ScriptedKeys(key), None)
        assert _first_failure(report) == reason
        refused += reason is not None
    assert refused
