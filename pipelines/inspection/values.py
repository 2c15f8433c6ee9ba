"""Small things: a record, a TID, a CID, a public key."""

import base64
from enum import Enum
from typing import Any, NamedTuple

import orjson

from pipelines.atproto import atjson
from pipelines.atproto.cid import RAW_PREFIX, cid_of, encode_cid, parse_cid
from pipelines.atproto.commit import check_record_size, check_rev_not_future
from pipelines.atproto.errors import CidError, DagCborError, IdentifierError, Reason
from pipelines.atproto.keys import (
    Curve,
    VerifyingKey,
    parse_did_key,
    parse_legacy_key,
    parse_multikey,
)
from pipelines.atproto.syntax import (
    MAX_TID_TIME_US,
    Tid,
    parse_at_uri,
    parse_tid,
    tid_clock_id,
    tid_time_us,
)
from pipelines.inspection.commits import tid_time
from pipelines.inspection.report import Checklist, RecordView, Report, Step, record_view, section

_MODEL = (
    Reason.CBOR_DATA_MODEL,
    Reason.CBOR_DEPTH,
    Reason.JSON_AMBIGUOUS,
    Reason.JSON_TOO_LARGE,
)
_FIND = Step.of("a record is found in it", Reason.JSON_INVALID)
_FROM_CBOR = (
    Step.of("canonical DAG-CBOR", Reason.CBOR_INVALID),
    Step.of("a map of the data model that JSON can express", *_MODEL),
)
_FROM_JSON = (
    Step.of("JSON without a key twice", Reason.JSON_INVALID),
    Step.of("an object of the data model", *_MODEL),
)
_SIZE = Step.of("not larger than a record may be", Reason.COMMIT_RECORD_TOO_LARGE)
_NAMED_CID = Step.of("it has the CID that stands beside it", Reason.CID_HASH_MISMATCH)

_TID = Step.of("thirteen characters of base32, in order", Reason.SYNTAX_TID)
_HIGH_BIT = Step.of("the highest bit is zero, as the layout has it", Reason.SYNTAX_TID)
_NOT_FUTURE = Step.of("as a revision it is not from the future", Reason.COMMIT_REV_FUTURE)

_CID = Step.of("the one text form of a CID of version 1 with SHA-256", Reason.CID_INVALID)
_BLOCK = Step.of("the block has this hash", Reason.CID_HASH_MISMATCH)

_KEY = Step.of("a point on K-256 or P-256", "key")


class _Form(Enum):
    """In what form a record was given: what is checked of it, in this order."""

    CBOR = _FROM_CBOR
    JSON = _FROM_JSON
    INNER_JSON = _FROM_JSON[1:]  # who took it out of a larger object has parsed it


class _Found(NamedTuple):
    """A record as it was given.

    Attributes:
        raw: its bytes; None where it is said that there is none.
        form: what they are.
        cid: the CID that stood beside it, if one did.
        path: likewise.
    """

    raw: bytes | None
    form: _Form
    cid: str | None
    path: str | None


def inspect_record(raw: bytes) -> Report:
    """Inspects a record.

    Args:
        raw: a DAG-CBOR block; AT JSON; or JSON with the record in it and its CID beside it, as
            the record topics and `com.atproto.repo.getRecord` have it.
    """
    checks = Checklist()
    found = checks.run((_FIND,), lambda: _find_record(raw))
    if found is None:
        checks.skip((*_FROM_JSON, _SIZE, _NAMED_CID), f"after {_FIND.name!r}")
        return Report("record", (), checks.results)
    given = found.raw
    if given is None:
        return Report("message without a record: a delete", (), checks.results)
    if found.form is _Form.CBOR:
        block = given
        checks.run(found.form.value, lambda: atjson.to_json(given))
    else:
        encoded = checks.run(found.form.value, lambda: atjson.from_json(given))
        if encoded is None:
            checks.skip((_SIZE, _NAMED_CID), "without a block")
            return Report(f"record, {len(given)} bytes of JSON", (), checks.results)
        block = encoded
    cid = cid_of(block)
    checks.run((_SIZE,), lambda: check_record_size(block, found.path))
    if found.cid is None:
        checks.skip((_NAMED_CID,), "none stands there")
    else:
        checks.run((_NAMED_CID,), lambda: _check_named_cid(encode_cid(cid), found.cid))
    view = record_view(found.path, cid, block)
    facts = section("record", cid=cid, path=found.path, **{"$type": _type_of(view)})
    return Report(f"record of {len(block)} bytes", (facts,), checks.results, records=(view,))


