"""What a new record points at: links and hashtags of posts, posts that are liked or reposted.

Records are what users write: any JSON may stand anywhere, and whatever is not as the lexicons say
is passed over. What one record mentions is bounded, and counts once however often it stands there.
Pure.
"""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any, Final

# Of each kind in one record, counted before repetitions are dropped. The lexicons set no limit for
# links; of hashtags they allow eight beside those in the text.
MAX_MENTIONS_COUNT: Final = 32
# Bytes of UTF-8. Longer ones are left out: cut, they would name something else. The lexicons allow
# 640 for a hashtag, and an at-uri of a post has about 70.
MAX_MENTION_BYTES: Final = 640

_POST: Final = "app.bsky.feed.post"
_APPROVALS: Final = frozenset({"app.bsky.feed.like", "app.bsky.feed.repost"})
_LINK_FACET: Final = "app.bsky.richtext.facet#link"
_TAG_FACET: Final = "app.bsky.richtext.facet#tag"


class Kind(StrEnum):
    """What kind of thing is mentioned; the value is its name in the topic."""

    LINKS = "links"
    HASHTAGS = "hashtags"
    POSTS = "posts"


def mentions_of(
    collection: str, record: Mapping[str, Any] | None
) -> Mapping[Kind, frozenset[str]]:
    """Returns what a record mentions.

    Args:
        collection: NSID of its collection.
        record: its JSON, or None where there is none.

    Returns:
        Of each kind that occurs: web addresses as they stand there; hashtags in lower case,
        without `#`; at-uris of the posts that are liked or reposted.
    """
    if record is None:
        return {}
    if collection == _POST:
        both = {Kind.LINKS: _links_of(record), Kind.HASHTAGS: _hashtags_of(record)}
        return {kind: found for kind, texts in both.items() if (found := _bounded(texts))}
    if collection in _APPROVALS:
        uri = _member(record.get("subject"), "uri")
        if isinstance(uri, str) and uri.startswith("at://") and f"/{_POST}/" in uri:
            return {Kind.POSTS: found} if (found := _bounded(iter([uri]))) else {}
    return {}


def _links_of(post: Mapping[str, Any]) -> Iterator[object]:
    yield _member(_member(post.get("embed"), "external"), "uri")
    yield from (feature.get("uri") for feature in _features(post, _LINK_FACET))


def _hashtags_of(post: Mapping[str, Any]) -> Iterator[object]:
    tags = post.get("tags")
    listed = tags if isinstance(tags, list) else []
    yield from map(_hashtag, listed)
    yield from (_hashtag(feature.get("tag")) for feature in _features(post, _TAG_FACET))


def _hashtag(tag: object) -> object:
    return tag.strip().removeprefix("#").lower() if isinstance(tag, str) else None


def _features(post: Mapping[str, Any], kind: str) -> Iterator[Mapping[str, Any]]:
    """Yields the features of one kind in the post's rich text."""
    facets = post.get("facets")
    for facet in facets if isinstance(facets, list) else []:
        features = _member(facet, "features")
        for feature in features if isinstance(features, list) else []:
            if _member(feature, "$type") == kind:
                yield feature


def _member(value: object, name: str) -> object:
    return value.get(name) if isinstance(value, dict) else None


def _bounded(texts: Iterator[object]) -> frozenset[str]:
    """Returns the first ones that are texts of a fitting length."""
    found: list[str] = []
    for text in texts:
        if isinstance(text, str) and 0 < len(text.encode()) <= MAX_MENTION_BYTES:
            found.append(text)
            if len(found) == MAX_MENTIONS_COUNT:
                break
    return frozenset(found)
