"""Identifiers of the AT protocol: DIDs, handles, NSIDs, record keys, TIDs, paths, AT-URIs, times.

Each parser takes whatever a decoder produced, so that a decoded field can be passed straight in,
and returns the text as a type of its own: an identifier that did not pass its parser cannot be
handed on by mistake. The syntax is that of https://atproto.com/specs (pages did, handle, nsid,
record-key, tid, at-uri-scheme, lexicon#datetime, repository#repository-paths). Anything else
raises `IdentifierError`.

Where it goes wrong elsewhere:
    - `$` in a pattern also matches before a final newline: only `fullmatch` is used here.
    - Shorthand classes and `str.isalnum` know all of Unicode: every class here is spelled out.
    - Identifiers are compared as text. Only handles fold case; a DID, an NSID or a record key in
      another casing is another identifier.
    - A TID may start with `c` to `j`, which sets bit 63: as a number it is unsigned.

Not checked: whether a DID method is one the network supports, whether a handle's top-level domain
may be resolved, whether a collection has a schema.
"""

import re
from datetime import date
from functools import lru_cache
from typing import Final, NamedTuple, NewType, TypeGuard

from pipelines.atproto.errors import IdentifierError, Reason

Did = NewType("Did", str)
Handle = NewType("Handle", str)
Nsid = NewType("Nsid", str)
RecordKey = NewType("RecordKey", str)
Tid = NewType("Tid", str)

# Bounds from the specification, in characters (all identifiers are ASCII, so also in bytes).
MAX_DID_LENGTH: Final = 2_048
MAX_HANDLE_LENGTH: Final = 253  # what DNS allows for a name
# An authority of 253, a dot and a name of 63. The authority's own bound is not checked: the
# published vectors hold a longer one to be valid, and the reference implementations agree.
MAX_NSID_LENGTH: Final = 317
MAX_RECORD_KEY_LENGTH: Final = 512
MAX_PATH_LENGTH: Final = MAX_NSID_LENGTH + 1 + MAX_RECORD_KEY_LENGTH
MAX_AT_URI_LENGTH: Final = 8_192
# The specification allows any number of fraction digits; this bound is the reference
# implementations' and keeps hostile input short.
MAX_DATETIME_LENGTH: Final = 64

_LABEL: Final = "[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_LETTER_LABEL: Final = "[a-zA-Z](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_NSID: Final = rf"{_LETTER_LABEL}(?:\.{_LABEL})+\.[a-zA-Z][a-zA-Z0-9]{{0,62}}"
_RECORD_KEY: Final = rf"(?!\.\.?\Z)[a-zA-Z0-9_~.:-]{{1,{MAX_RECORD_KEY_LENGTH}}}"

# For patterns of larger things that have them inside; the length of a DID is bounded apart.
DID_PATTERN: Final = "did:[a-z]+:[a-zA-Z0-9._:%-]*[a-zA-Z0-9._-]"
TID_PATTERN: Final = "[2-7a-j][2-7a-z]{12}"

_match_did = re.compile(DID_PATTERN).fullmatch
_match_handle = re.compile(rf"(?:{_LABEL}\.)+{_LETTER_LABEL}").fullmatch
_match_nsid = re.compile(_NSID).fullmatch
_match_plc_did = re.compile("did:plc:[a-z2-7]{24}").fullmatch
_match_record_key = re.compile(_RECORD_KEY).fullmatch
_match_path = re.compile(f"({_NSID})/({_RECORD_KEY})").fullmatch
_match_tid = re.compile(TID_PATTERN).fullmatch
_match_datetime = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}):([0-5][0-9])(?:\.([0-9]+))?"
    r"(?:Z|([+-])([0-9]{2}):([0-9]{2}))"
).fullmatch

# In ascending order, so that TIDs sort as text.
_TID_ALPHABET: Final = "234567abcdefghijklmnopqrstuvwxyz"
_TID_CLOCK_ID_BITS: Final = 10
# Five bits a character, the first one's highest bit being that of the sign and always zero.
_TID_SHIFTS: Final = range(60, -1, -5)
MAX_TID_TIME_US: Final = 2**53 - 1
MAX_TID_CLOCK_ID: Final = 2**_TID_CLOCK_ID_BITS - 1
# To the digits that int(…, 32) reads.
_TID_DIGITS: Final = str.maketrans(_TID_ALPHABET, "0123456789abcdefghijklmnopqrstuv")

_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
# `datetime.date` has no year 0, so its days are counted in the like year of the next cycle.
_CYCLE_YEARS: Final = 400
_CYCLE_DAYS: Final = 146_097
_YEAR_ZERO_US: Final = (date(400, 1, 1).toordinal() - _CYCLE_DAYS - _EPOCH_DAY) * 86_400_000_000

# Events of a stream lie within a minute or two of each other, and reading the date again for each
# takes as long as the rest of the syntax. About 100 kB.
_REMEMBERED_MINUTES_COUNT: Final = 1_024

