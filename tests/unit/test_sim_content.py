"""Records of generated accounts: what a reader of the real network would expect of them."""

import json
from collections import Counter, defaultdict
from random import Random

import pytest

from pipelines.atproto import cbor
from pipelines.atproto.atjson import to_json
from pipelines.atproto.cid import cid_of, encode_cid
from pipelines.atproto.syntax import Did, parse_at_uri, parse_datetime, parse_nsid
from pipelines.kafka.topics import registry
from pipelines.sim.content import POST, Content, Post

NOW = "2026-01-01T00:00:00.000Z"
DIDS = [Did(f"did:plc:{letter * 24}") for letter in "abcdefgh"]


@pytest.fixture(scope="module")
def records() -> dict[str, list[bytes]]:
    """Blocks by collection; posts are remembered as they are written."""
    content = Content(Random(1))
    for did in DIDS:
        content.remember_person(did)
    made: dict[str, list[bytes]] = defaultdict(list)
    for number in range(20_000):
        collection, fields = content.compose(NOW)
        block = cbor.encode(fields)
        made[collection].append(block)
        if collection == POST:
            uri = f"at://{DIDS[number % len(DIDS)]}/{POST}/{number:013}"
            content.remember_post(Post(uri, encode_cid(cid_of(block))))
    return made


def test_every_record_names_its_collection_and_has_a_json_form(
    records: dict[str, list[bytes]],
) -> None:
    for collection, blocks in records.items():
        parse_nsid(collection)
        for block in blocks[:200]:
            value = json.loads(to_json(block))
            assert value["$type"] == collection
            assert parse_datetime(value["createdAt"]) > 0


def test_sizes_are_those_of_the_network(records: dict[str, list[bytes]]) -> None:
    """In a minute of the network a like has 239 bytes on average, a post 476, a follow 107."""
    mean = {name: sum(map(len, blocks)) / len(blocks) for name, blocks in records.items()}
    assert mean["app.bsky.feed.like"] == pytest.approx(239, rel=0.15)
    assert mean[POST] == pytest.approx(476, rel=0.2)
    assert mean["app.bsky.graph.follow"] == pytest.approx(107, rel=0.1)


def test_posts_have_languages(records: dict[str, list[bytes]]) -> None:
    posts = [json.loads(to_json(block)) for block in records[POST]]
    tags = Counter(tag for post in posts for tag in post.get("langs", []))
    assert tags.most_common(1)[0][0] == "en"
    assert len(tags) >= 6
    counts = Counter(len(post.get("langs", [])) for post in posts)
    assert set(counts) == {0, 1, 2}
    assert any(ord(letter) > 0x3000 for post in posts for letter in post["text"])


def test_what_points_at_a_post_points_at_one_that_was_written(
    records: dict[str, list[bytes]],
) -> None:
    cids = {encode_cid(cid_of(block)) for block in records[POST]}
    for block in records["app.bsky.feed.like"]:
        subject = json.loads(to_json(block))["subject"]
        assert subject["cid"] in cids
        assert parse_at_uri(subject["uri"]).collection == POST
    for block in records["app.bsky.graph.follow"]:
        assert json.loads(to_json(block))["subject"] in DIDS


def test_some_collections_have_no_topic_of_their_own(records: dict[str, list[bytes]]) -> None:
    admitted = set(registry().specs["records"].collections)
    assert admitted & records.keys()
    assert records.keys() - admitted


def test_two_records_are_never_the_same_but_by_their_subject(
    records: dict[str, list[bytes]],
) -> None:
    assert len(set(records[POST])) > 0.95 * len(records[POST])
