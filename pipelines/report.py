"""One line for each frame of a capture: its verdict, and how it follows its predecessor.

The verdict is about the frame by itself; the chain is about its place after the previous frame of
the same repository, and never changes the verdict.

Pure: frames and keys in, lines out.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, assert_never

from pipelines.atproto.commit import SignedCommit, VerifiedCommit, VerifiedSync
from pipelines.atproto.frames import CommitMessage, Kind
from pipelines.atproto.syntax import Did, Tid
from pipelines.verdict import KeyLookup, Proven, Refused, Skipped, Unsigned, Verdict, judge_frame


class Outcome(StrEnum):
    """The verdict in a word."""

    VERIFIED = "verified"
    REFUSED = "refused"
    SKIPPED = "skipped"


class Chain(StrEnum):
    """How a commit or sync follows the previous frame of its repository."""

    OK = "ok"
    BROKEN = "broken"
    FIRST = "first"


@dataclass(frozen=True, slots=True)
class FrameReport:
    """What a line says.

    Attributes:
        n: index of the frame in its capture, from 0.
        kind: by the header; `unknown` where that cannot be read.
        seq: position in the upstream's stream, where there is one.
        did: the account, where there is one.
        rev: the signed revision; the claimed one where no commit could be read.
        verdict: verified, refused, or skipped (nothing in it is signed).
        reason: of a refusal; of a skipped frame `unsigned` or `unknown_type`.
        detail: of a refusal, a sentence for a person.
        chain: for a commit or sync whose commit is authentic.
    """

    n: int
    kind: Kind
    seq: int | None
    did: Did | None
    rev: str | None = None
    verdict: Outcome = Outcome.SKIPPED
    reason: str | None = None
    detail: str | None = None
    chain: Chain | None = None


class _Head(NamedTuple):
    """Where a repository stands after a frame, by its signed commit."""

    rev: Tid
    data_cid: bytes


class _Claim(NamedTuple):
    """What a commit or sync says of its predecessor; a sync says nothing."""

    kind: Kind
    since: object
    prev_data: object


def report_frames(frames: Iterable[bytes], keys: KeyLookup) -> Iterator[FrameReport]:
    """Judges frames in order.

    Args:
        frames: websocket messages; "now" is each frame's own `time`.
        keys: where to look up signing keys.

    Yields:
        One report a frame.

    Raises:
        IdentityUnavailableError: a signing key cannot be looked up now.
    """
    heads: dict[Did, _Head] = {}
    for n, frame in enumerate(frames):
        yield _report(n, judge_frame(frame, keys, received_us=None), heads)


def report_frame(frame: bytes, keys: KeyLookup, received_us: int | None) -> FrameReport:
    """Judges one frame by itself.

    Args:
        frame: a websocket message.
        keys: where to look up signing keys.
        received_us: as in `pipelines.verdict.Arrival`.

    Raises:
        IdentityUnavailableError: the signing key cannot be looked up now.
    """
    return _report(0, judge_frame(frame, keys, received_us), {})


def _report(n: int, verdict: Verdict, heads: dict[Did, _Head]) -> FrameReport:
    match verdict:
        case Proven(verified):
            return _proven(n, verified, heads)
        case Unsigned(message):
            return FrameReport(n, message.kind, message.seq, message.did, reason="unsigned")
        case Refused():
            return _refused(n, verdict, heads)
        case Skipped(envelope):
            is_known = envelope.kind is not Kind.UNKNOWN
            reason = "unsigned" if is_known else "unknown_type"
            return FrameReport(n, envelope.kind, envelope.seq, envelope.did, reason=reason)
        case _:
            assert_never(verdict)


def _proven(
    n: int, verified: VerifiedCommit | VerifiedSync, heads: dict[Did, _Head]
) -> FrameReport:
    message, commit = verified.message, verified.commit
    if isinstance(message, CommitMessage):
        claim = _Claim(message.kind, message.since, message.prev_data)
    else:
        claim = _Claim(message.kind, None, None)
    chain = _follow(heads, commit, claim)
    return FrameReport(
        n,
        message.kind,
        message.seq,
        commit.did,
        commit.rev,
        verdict=Outcome.VERIFIED,
        chain=chain,
    )


def _refused(n: int, verdict: Refused, heads: dict[Did, _Head]) -> FrameReport:
    error, envelope, authentic = verdict.error, verdict.envelope, verdict.authentic
    kind, seq, did = Kind.UNKNOWN, None, None
    rev: object = None
    chain = None
    if envelope is not None:
        kind, seq, did = envelope.kind, envelope.seq, envelope.did
        rev = envelope.payload.get("rev")
        if authentic is not None:
            rev = authentic.commit.rev
            payload = envelope.payload
            claim = _Claim(kind, payload.get("since"), payload.get("prevData"))
            chain = _follow(heads, authentic.commit, claim)
    return FrameReport(
        n,
        kind,
        seq,
        did,
        rev if isinstance(rev, str) else None,
        verdict=Outcome.REFUSED,
        reason=error.reason,
        detail=error.detail,
        chain=chain,
    )


def _follow(heads: dict[Did, _Head], commit: SignedCommit, claim: _Claim) -> Chain:
    """Judges a commit against its repository's previous one, and makes it the head."""
    head = heads.get(commit.did)
    heads[commit.did] = _Head(commit.rev, commit.data_cid)
    if head is None:
        return Chain.FIRST
    if claim.kind is Kind.SYNC:
        # A sync repeats the head, or signs the same tree again under a newer revision.
        is_next = commit.rev >= head.rev and commit.data_cid == head.data_cid
    else:
        is_next = claim.since == head.rev and claim.prev_data == head.data_cid
    return Chain.OK if is_next else Chain.BROKEN
