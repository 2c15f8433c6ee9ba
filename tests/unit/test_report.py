"""The lines of a report: verdicts in a word, and the chain beside them."""

from collections.abc import Iterable

from support.oracle import dag_cbor
from support.repo import DID, OTHER_SIGNER, Repo, ScriptedKeys, Step, record
from support.wire import START_TIME, frame, rev

from pipelines.atproto.commit import MAX_CLOCK_SKEW_US
from pipelines.atproto.errors import Reason
from pipelines.atproto.frames import Kind
from pipelines.atproto.syntax import parse_tid, tid_time_us
from pipelines.report import Chain, FrameReport, Outcome, report_frame, report_frames


def _report(frames: Iterable[bytes]) -> list[FrameReport]:
    return list(report_frames(frames, ScriptedKeys()))


def _steps(count: int) -> list[Step]:
    repo = Repo()
    return [repo.apply({f"com.example.note/{n}": record(str(n))}) for n in range(count)]


def _chains(frames: Iterable[bytes]) -> list[Chain | None]:
    return [line.chain for line in _report(frames)]


def test_commits_that_follow_each_other_are_a_chain() -> None:
    """Spec: G-16."""
    steps = _steps(3)
    lines = _report(step.frame(seq=10 + n) for n, step in enumerate(steps))
    assert [line.n for line in lines] == [0, 1, 2]
    assert [line.seq for line in lines] == [10, 11, 12]
    assert [line.rev for line in lines] == [step.rev for step in steps]
    assert {(line.kind, line.did, line.verdict, line.reason) for line in lines} == {
        (Kind.COMMIT, DID, Outcome.VERIFIED, None)
    }
    assert [line.chain for line in lines] == [Chain.FIRST, Chain.OK, Chain.OK]


def test_a_missing_commit_breaks_the_chain_and_not_the_verdict() -> None:
    steps = _steps(4)
    lines = _report(steps[n].frame() for n in (0, 2, 3))
    assert [line.chain for line in lines] == [Chain.FIRST, Chain.BROKEN, Chain.OK]
    assert {line.verdict for line in lines} == {Outcome.VERIFIED}


def test_both_links_of_the_chain_count() -> None:
    first, second = _steps(2)
    assert _chains([first.frame(), second.frame(since=rev(9))]) == [Chain.FIRST, Chain.BROKEN]
    unchanged = Repo()
    unchanged.apply({"com.example.note/a": record("another")})
    other = unchanged.apply({"com.example.note/0": record("0")})
    assert other.since == first.rev
    assert _chains([first.frame(), other.frame()]) == [Chain.FIRST, Chain.BROKEN]


def test_a_sync_repeats_the_head_or_signs_it_again() -> None:
    """Spec: G-31, G-32."""
    repo = Repo()
    first = repo.apply({"com.example.note/1": record("1")})
    again = repo.apply({})
    assert _chains([first.frame(), first.sync_frame()]) == [Chain.FIRST, Chain.OK]
    assert _chains([first.frame(), again.sync_frame()]) == [Chain.FIRST, Chain.OK]
    assert _chains([again.frame(), first.sync_frame()]) == [Chain.FIRST, Chain.BROKEN]


def test_a_sync_to_other_contents_breaks_the_chain_and_is_the_head_from_then_on() -> None:
    """Spec: G-33."""
    first, second, third = _steps(3)
    frames = [first.frame(), second.sync_frame(), third.frame()]
    assert _chains(frames) == [Chain.FIRST, Chain.BROKEN, Chain.OK]


def test_a_refused_commit_that_is_authentic_is_the_head() -> None:
    first, second, third = _steps(3)
    lines = _report([first.frame(), second.frame(ops=[]), third.frame()])
    assert [line.verdict for line in lines] == ["verified", "refused", "verified"]
    assert [line.chain for line in lines] == [Chain.FIRST, Chain.OK, Chain.OK]
    assert lines[1].reason == "commit.prev_data_mismatch"
    assert lines[1].detail


def test_a_refused_commit_that_is_not_authentic_has_no_place_in_the_chain() -> None:
    first, second, _ = _steps(3)
    (forged,) = [Repo(OTHER_SIGNER).apply({})]
    lines = _report([first.frame(), forged.frame(), second.frame()])
    assert [line.chain for line in lines] == [Chain.FIRST, None, Chain.OK]
    assert (lines[1].reason, lines[1].rev) == ("signature.invalid", forged.rev)


def test_a_refusal_names_the_signed_revision_where_there_is_one() -> None:
    (step,) = _steps(1)
    assert [line.rev for line in _report([step.sync_frame(rev=rev(9))])] == [step.rev]
    assert [line.rev for line in _report([step.sync_frame(rev=9)])] == [step.rev]
    assert [line.rev for line in _report([step.sync_frame(rev=9, blocks=b"x")])] == [None]


def test_a_frame_that_cannot_be_read_has_a_line() -> None:
    (line,) = _report([b"\xff"])
    assert line == FrameReport(
        0,
        Kind.UNKNOWN,
        seq=None,
        did=None,
        verdict=Outcome.REFUSED,
        reason="frame.not_cbor",
        detail=line.detail,
    )
    assert line.detail


def test_what_is_not_signed_is_skipped_with_the_reason() -> None:
    payload = {"seq": 1, "did": DID, "time": START_TIME, "active": True}
    lines = _report(
        [
            frame("#identity", payload),
            frame("#account", payload),
            frame("#info", {"name": "OutdatedCursor"}),
            dag_cbor({"op": -1}) + dag_cbor({"error": "FutureCursor"}),
            frame("#other", payload),
        ]
    )
    assert [(line.kind, line.reason) for line in lines] == [
        ("identity", "unsigned"),
        ("account", "unsigned"),
        ("info", "unsigned"),
        ("error", "unsigned"),
        ("unknown", "unknown_type"),
    ]
    assert {line.verdict for line in lines} == {Outcome.SKIPPED}
    assert {line.chain for line in lines} == {None}
    assert [line.seq for line in lines] == [1, 1, None, None, 1]


def test_a_frame_by_itself_is_judged_at_the_time_of_its_arrival() -> None:
    [step] = _steps(1)
    frame_ = step.frame(seq=1)
    arrival_us = tid_time_us(parse_tid(step.rev))
    line = report_frame(frame_, ScriptedKeys(), arrival_us)
    assert (line.verdict, line.reason, line.rev) == (Outcome.VERIFIED, None, step.rev)
    early = report_frame(frame_, ScriptedKeys(), arrival_us - MAX_CLOCK_SKEW_US - 1)
    assert (early.verdict, early.reason) == (Outcome.REFUSED, Reason.COMMIT_REV_FUTURE)