_SHOWN_CHARACTERS: Final = 80


class AtUri(NamedTuple):
    """The parts of an AT-URI: `at://authority[/collection[/rkey]]`."""

    authority: Did | Handle
    collection: Nsid | None
    rkey: RecordKey | None


def parse_did(value: object) -> Did:
    """Checks a DID of any method.

    Args:
        value: a decoded field; `did:<method>:<id>`, at most 2,048 characters, case-sensitive.

    Returns:
        The same text.

    Raises:
        IdentifierError: the value is not text of that form (`SYNTAX_DID`).
    """
    if isinstance(value, str) and len(value) <= MAX_DID_LENGTH and _match_did(value):
        return Did(value)
    raise refusal(Reason.SYNTAX_DID, "a DID", value)


def is_plc_did(value: object) -> TypeGuard[Did]:
    """Tells whether a value is a DID in the one form that the PLC directory makes.

    That is the start of a hash: `did:plc:` and 24 characters of base32. spec: L-05
    """
    return isinstance(value, str) and bool(_match_plc_did(value))


def parse_handle(value: object) -> Handle:
    """Checks a handle. Reserved top-level domains pass: they are a matter of resolution.

    Args:
        value: a decoded field; a domain name of at least two labels, at most 253 characters.

    Returns:
        The handle in lower case, which is its normal form.

    Raises:
        IdentifierError: the value is not text of that form (`SYNTAX_HANDLE`).
    """
    if isinstance(value, str) and len(value) <= MAX_HANDLE_LENGTH and _match_handle(value):
        return Handle(value.lower())
    raise refusal(Reason.SYNTAX_HANDLE, "a handle", value)


def parse_at_identifier(value: object) -> Did | Handle:
    """Checks the name of an account, which is a DID or a handle.

    Raises:
        IdentifierError: the value is neither (`SYNTAX_DID` or `SYNTAX_HANDLE`).
    """
    # No handle holds a colon, so the prefix decides.
    if isinstance(value, str) and value.startswith("did:"):
        return parse_did(value)
    return parse_handle(value)


def parse_nsid(value: object) -> Nsid:
    """Checks a namespaced identifier, such as the name of a collection.

    Args:
        value: a decoded field; at least three segments, at most 317 characters. The last segment
            has no hyphen.

    Returns:
        The same text: case is kept, since a path is signed byte for byte.

    Raises:
        IdentifierError: the value is not text of that form (`SYNTAX_NSID`).
    """
    if isinstance(value, str) and len(value) <= MAX_NSID_LENGTH and _match_nsid(value):
        return Nsid(value)
    raise refusal(Reason.SYNTAX_NSID, "an NSID", value)


def parse_record_key(value: object) -> RecordKey:
    """Checks the key of a record within its collection.

    Args:
        value: a decoded field; 1 to 512 of `A-Za-z0-9_~.:-`, but neither `.` nor `..`.

    Returns:
        The same text.

    Raises:
        IdentifierError: the value is not text of that form (`SYNTAX_RECORD_KEY`).
    """
    if isinstance(value, str) and _match_record_key(value):
        return RecordKey(value)
    raise refusal(Reason.SYNTAX_RECORD_KEY, "a record key", value)


def parse_path(value: object) -> tuple[Nsid, RecordKey]:
    """Checks the path of a record in its repository, `collection/rkey` with exactly one slash.

    The specification's page on repositories leaves the colon out of a path's alphabet, the one on
    record keys has it, and records with it exist: it is allowed.

    Args:
        value: a decoded field.

    Returns:
        Collection and record key.

    Raises:
        IdentifierError: the value is not text of that form (`SYNTAX_PATH`).
    """
    if isinstance(value, str) and len(value) <= MAX_PATH_LENGTH and (match := _match_path(value)):
        collection, rkey = match.groups()
        if len(collection) <= MAX_NSID_LENGTH:
            return Nsid(collection), RecordKey(rkey)
    raise refusal(Reason.SYNTAX_PATH, "a record path (collection/rkey)", value)


def parse_tid(value: object) -> Tid:
    """Checks a timestamp identifier. TIDs sort as text in the order of their numbers.

    Args:
        value: a decoded field; 13 characters of the sortable base32 alphabet, 64 bits in all.

    Returns:
        The same text.

    Raises:
        IdentifierError: the value is not text of that form (`SYNTAX_TID`).
    """
    if isinstance(value, str) and _match_tid(value):
        return Tid(value)
    raise refusal(Reason.SYNTAX_TID, "a TID", value)


def tid_time_us(tid: Tid) -> int:
    """Returns the time in a TID: microseconds since the epoch, from 0 up to 2**54 - 1.

    It is what the maker of the TID claims; nothing keeps it from lying in the future.
    """
    return int(tid.translate(_TID_DIGITS), 32) >> _TID_CLOCK_ID_BITS


