"""Identifier parsers over generated text: what holds for every input."""

import re
import string
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pipelines.atproto import strings, syntax
from pipelines.atproto.errors import IdentifierError

_TID_ALPHABET = "234567abcdefghijklmnopqrstuvwxyz"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_PARSERS: list[Callable[[object], object]] = [
    syntax.parse_did,
    syntax.parse_handle,
    syntax.parse_at_identifier,
    syntax.parse_nsid,
    syntax.parse_record_key,
    syntax.parse_path,
    syntax.parse_tid,
    syntax.parse_at_uri,
    syntax.parse_datetime,
    strings.parse_uri,
    strings.parse_language,
    strings.parse_cid_text,
]

_DIDS = st.from_regex(r"did:[a-z]{1,8}:[a-zA-Z0-9._:%-]{0,40}[a-zA-Z0-9._-]", fullmatch=True)
_LABELS = st.from_regex("[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)
_NAMES = st.from_regex("[a-zA-Z][a-zA-Z0-9]{0,62}", fullmatch=True)
_NSIDS = st.builds(
    lambda first, middle, name: ".".join([f"a{first}"[:63].rstrip("-"), *middle, name]),
    _LABELS,
    st.lists(_LABELS, min_size=1, max_size=3),
    _NAMES,
)
_RKEYS = st.text(
    alphabet=string.ascii_letters + string.digits + "_~.:-", min_size=1, max_size=512
).filter(lambda text: text not in {".", ".."})
_TIDS = st.integers(min_value=0, max_value=2**64 - 1)
_ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.binary(),
    st.lists(st.text()),
    st.text(),
    st.text(alphabet=string.printable),
    _DIDS,
    _NSIDS,
)


def _tid(number: int) -> str:
    """The slow obvious way to write a TID."""
    digits = []
    for _ in range(13):
        number, digit = divmod(number, 32)
        digits.append(_TID_ALPHABET[digit])
    return "".join(reversed(digits))


@pytest.mark.parametrize("parse", _PARSERS, ids=lambda parse: parse.__name__)
@given(value=_ANYTHING)
def test_a_parser_returns_or_raises_an_identifier_error(
    parse: Callable[[object], object], value: object
) -> None:
    refusal = None
    try:
        parse(value)
    except IdentifierError as error:
        refusal = error
    if refusal is None:
        assert isinstance(value, str)
        assert value.isascii()
    else:
        assert len(refusal.detail) < 1_000


@pytest.mark.parametrize("parse", _PARSERS, ids=lambda parse: parse.__name__)
@given(
    good=st.one_of(_DIDS, _NSIDS, _RKEYS, st.just("2026-01-01T00:00:00Z")),
    bad=st.sampled_from(
        ["\n", "\0", " ", "\t", "é", "\N{ARABIC-INDIC DIGIT THREE}", "\ud800", "#", "?"]
    ),
    at_end=st.booleans(),
)
def test_foreign_characters_at_either_end_are_refused(
    parse: Callable[[object], object], good: str, bad: str, at_end: bool
) -> None:
    """Spec: K, Z-1."""
    # A URI may end in its query or fragment, and these may be empty.
    assume(not (parse is strings.parse_uri and at_end and bad in {"#", "?"}))
    with pytest.raises(IdentifierError):
        parse(good + bad if at_end else bad + good)


@given(collection=_NSIDS, rkey=_RKEYS)
def test_a_path_is_its_two_parts(collection: str, rkey: str) -> None:
    """Spec: B-20, B-21."""
    assert syntax.parse_path(f"{collection}/{rkey}") == (collection, rkey)
    assert syntax.parse_nsid(collection) == collection
    assert syntax.parse_record_key(rkey) == rkey


@given(
    left=st.text(alphabet="ab.-~:/", max_size=12), right=st.text(alphabet="ab.-~:/", max_size=5)
)
def test_a_path_is_accepted_exactly_if_both_parts_are(left: str, right: str) -> None:
    """Spec: B-20: the one pattern for paths agrees with the two of its parts."""
    text = f"{left}/{right}"
    try:
        parts: tuple[str, str] | None = (
            syntax.parse_nsid(left),
            syntax.parse_record_key(right),
        )
    except IdentifierError:
        parts = None
    try:
        path: tuple[str, str] | None = syntax.parse_path(text)
    except IdentifierError:
        path = None
    assert path == parts


@given(did=_DIDS, collection=_NSIDS, rkey=_RKEYS)
def test_an_at_uri_is_its_parts(did: str, collection: str, rkey: str) -> None:
    """Spec: K-06."""
    assert syntax.parse_at_uri(f"at://{did}") == (did, None, None)
    assert syntax.parse_at_uri(f"at://{did}/{collection}") == (did, collection, None)
    assert syntax.parse_at_uri(f"at://{did}/{collection}/{rkey}") == (did, collection, rkey)


@given(number=_TIDS)
def test_a_tid_is_an_unsigned_64_bit_number(number: int) -> None:
    """Spec: K-05."""
    tid = syntax.parse_tid(_tid(number))
    assert syntax.tid_time_us(tid) == number >> 10
    assert syntax.tid_clock_id(tid) == number & 0x3FF


