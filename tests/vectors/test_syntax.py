"""Published vectors for identifiers: interop/syntax (spec: K-01 to K-09)."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.atproto import strings, syntax
from pipelines.atproto.errors import IdentifierError, Reason

pytestmark = pytest.mark.shared

Parser = Callable[[object], object]

_PARSERS: dict[str, Parser] = {
    "did": syntax.parse_did,
    "handle": syntax.parse_handle,
    "nsid": syntax.parse_nsid,
    "recordkey": syntax.parse_record_key,
    "tid": syntax.parse_tid,
    "aturi": syntax.parse_at_uri,
    "datetime": syntax.parse_datetime,
    "atidentifier": syntax.parse_at_identifier,
    "uri": strings.parse_uri,
    "language": strings.parse_language,
    "cid": strings.parse_cid_text,
}
_REASONS = {
    "did": {Reason.SYNTAX_DID},
    "handle": {Reason.SYNTAX_HANDLE},
    "nsid": {Reason.SYNTAX_NSID},
    "recordkey": {Reason.SYNTAX_RECORD_KEY},
    "tid": {Reason.SYNTAX_TID},
    "aturi": {Reason.SYNTAX_AT_URI},
    "datetime": {Reason.SYNTAX_DATETIME},
    "atidentifier": {Reason.SYNTAX_DID, Reason.SYNTAX_HANDLE},
    "uri": {Reason.SYNTAX_URI},
    "language": {Reason.SYNTAX_LANGUAGE},
    "cid": {Reason.SYNTAX_CID},
}
_VALID = {
    "did": 24,
    "handle": 71,
    "nsid": 25,
    "recordkey": 16,
    "tid": 4,
    "aturi": 23,
    "datetime": 35,
    "atidentifier": 11,
    "uri": 9,
    "language": 18,
    "cid": 8,
}
_INVALID = {
    "did": 18,
    "handle": 48,
    "nsid": 27,
    "recordkey": 11,
    "tid": 9,
    "aturi": 72,
    "datetime": 45,
    "atidentifier": 22,
    "uri": 12,
    "language": 7,
    "cid": 10,
}


def _cases(shared_data: Path, name: str) -> list[str]:
    """Lines of a vector file, unstripped: many invalid cases are a space at either end."""
    text = (shared_data / "interop" / "syntax" / name).read_bytes().decode()
    return [line for line in text.split("\n") if line and not line.startswith("#")]


def _refusal(stem: str, case: str) -> Reason | None:
    try:
        _PARSERS[stem](case)
    except IdentifierError as error:
        return error.reason
    return None


@pytest.mark.parametrize(("stem", "count"), _VALID.items())
def test_every_valid_vector_is_accepted(shared_data: Path, stem: str, count: int) -> None:
    cases = _cases(shared_data, f"{stem}_syntax_valid.txt")
    assert len(cases) == count
    assert [case for case in cases if _refusal(stem, case) is not None] == []


@pytest.mark.parametrize(("stem", "count"), _INVALID.items())
def test_every_invalid_vector_is_refused_with_its_reason(
    shared_data: Path, stem: str, count: int
) -> None:
    cases = _cases(shared_data, f"{stem}_syntax_invalid.txt")
    assert len(cases) == count
    assert [case for case in cases if _refusal(stem, case) not in _REASONS[stem]] == []


def test_well_formed_times_that_do_not_exist_are_refused(shared_data: Path) -> None:
    cases = _cases(shared_data, "datetime_parse_invalid.txt")
    assert len(cases) == 7
    assert {_refusal("datetime", case) for case in cases} == {Reason.SYNTAX_DATETIME}


def test_well_formed_languages_that_repeat_a_part_are_refused(shared_data: Path) -> None:
    cases = _cases(shared_data, "language_parse_invalid.txt")
    assert len(cases) == 4
    assert {_refusal("language", case) for case in cases} == {Reason.SYNTAX_LANGUAGE}