def tid_clock_id(tid: Tid) -> int:
    """Returns the clock in a TID, from 0 to `MAX_TID_CLOCK_ID`."""
    return int(tid.translate(_TID_DIGITS), 32) & MAX_TID_CLOCK_ID


def make_tid(time_us: int, clock_id: int) -> Tid:
    """Returns the TID of a time.

    Args:
        time_us: microseconds since the epoch, from 0 to `MAX_TID_TIME_US`.
        clock_id: from 0 to `MAX_TID_CLOCK_ID`; tells apart who makes TIDs at the same time.

    Raises:
        ValueError: one of them is out of its range.
    """
    if not (0 <= time_us <= MAX_TID_TIME_US and 0 <= clock_id <= MAX_TID_CLOCK_ID):
        raise ValueError(f"no TID has the time {time_us} µs and the clock {clock_id}")
    number = time_us << _TID_CLOCK_ID_BITS | clock_id
    return Tid("".join([_TID_ALPHABET[number >> shift & 31] for shift in _TID_SHIFTS]))


def parse_at_uri(value: object) -> AtUri:
    """Checks an AT-URI in the restricted form that records and APIs use.

    Args:
        value: a decoded field; `at://authority[/collection[/rkey]]`, at most 8,192 characters,
            without query, fragment or trailing slash. The authority is a DID or a handle.

    Returns:
        Its parts; a handle comes back in lower case.

    Raises:
        IdentifierError: the value is not text of that form (`SYNTAX_AT_URI`).
    """
    if isinstance(value, str) and len(value) <= MAX_AT_URI_LENGTH and value.startswith("at://"):
        parts = value.removeprefix("at://").split("/", 2)
        try:
            return AtUri(
                parse_at_identifier(parts[0]),
                parse_nsid(parts[1]) if len(parts) > 1 else None,
                parse_record_key(parts[2]) if len(parts) > 2 else None,
            )
        except IdentifierError as error:
            raise IdentifierError(
                Reason.SYNTAX_AT_URI, f"an AT-URI with a bad part: {error.detail}"
            ) from None
    raise refusal(Reason.SYNTAX_AT_URI, "an AT-URI", value)


def parse_datetime(value: object) -> int:
    """Reads a point in time in the form that RFC 3339, ISO 8601 and WHATWG HTML have in common.

    Args:
        value: a decoded field; `YYYY-MM-DDThh:mm:ss[.fraction](Z|±hh:mm)`, at most 64 characters,
            capital T and Z, not `-00:00`, no leap second, from year 0 on (in UTC).

    Returns:
        Microseconds since the epoch, negative before 1970. Finer fractions are cut off.

    Raises:
        IdentifierError: the value is not text of that form, or no such time exists
            (`SYNTAX_DATETIME`).
    """
    if isinstance(value, str) and len(value) <= MAX_DATETIME_LENGTH:
        time_us = _datetime_us(value)
        if time_us is not None:
            return time_us
    raise refusal(Reason.SYNTAX_DATETIME, "a datetime", value)


def _datetime_us(text: str) -> int | None:
    match = _match_datetime(text)
    if match is None:
        return None
    minute, second, fraction, sign, zone_hour, zone_minute = match.groups()
    minutes = _epoch_minutes(minute)
    if minutes is None:
        return None
    if sign is not None:
        if int(zone_hour) > 23 or int(zone_minute) > 59 or text.endswith("-00:00"):
            return None
        minutes -= int(f"{sign}1") * (int(zone_hour) * 60 + int(zone_minute))
    time_us = (minutes * 60 + int(second)) * 1_000_000
    if fraction is not None:
        time_us += int(fraction[:6].ljust(6, "0"))
    return time_us if time_us >= _YEAR_ZERO_US else None


@lru_cache(maxsize=_REMEMBERED_MINUTES_COUNT)
def _epoch_minutes(text: str) -> int | None:
    """Returns the minutes since the epoch of `YYYY-MM-DDThh:mm`; None if there is no such one."""
    year, month, day = int(text[:4]), int(text[5:7]), int(text[8:10])
    hour, minute = int(text[11:13]), int(text[14:16])
    if hour > 23 or minute > 59:
        return None
    try:
        if year == 0:
            days = date(_CYCLE_YEARS, month, day).toordinal() - _CYCLE_DAYS
        else:
            days = date(year, month, day).toordinal()
    except ValueError:  # no such month or day
        return None
    return ((days - _EPOCH_DAY) * 24 + hour) * 60 + minute


def refusal(reason: Reason, what: str, value: object) -> IdentifierError:
    """Returns the error of a parser that expected `what`, with a short form of the value."""
    if not isinstance(value, str):
        return IdentifierError(reason, f"not {what}: {type(value).__name__} instead of text")
    shown = value if len(value) <= _SHOWN_CHARACTERS else value[:_SHOWN_CHARACTERS] + "…"
    return IdentifierError(reason, f"not {what}: {shown!r}")
