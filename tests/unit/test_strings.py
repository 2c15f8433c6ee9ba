"""String formats of values inside records, beyond the published vectors."""

from collections.abc import Callable

import pytest
from support.repo import refusal

from pipelines.atproto import strings
from pipelines.atproto.errors import IdentifierError, Reason

_REASONS: dict[Callable[[object], str], Reason] = {
    strings.parse_uri: Reason.SYNTAX_URI,
    strings.parse_language: Reason.SYNTAX_LANGUAGE,
    strings.parse_cid_text: Reason.SYNTAX_CID,
}


@pytest.mark.parametrize("parse", _REASONS)
@pytest.mark.parametrize("value", [None, 1, b"ja", ["ja"], "", "\n", "é", "ja\n", "https://a.b\n"])
def test_what_is_no_such_text_is_refused(parse: Callable[[object], str], value: object) -> None:
    error = refusal(lambda: parse(value))
    assert isinstance(error, IdentifierError)
    assert error.reason is _REASONS[parse]


@pytest.mark.parametrize(
    "value", ["a:b", "HTTPS://Example.com", "coap+tcp://a", "a.b-c+1:x", f"x:{'y' * 8_190}"]
)
def test_a_uri_has_a_scheme_and_something_after_it(value: str) -> None:
    assert strings.parse_uri(value) == value


@pytest.mark.parametrize(
    "value", ["a:", "1a:b", "a_b:c", "a:b c", "a:\x7f", "a:é", f"x:{'y' * 8_191}"]
)
def test_other_uris_are_refused(value: str) -> None:
    assert refusal(lambda: strings.parse_uri(value)).reason is Reason.SYNTAX_URI


@pytest.mark.parametrize(
    "value",
    [
        "zh-cmn-Hans-CN",
        "zh-yue-gan-hak",
        "de-CH-1996",
        "sl-rozaj-biske-1994",
        "en-0-ab-1-cd",
        "en-a-bbb-x-a-ccc",
        "x-a-b-c",
        "I-KLINGON",
        "art-lojban",
    ],
)
def test_languages_of_the_grammar_are_taken(value: str) -> None:
    """Source: RFC 5646 section 2.1 and appendix A."""
    assert strings.parse_language(value) == value


@pytest.mark.parametrize(
    "value",
    [
        "en--US",
        "-en",
        "en_US",
        "i-none",
        "x",
        "en-x",
        "en-a",
        "en-a-x-b",
        "de-419-DE",
        "ar-a-aaa-b-bbb-a-ccc",
        "en-US-12345-12345",
        "zh-yue-gan-hak-nan",
        "en-123456789",
        "en" + "-abcde1" * 19,
    ],
)
def test_other_languages_are_refused(value: str) -> None:
    """Source: RFC 5646 section 2.1, 2.2.9 and appendix A."""
    assert refusal(lambda: strings.parse_language(value)).reason is Reason.SYNTAX_LANGUAGE


def test_a_private_part_may_repeat_what_stands_before_it() -> None:
    assert strings.parse_language("en-rozaj-a-bb-x-rozaj-a-rozaj")


@pytest.mark.parametrize(
    "value", ["Qm" + "b" * 43, "Qm" + "b" * 45, "a" * 8, "a" * 256, "mAXASIA+"]
)
def test_a_cid_may_be_in_any_base(value: str) -> None:
    """Spec: A-47."""
    assert strings.parse_cid_text(value) == value


@pytest.mark.parametrize("value", ["Qm" + "b" * 44, "a" * 7, "a" * 257, "abcdefg-", "bafy/bafy"])
def test_other_cids_are_refused(value: str) -> None:
    """Spec: A-46, A-47."""
    assert refusal(lambda: strings.parse_cid_text(value)).reason is Reason.SYNTAX_CID
