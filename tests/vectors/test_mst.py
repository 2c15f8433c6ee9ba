"""Published vectors for keys of Merkle search trees: interop/mst (spec: B-23, B-41)."""

from pathlib import Path
from typing import Any

import pytest
from support import oracle
from support.shared import json_cases

from pipelines.atproto import mst
from pipelines.atproto.cid import encode_cid, parse_cid

pytestmark = [pytest.mark.shared, pytest.mark.usefixtures("shared_data")]

_VALUE = parse_cid("bafyreie5cvv4h45feadgeuwhbcutmh6t2ceseocckahdoe6uat64zmz454")


@pytest.mark.parametrize(
    "case",
    json_cases("interop/mst/key_heights.json", lambda case: f"{case['key']!r}: {case['height']}"),
)
def test_a_key_has_its_layer(case: dict[str, Any]) -> None:
    assert mst.layer_of(case["key"].encode()) == case["height"]
    assert oracle.layer_of(case["key"].encode()) == case["height"]


@pytest.mark.parametrize(
    "case",
    json_cases(
        "interop/mst/common_prefix.json", lambda case: f"{case['left']!r}, {case['right']!r}"
    ),
)
def test_two_keys_share_their_prefix(case: dict[str, Any]) -> None:
    left, right = case["left"].encode(), case["right"].encode()
    assert mst.common_prefix_length(left, right) == case["len"]
    assert oracle.common_prefix_length(left, right) == case["len"]


def test_example_keys_carry_their_layer_in_their_name(shared_data: Path) -> None:
    keys = (shared_data / "interop" / "mst" / "example_keys.txt").read_text().split()
    assert len(keys) == 156
    assert [mst.layer_of(key.encode()) for key in keys] == [int(key[1]) for key in keys]


def test_trees_of_the_example_keys_are_built_key_by_key(shared_data: Path) -> None:
    """Spec: B-29: in whatever order they come."""
    keys = (shared_data / "interop" / "mst" / "example_keys.txt").read_text().split()
    expected = oracle.build(dict.fromkeys(keys, _VALUE)).root
    assert mst.root_of((key, _VALUE) for key in sorted(keys)) == expected
    for order in (keys, sorted(keys), sorted(keys, reverse=True)):
        tree = mst.PartialTree({}, mst.EMPTY_ROOT_CID)
        for key in order:
            tree.insert(key.encode(), _VALUE)
        assert tree.root_cid() == expected


# Spec: section X; in the reference implementations' own tests.
@pytest.mark.parametrize(
    ("keys", "root"),
    [
        ((), "bafyreie5737gdxlw5i64vzichcalba3z2v5n6icifvx5xytvske7mr3hpm"),
        (
            ("com.example.record/3jqfcqzm3fo2j",),
            "bafyreibj4lsc3aqnrvphp5xmrnfoorvru4wynt6lwidqbm2623a6tatzdu",
        ),
        (
            ("com.example.record/3jqfcqzm3fx2j",),
            "bafyreih7wfei65pxzhauoibu3ls7jgmkju4bspy4t2ha2qdjnzqvoy33ai",
        ),
        (
            (
                "com.example.record/3jqfcqzm3fp2j",
                "com.example.record/3jqfcqzm3fr2j",
                "com.example.record/3jqfcqzm3fs2j",
                "com.example.record/3jqfcqzm3ft2j",
                "com.example.record/3jqfcqzm4fc2j",
            ),
            "bafyreicmahysq4n6wfuxo522m6dpiy7z7qzym3dzs756t5n7nfdgccwq7m",
        ),
    ],
    ids=["empty", "one leaf", "one key of layer 2", "five keys"],
)
def test_known_trees_have_their_root(keys: tuple[str, ...], root: str) -> None:
    assert encode_cid(oracle.build(dict.fromkeys(keys, _VALUE)).root) == root
    assert encode_cid(mst.root_of((key, _VALUE) for key in keys)) == root