@given(
    time_us=st.integers(0, syntax.MAX_TID_TIME_US),
    clock_id=st.integers(0, syntax.MAX_TID_CLOCK_ID),
)
def test_a_tid_is_made_of_time_and_clock(time_us: int, clock_id: int) -> None:
    """Spec: K-05, X (TID)."""
    tid = syntax.make_tid(time_us, clock_id)
    assert tid == _tid(time_us << 10 | clock_id)
    assert syntax.parse_tid(tid) == tid
    assert syntax.tid_time_us(tid) == time_us
    assert syntax.tid_clock_id(tid) == clock_id


@pytest.mark.parametrize(
    ("time_us", "clock_id"),
    [(-1, 0), (syntax.MAX_TID_TIME_US + 1, 0), (0, -1), (0, syntax.MAX_TID_CLOCK_ID + 1)],
)
def test_no_tid_is_made_beyond_its_range(time_us: int, clock_id: int) -> None:
    """Spec: K-05."""
    with pytest.raises(ValueError, match="no TID"):
        syntax.make_tid(time_us, clock_id)


def test_a_tid_of_a_known_time() -> None:
    """Spec: X (TID): 2025-04-16T21:30:26.724710Z on clock 5."""
    moment = datetime(2025, 4, 16, 21, 30, 26, 724_710, tzinfo=UTC)
    assert syntax.make_tid((moment - _EPOCH) // timedelta(microseconds=1), 5) == "3lmxjza3nva27"


@given(one=_TIDS, other=_TIDS)
def test_tids_sort_like_their_numbers(one: int, other: int) -> None:
    """Spec: X (TID)."""
    assert (_tid(one) < _tid(other)) == (one < other)


@given(number=st.integers(min_value=2**64, max_value=2**65 - 1))
def test_a_tid_beyond_64_bits_is_refused(number: int) -> None:
    """Spec: K-05."""
    with pytest.raises(IdentifierError):
        syntax.parse_tid(_tid(number))


@given(moment=st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30)))  # noqa: DTZ001 - the zone is added below
def test_times_agree_with_the_standard_library(moment: datetime) -> None:
    """Spec: K-08."""
    expected_us = (moment.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
    text = moment.isoformat(timespec="microseconds")
    assert syntax.parse_datetime(f"{text}Z") == expected_us
    assert syntax.parse_datetime(f"{text}999999Z") == expected_us
    assert syntax.parse_datetime(f"{text}+05:30") == expected_us - 19_800_000_000
    assert syntax.parse_datetime(f"{text}-05:30") == expected_us + 19_800_000_000


@given(
    text=st.from_regex(
        re.compile(r"[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9]Z"),
        fullmatch=True,
    )
)
def test_a_time_exists_exactly_if_the_standard_library_knows_it(text: str) -> None:
    """Spec: K-08; year 0, which the library lacks, is asked about in a year like it."""
    try:
        datetime.fromisoformat(text if not text.startswith("0000") else f"0400{text[4:]}")
        exists = not text.startswith("0000-00")
    except ValueError:
        exists = False
    try:
        syntax.parse_datetime(text)
        is_accepted = True
    except IdentifierError:
        is_accepted = False
    assert is_accepted == exists


@pytest.mark.parametrize("zone", ["+24:00", "-24:00", "+00:60", "+99:99"])
def test_a_zone_that_does_not_exist_is_refused(zone: str) -> None:
    """Spec: K-08."""
    with pytest.raises(IdentifierError):
        syntax.parse_datetime(f"2026-01-01T00:00:00{zone}")


@given(excess=st.integers(min_value=-3, max_value=3))
def test_an_nsid_is_bounded_as_a_whole_also_within_a_path(excess: int) -> None:
    """Spec: K-03: 317 characters."""
    length = syntax.MAX_NSID_LENGTH + excess
    nsid = "a" * (2 - length % 2) + ".a" * ((length - 1) // 2)
    assert len(nsid) == length
    for accept in (lambda: syntax.parse_nsid(nsid), lambda: syntax.parse_path(f"{nsid}/self")):
        if excess <= 0:
            assert accept()
        else:
            with pytest.raises(IdentifierError):
                accept()


@pytest.mark.parametrize(
    ("value", "is_one"),
    [
        ("did:plc:ewvi7nxzyoun6zhxrhs64oiz", True),
        ("did:plc:ewvi7nxzyoun6zhxrhs64oi", False),
        ("did:plc:ewvi7nxzyoun6zhxrhs64oizz", False),
        ("did:plc:ewvi7nxzyoun6zhxrhs64oi1", False),
        ("did:plc:EWVI7nxzyoun6zhxrhs64oiz", False),
        ("did:plc:ewvi7nxzyoun6zhxrhs64oiz\n", False),
        ("did:web:example.com", False),
        (b"did:plc:ewvi7nxzyoun6zhxrhs64oiz", False),
        (None, False),
    ],
)
def test_a_did_of_the_directory_has_one_form(value: object, is_one: bool) -> None:
    """Spec: L-05."""
    assert syntax.is_plc_did(value) is is_one
