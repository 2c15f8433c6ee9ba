"""String formats that occur only as values inside records: URIs, language tags, CIDs in any form.

Nothing here is followed or resolved, so the checks are as wide as those of the network: a record
is not refused for what they say. The identifiers that the protocol itself uses, and the stricter
form of a CID that can be looked up, are in `pipelines.atproto.syntax` and `pipelines.atproto.cid`.

Source: atproto.com/specs/lexicon "String Formats"; RFC 3986 section 3.1; RFC 5646 section 2.1 and
2.2.9. spec: K-07, K-09, A-46, A-47.
"""

import re
from typing import Final, NewType

from pipelines.atproto.errors import Reason
from pipelines.atproto.syntax import refusal

Uri = NewType("Uri", str)
LanguageTag = NewType("LanguageTag", str)
CidText = NewType("CidText", str)

# Bounds in characters; all three formats are ASCII. The last two are the reference
# implementations'.
MAX_URI_LENGTH: Final = 8_192
MAX_LANGUAGE_LENGTH: Final = 128
MAX_CID_LENGTH: Final = 256
_CID_V0_LENGTH: Final = 46

_match_uri = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:[!-~]+").fullmatch
_match_cid = re.compile(rf"[a-zA-Z0-9+=]{{8,{MAX_CID_LENGTH}}}").fullmatch
# The grammar of RFC 5646. A primary language has two or three letters, in lower case as the
# published vectors have it; the longer ones of the grammar are reserved and none exists.
_match_language = re.compile(
    r"[a-z]{2,3}(?:-[a-zA-Z]{3}){0,3}"  # and extended languages
    r"(?:-[a-zA-Z]{4})?"  # script
    r"(?:-(?:[a-zA-Z]{2}|[0-9]{3}))?"  # region
    r"((?:-(?:[a-zA-Z0-9]{5,8}|[0-9][a-zA-Z0-9]{3}))*)"  # variants
    r"((?:-[0-9a-wy-zA-WY-Z](?:-[a-zA-Z0-9]{2,8})+)*)"  # extensions, each with a singleton
    r"(?:-[xX](?:-[a-zA-Z0-9]{1,8})+)?"  # private use
).fullmatch
_match_private_language = re.compile(r"[xX](?:-[a-zA-Z0-9]{1,8})+").fullmatch
# Registered before there was a grammar.
_match_irregular_language = re.compile(
    "en-gb-oed|i-(?:ami|bnn|default|enochian|hak|klingon|lux|mingo|navajo|pwn|tao|tay|tsu)"
    "|sgn-(?:be-fr|be-nl|ch-de)"
).fullmatch


def parse_uri(value: object) -> Uri:
    """Checks that a value has the form of a URI of any scheme.

    Args:
        value: a decoded field; a scheme, a colon and something after it, printable ASCII without
            spaces, at most 8,192 characters.

    Returns:
        The same text.

    Raises:
        IdentifierError: the value is not text of that form (`syntax.uri`).
    """
    if isinstance(value, str) and len(value) <= MAX_URI_LENGTH and _match_uri(value):
        return Uri(value)
    raise refusal(Reason.SYNTAX_URI, "a URI", value)


def parse_language(value: object) -> LanguageTag:
    """Checks a language tag (BCP 47), such as `pt-BR`. Whether its parts are registered is open.

    Args:
        value: a decoded field; at most 128 characters. No variant and no extension twice.

    Returns:
        The same text.

    Raises:
        IdentifierError: the value is not text of that form (`syntax.language`).
    """
    if isinstance(value, str) and len(value) <= MAX_LANGUAGE_LENGTH and _is_language(value):
        return LanguageTag(value)
    raise refusal(Reason.SYNTAX_LANGUAGE, "a language tag", value)


def parse_cid_text(value: object) -> CidText:
    """Checks that a value may be a CID in some text form.

    `pipelines.atproto.cid.parse_cid` is the one for a CID that is looked up.

    Args:
        value: a decoded field; 8 to 256 letters, digits, `+` or `=`, but no CID of version 0.

    Returns:
        The same text.

    Raises:
        IdentifierError: the value is not text of that form (`syntax.cid`).
    """
    if isinstance(value, str) and _match_cid(value):
        is_version_0 = len(value) == _CID_V0_LENGTH and value.startswith("Qm")
        if not is_version_0:
            return CidText(value)
    raise refusal(Reason.SYNTAX_CID, "a CID", value)


def _is_language(text: str) -> bool:
    match = _match_language(text)
    if match is None:
        return bool(_match_private_language(text) or _match_irregular_language(text.lower()))
    variants = match[1].lower().split("-")[1:]
    singletons = [part for part in match[2].lower().split("-") if len(part) == 1]
    return all(len(set(parts)) == len(parts) for parts in (variants, singletons))
