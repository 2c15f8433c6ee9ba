"""The language of a record: codes from a closed set, whatever users write."""

from typing import Any

import pytest

from pipelines.analytics.languages import CODES, MULTIPLE, OTHER, UNDETERMINED, language_of


def test_the_set_is_that_of_iso_639_1() -> None:
    assert len(CODES) == 183
    assert all(len(code) == 2 and code.isascii() and code.islower() for code in CODES)
    assert not CODES & {"iw", "in", "ji", "sh"}  # withdrawn


@pytest.mark.parametrize(
    ("langs", "language"),
    [
        (["en"], "en"),
        (["pt-BR"], "pt"),
        (["PT-br"], "pt"),
        (["zh-Hant-TW"], "zh"),
        (["en-US", "en-GB"], "en"),
        (["iw"], "he"),
        (["en", "de"], MULTIPLE),
        (["en", "no such language"], MULTIPLE),
        (["tlh"], OTHER),
        (["english"], OTHER),
        (["e"], OTHER),
        ([""], OTHER),
        (["-en"], OTHER),
        (["en_US"], OTHER),
        ([7], OTHER),
        ([None], OTHER),
        ([["en"]], OTHER),
        ([{"en": 1}], OTHER),
        ([], UNDETERMINED),
        ("en", UNDETERMINED),
        ({"0": "en"}, UNDETERMINED),
        (None, UNDETERMINED),
        (7, UNDETERMINED),
        # Only as many as the lexicon allows are looked at.
        (["en", "en", "en", "de"], "en"),
        (["en"] * 100_000, "en"),
    ],
)
def test_language_of_a_record(langs: Any, language: str) -> None:
    assert language_of({"$type": "app.bsky.feed.post", "langs": langs}) == language


def test_a_record_that_names_none_and_no_record_are_undetermined() -> None:
    assert language_of({"$type": "app.bsky.feed.like"}) == UNDETERMINED
    assert language_of(None) == UNDETERMINED