def _find_record(raw: bytes) -> _Found:
    # No map of CBOR begins with a brace, and no record is anything else.
    if not raw.lstrip().startswith(b"{"):
        return _Found(raw, _Form.CBOR, None, None)
    try:
        outer = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise DagCborError(Reason.JSON_INVALID, str(error)) from None
    path = _path_beside(outer)
    if path is None:
        return _Found(raw, _Form.JSON, None, None)
    cid = cid if isinstance(cid := outer.get("cid"), str) else None
    inner, block = outer.get("record", outer.get("value")), outer.get("record_cbor")
    if isinstance(block, str):
        try:
            return _Found(base64.b64decode(block, validate=True), _Form.CBOR, cid, path)
        except ValueError:
            raise DagCborError(Reason.JSON_INVALID, "record_cbor is not base64") from None
    if inner is None:
        return _Found(None, _Form.INNER_JSON, cid, path)
    try:
        return _Found(orjson.dumps(inner), _Form.INNER_JSON, cid, path)
    except orjson.JSONEncodeError as error:  # nested too deep to be taken out
        raise DagCborError(Reason.JSON_INVALID, str(error)) from None


def _path_beside(outer: dict[str, Any]) -> str | None:
    """Returns the path of the record inside a JSON object; None if it is a record itself."""
    if not {"record", "value"} & outer.keys():
        return None
    try:
        uri = parse_at_uri(outer.get("uri"))
    except IdentifierError:
        return None
    return None if uri.rkey is None else f"{uri.collection}/{uri.rkey}"


def _check_named_cid(cid: str, named: str | None) -> None:
    if cid != named:
        raise CidError(Reason.CID_HASH_MISMATCH, f"{named} stands beside it")


def _type_of(view: RecordView) -> str | None:
    value: Any = {} if view.json is None else orjson.loads(view.json).get("$type")
    return value if isinstance(value, str) else None


def inspect_tid(text: str, now_us: int) -> Report:
    """Inspects a TID.

    Args:
        text: what is said to be one.
        now_us: the present, microseconds since the epoch.
    """
    checks = Checklist()
    tid = checks.run((_TID,), lambda: parse_tid(text))
    if tid is None:
        checks.skip((_HIGH_BIT, _NOT_FUTURE), f"after {_TID.name!r}")
        return Report("TID", (), checks.results)
    checks.run((_HIGH_BIT,), lambda: _check_high_bit(tid))
    checks.run((_NOT_FUTURE,), lambda: check_rev_not_future(tid, now_us))
    facts = section(
        "what it says",
        time=tid_time(tid),
        time_us=tid_time_us(tid),
        clock_id=tid_clock_id(tid),
        age_s=(now_us - tid_time_us(tid)) // 1_000_000,
    )
    return Report(f"TID {tid}", (facts,), checks.results)


def _check_high_bit(tid: Tid) -> None:
    if tid_time_us(tid) > MAX_TID_TIME_US:
        raise IdentifierError(Reason.SYNTAX_TID, f"it starts with {tid[0]!r}")


def inspect_cid(text: str, block: bytes | None) -> Report:
    """Inspects a CID.

    Args:
        text: what is said to be one.
        block: what it is said to be of, if that is at hand.
    """
    checks = Checklist()
    cid = checks.run((_CID,), lambda: parse_cid(text))
    if cid is None or block is None:
        checks.skip((_BLOCK,), "give the block with --block" if cid else f"after {_CID.name!r}")
    else:
        checks.run((_BLOCK,), lambda: _check_block(cid, block))
    if cid is None:
        return Report("CID", (), checks.results)
    is_blob = cid.startswith(RAW_PREFIX)
    facts = section(
        "what it says",
        version=cid[0],
        codec="raw: a blob" if is_blob else "dag-cbor: an object",
        hash="sha-256",
        digest=cid[4:].hex(),
        bytes=cid.hex(),
    )
    return Report(f"CID {encode_cid(cid)}", (facts,), checks.results)


def _check_block(cid: bytes, block: bytes) -> None:
    if cid[4:] != cid_of(block)[4:]:
        raise CidError(Reason.CID_HASH_MISMATCH, f"a block of {len(block)} bytes has another hash")


def inspect_key(text: str, legacy_curve: Curve | None) -> Report:
    """Inspects a public key.

    Args:
        text: `did:key:z…` or `z…`.
        legacy_curve: curve of a key as the 2019 types of DID documents have it.
    """
    checks = Checklist()
    key = checks.run((_KEY,), lambda: _parse_key(text, legacy_curve))
    if key is None:
        return Report("public key", (), checks.results)
    facts = section(
        "what it says",
        curve={"k256": "K-256 (secp256k1)", "p256": "P-256 (secp256r1)"}[key.curve],
        did_key=key.did_key(),
        multikey=key.multikey(),
        point=key.compressed.hex(),
    )
    return Report("public key", (facts,), checks.results)


def _parse_key(text: str, legacy_curve: Curve | None) -> VerifyingKey:
    if legacy_curve is not None:
        return parse_legacy_key(legacy_curve, text)
    return parse_did_key(text) if text.startswith("did:") else parse_multikey(text)
