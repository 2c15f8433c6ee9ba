"""What language a record says it is in, as one name from a closed set.

Languages are what users write, so only the two-letter codes of ISO 639-1 are names of their own:
nobody can make the number of names grow. Which one a record gets depends on the record alone, so
that counting it again gives the same. Pure.
"""

from collections.abc import Mapping
from typing import Any, Final

# Names of ISO 639-2 for several languages, and for an unknown one.
MULTIPLE: Final = "mul"
UNDETERMINED: Final = "und"
# Not a code of ISO 639-1: a rarer language, or nonsense.
OTHER: Final = "other"

# The limit of app.bsky.feed.post; what comes after it is not looked at.
MAX_TAGS_COUNT: Final = 3

_ISO_639_1: Final = (
    "aa ab ae af ak am an ar as av ay az ba be bg bi bm bn bo br bs ca ce ch co cr cs cu cv "
    "cy da de dv dz ee el en eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho "
    "hr ht hu hy hz ia id ie ig ii ik io is it iu ja jv ka kg ki kj kk kl km kn ko kr ks ku "
    "kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl nn "
    "no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg si sk sl sm "
    "sn so sq sr ss st su sv sw ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi "
    "vo wa wo xh yi yo za zh zu"
)
CODES: Final = frozenset(_ISO_639_1.split())
# Codes that were replaced; BCP 47 reads them as the new ones.
_REPLACED: Final = {"in": "id", "iw": "he", "ji": "yi"}


def language_of(record: Mapping[str, Any] | None) -> str:
    """Returns the language of a record.

    Args:
        record: the record's JSON, or None where there is none. Its field `langs` is a list of
            BCP 47 tags by the lexicons, and anything at all in fact.

    Returns:
        A code of `CODES`, `MULTIPLE`, `OTHER`, or `UNDETERMINED` where the record names none.
    """
    tags = record.get("langs") if record is not None else None
    if not isinstance(tags, list) or not tags:
        return UNDETERMINED
    codes = {_code(tag) for tag in tags[:MAX_TAGS_COUNT]}
    return codes.pop() if len(codes) == 1 else MULTIPLE


def _code(tag: object) -> str:
    """Returns the code of a tag such as `pt-BR`, by its first part."""
    if not isinstance(tag, str):
        return OTHER
    code = tag[:3].partition("-")[0].lower()
    code = _REPLACED.get(code, code)
    return code if code in CODES else OTHER
