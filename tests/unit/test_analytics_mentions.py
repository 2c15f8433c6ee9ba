"""What records mention, whatever JSON their authors wrote."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.analytics.mentions import (
    MAX_MENTION_BYTES,
    MAX_MENTIONS_COUNT,
    Kind,
    mentions_of,
)

POST, LIKE = "app.bsky.feed.post", "app.bsky.feed.like"
URI = f"at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/{POST}/3mhq7y6jhqc2z"


def facet(kind: str, **members: object) -> dict[str, Any]:
    return {"features": [{"$type": f"app.bsky.richtext.facet#{kind}", **members}]}


def test_a_post_mentions_each_link_and_hashtag_once() -> None:
    post = {
        "facets": [
            facet("link", uri="https://a.example"),
            facet("link", uri="https://a.example"),
            facet("mention", did="did:plc:x"),
            facet("tag", tag="Cats"),
        ],
        "embed": {"external": {"uri": "https://b.example/?q=1#f"}},
        "tags": ["#cats", "Dogs "],
    }
    assert mentions_of(POST, post) == {
        Kind.LINKS: {"https://a.example", "https://b.example/?q=1#f"},
        Kind.HASHTAGS: {"cats", "dogs"},
    }


@pytest.mark.parametrize("collection", [LIKE, "app.bsky.feed.repost"])
def test_likes_and_reposts_mention_their_post(collection: str) -> None:
    assert mentions_of(collection, {"subject": {"uri": URI}}) == {Kind.POSTS: {URI}}


@pytest.mark.parametrize(
    ("collection", "record"),
    [
        (POST, None),
        (LIKE, None),
        (LIKE, {"subject": {"uri": "at://did:plc:x/app.bsky.feed.generator/x"}}),
        (LIKE, {"subject": {"uri": f"https://bsky.app/{POST}/x"}}),
        (LIKE, {"subject": URI}),
        ("com.example.thing", {"subject": {"uri": URI}, "tags": ["a"]}),
        (POST, {"subject": {"uri": URI}}),
        (POST, {"facets": {"features": []}, "embed": 7, "tags": "cats"}),
        (POST, {"facets": [None, {"features": [3, {"$type": []}]}], "tags": [None, "#", " "]}),
    ],
    ids=str,
)
def test_what_is_not_as_the_lexicons_say_mentions_nothing(
    collection: str, record: dict[str, Any] | None
) -> None:
    assert mentions_of(collection, record) == {}


def test_what_one_record_mentions_is_bounded() -> None:
    longest = "é" * (MAX_MENTION_BYTES // 2)
    post = {"tags": ["", longest + "a", longest, *map(str, range(MAX_MENTIONS_COUNT))]}
    found = mentions_of(POST, post)[Kind.HASHTAGS]
    assert found == {longest, *map(str, range(MAX_MENTIONS_COUNT - 1))}


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "facets",
                    "features",
                    "$type",
                    "uri",
                    "tag",
                    "tags",
                    "embed",
                    "external",
                    "subject",
                ]
            ),
            inner
            | st.sampled_from(
                ["app.bsky.richtext.facet#tag", "app.bsky.richtext.facet#link", URI]
            ),
            max_size=4,
        )
    ),
    max_leaves=30,
)


@given(
    st.sampled_from([POST, LIKE]),
    st.dictionaries(st.sampled_from(["facets", "tags", "subject", "embed"]), _JSON),
)
def test_any_json_mentions_texts_within_bounds(collection: str, record: dict[str, Any]) -> None:
    for items in mentions_of(collection, record).values():
        assert 0 < len(items) <= MAX_MENTIONS_COUNT
        assert all(0 < len(item.encode()) <= MAX_MENTION_BYTES for item in items)
