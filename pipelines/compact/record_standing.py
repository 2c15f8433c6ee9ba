"""How a record in `latest.*` relates to what its account's server proves of it. Pure.

    equal        the server proves the same record, or that there is none
    behind       it proves another one in a newer commit, which may be on its way here
    drift        it proves another one in a commit that is no newer, or its proof does not hold
    inactive     it has no repository to give: nothing is known of the record
    unreachable  no server is named, or it proves nothing

Unlike the answers of `standing.py`, these are signed: nothing is taken on the server's word.

Source: lexicon com.atproto.sync.getRecord. spec: I-12, G-05, J-10
"""

from typing import NamedTuple, TypeAlias, assert_never

from pipelines.atproto.cid import encode_cid
from pipelines.atproto.commit import check_rev_not_future
from pipelines.atproto.errors import ProtocolError
from pipelines.atproto.keys import VerifyingKey
from pipelines.atproto.record_proof import VerifiedRecord, verify_record
from pipelines.atproto.syntax import Did
from pipelines.compact.provenance import LatestRecord
from pipelines.compact.standing import (
    Comparison,
    NoAnswer,
    ServerRefusal,
    Standing,
    parse_refusal,
)


class FalseProof(NamedTuple):
    """A server answers with a proof that does not hold; `detail` says why."""

    detail: str


RecordAnswer: TypeAlias = VerifiedRecord | FalseProof | ServerRefusal | NoAnswer


def parse_record_answer(
    status: int, body: bytes, signing_key: VerifyingKey, *, did: Did, path: str, now_us: int
) -> RecordAnswer:
    """Reads an answer to getRecord, and proves what it says.

    Args:
        status: of HTTP.
        body: the answer's, or its beginning.
        signing_key: the account's current one.
        did: the account.
        path: of the record, `collection/rkey`.
        now_us: the time of day, microseconds since the epoch; tells what "future" means.
    """
    if status != 200:
        return parse_refusal(body) or NoAnswer(f"status {status} and no proof")
    try:
        verified = verify_record(body, signing_key, did=did, path=path)
        check_rev_not_future(verified.commit.rev, now_us)
    except ProtocolError as error:
        return FalseProof(str(error))
    return verified


def compare_record(record: LatestRecord | None, answer: RecordAnswer) -> Comparison:
    """Compares a record with an answer that came after it was read.

    Args:
        record: as `latest.*` has it; None if it has none.
        answer: of the account's server.
    """
    match answer:
        case NoAnswer(detail):
            return Comparison(Standing.UNREACHABLE, detail)
        case ServerRefusal(error):
            return Comparison(Standing.INACTIVE, f"the server answers {error}")
        case FalseProof(detail):
            return Comparison(Standing.DRIFT, f"the server's proof does not hold: {detail}")
        case VerifiedRecord():
            return _compare_with_proof(record, answer)
        case _:
            assert_never(answer)


def has_record_arrived(record: LatestRecord | None, proven: VerifiedRecord) -> bool:
    """Tells whether what was proven is here by now, or what came after it."""
    if record is None:
        return proven.record_cid is None
    return _is_same(record, proven) or record.rev > proven.commit.rev


def _is_same(record: LatestRecord | None, proven: VerifiedRecord) -> bool:
    theirs = None if proven.record_cid is None else encode_cid(proven.record_cid)
    return theirs == (None if record is None else record.cid)


def _compare_with_proof(record: LatestRecord | None, proven: VerifiedRecord) -> Comparison:
    rev = proven.commit.rev
    if _is_same(record, proven):
        return Comparison(Standing.EQUAL, None, rev)
    theirs = "none" if proven.record_cid is None else encode_cid(proven.record_cid)
    if record is None:
        problem = f"in revision {rev} the server has record {theirs}, we none"
        return Comparison(Standing.BEHIND, problem, rev)
    problem = f"in revision {rev} the server has record {theirs}, we one of {record.rev}"
    is_newer = rev > record.rev
    return Comparison(Standing.BEHIND if is_newer else Standing.DRIFT, problem, rev)
