"""Merkle search trees: the rules of a node, and undoing operations on a partial tree."""

import itertools
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from typing import Any

import pytest
from support import oracle
from support.oracle import build, cid_of, dag_cbor, link
from support.repo import make_op, make_ops, refusal
from support.trees import (
    INNER_AFTER,
    INNER_BEFORE,
    LEAF_AFTER,
    LEAF_BEFORE,
    LEAF_BETWEEN,
    OTHER_VALUE,
    TOP,
    VALUE,
    look_at,
    node,
    update,
)

from pipelines.atproto import mst
from pipelines.atproto.cid import RAW_PREFIX
from pipelines.atproto.errors import CommitError, MstError, Reason
from pipelines.atproto.frames import Action, Op
from pipelines.atproto.mst.node import parse_node

_ALL = (LEAF_BEFORE, INNER_BEFORE, LEAF_BETWEEN, TOP, LEAF_AFTER, INNER_AFTER)
_LEAVES = oracle.sample_paths(0, 40)


def _reason(call: Callable[[], object]) -> Reason:
    error = refusal(call)
    assert isinstance(error, MstError)
    return error.reason


def _entry(path: str, **changes: Any) -> dict[str, Any]:
    return {"k": path.encode(), "p": 0, "t": None, "v": link(VALUE)} | changes


def _raw_node(*entries: Any, left: bytes | None = None, **changes: Any) -> bytes:
    fields = {"e": list(entries), "l": None if left is None else link(left)} | changes
    return dag_cbor({name: value for name, value in fields.items() if value is not ...})


def _look(root: bytes) -> bytes:
    return look_at(root, paths=(LEAF_BEFORE,))


def test_the_empty_tree_has_a_known_root() -> None:
    """Spec: B-28."""
    assert build({}).root == mst.EMPTY_ROOT_CID
    assert build({}).nodes == {mst.EMPTY_ROOT_CID: mst.EMPTY_NODE}


@pytest.mark.parametrize(("path", "layer"), [(LEAF_BEFORE, 0), (INNER_BEFORE, 1), (TOP, 2)])
def test_the_layer_is_half_the_zero_bits_of_the_hash(path: str, layer: int) -> None:
    """Spec: B-23."""
    assert mst.layer_of(path.encode()) == oracle.layer_of(path.encode()) == layer


@pytest.mark.parametrize("path", _ALL)
def test_a_good_tree_is_walked_to_every_key(path: str) -> None:
    tree = build(dict.fromkeys(_ALL, VALUE))
    assert mst.invert(tree.nodes, tree.root, [update(path)]) == tree.root


@pytest.mark.parametrize(
    "root",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\xff", id="no CBOR"),
        pytest.param(dag_cbor([]), id="list"),
        pytest.param(dag_cbor("text"), id="text"),
        pytest.param(dag_cbor(b"bytes"), id="bytes"),
        pytest.param(dag_cbor(None), id="null"),
        pytest.param(dag_cbor(1), id="integer"),
        pytest.param(_raw_node(_entry(LEAF_BEFORE), l=...), id="l absent"),
        pytest.param(_raw_node(e=...), id="e absent"),
        pytest.param(_raw_node(e=None), id="e null"),
        pytest.param(_raw_node(e={}), id="e a map"),
        pytest.param(_raw_node(_entry(LEAF_BEFORE), x=1), id="further field"),
        pytest.param(_raw_node(_entry(LEAF_BEFORE), l=False), id="l false"),
        pytest.param(_raw_node(_entry(LEAF_BEFORE), l=b""), id="l empty bytes"),
        pytest.param(_raw_node(_entry(LEAF_BEFORE), left=b"\x01\x55\x00\x00"), id="l short CID"),
        pytest.param(_raw_node(_entry(LEAF_BEFORE), left=RAW_PREFIX + VALUE[4:]), id="l a blob"),
        pytest.param(_raw_node(None), id="entry null"),
        pytest.param(_raw_node([]), id="entry a list"),
        pytest.param(_raw_node("k"), id="entry text"),
        pytest.param(_raw_node({}), id="entry empty"),
        pytest.param(_raw_node(_entry(LEAF_BEFORE, x=1)), id="further field of an entry"),
        pytest.param(_raw_node(_entry(LEAF_BEFORE, p=False)), id="p false"),
        pytest.param(_raw_node(_entry(LEAF_BEFORE, p=None)), id="p null"),
        pytest.param(_raw_node(_entry(LEAF_BEFORE, p="0")), id="p text"),
        pytest.param(_raw_node(_entry(LEAF_BEFORE, k=LEAF_BEFORE)), id="k text"),
        pytest.param(_raw_node(_entry(LEAF_BEFORE, k=None)), id="k null"),
        pytest.param(_raw_node(_entry(LEAF_BEFORE, v=None)), id="v null"),
        pytest.param(_raw_node(_entry(LEAF_BEFORE, v="text")), id="v text"),
        pytest.param(_raw_node(_entry(LEAF_BEFORE, v=link(RAW_PREFIX + VALUE[4:]))), id="v blob"),
        pytest.param(_raw_node(_entry(LEAF_BEFORE, v=VALUE)), id="v a byte string"),
        pytest.param(_raw_node(_entry(LEAF_BEFORE, t=False)), id="t false"),
        pytest.param(_raw_node(_entry(LEAF_BEFORE, t=b"")), id="t empty bytes"),
        pytest.param(node([LEAF_BEFORE]) + b"\x00", id="trailing byte"),
        pytest.param(
            node([LEAF_BEFORE]).replace(b"\x61e\x81", b"\x61e\x98\x01"), id="long length"
        ),
        pytest.param(
            node([LEAF_BEFORE]).replace(b"\x61p\x00", b"\x61p\x18\x00"), id="p a long integer"
        ),
        *(
            pytest.param(
                node([*_LEAVES[:2]]).replace(b"\x61e\x82", b"\x61e%c" % (0x80 | count)),
                id=f"a list of {count} with 2 entries",
            )
            for count in (0, 1, 3, 4)
        ),
    ],
)
def test_a_node_of_another_shape_is_refused(root: bytes) -> None:
    """Spec: A-43, B-40, B-42, B-44."""
    assert _reason(lambda: _look(root)) is Reason.MST_NODE


@pytest.mark.parametrize(
    "suffix", [link(VALUE), link(b"\x12\x20" + VALUE[4:]), b"\x01", b"\n/1", b" /1"]
)
def test_a_key_has_no_control_character_at_its_start(suffix: Any) -> None:
    """Spec: B-20: the codec gives links as bytes, which must not pass for a key."""
    assert _reason(lambda: _look(_raw_node(_entry("", k=suffix)))) is Reason.MST_NODE
    second = _entry("", k=suffix, p=len(LEAF_BEFORE))
    assert _reason(lambda: _look(_raw_node(_entry(LEAF_BEFORE), second))) is Reason.MST_NODE


@pytest.mark.parametrize("absent", ["k", "p", "t", "v"])
def test_every_field_of_an_entry_is_there(absent: str) -> None:
    """Spec: B-40: absent is not null."""
    entry = {name: value for name, value in _entry(LEAF_BEFORE).items() if name != absent}
    assert _reason(lambda: _look(_raw_node(entry))) is Reason.MST_NODE


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        pytest.param(_entry(LEAF_BEFORE, p=-1), Reason.MST_NODE, id="negative"),
        pytest.param(_entry(LEAF_BEFORE, p=1), Reason.MST_PREFIX, id="before the first key"),
        pytest.param(_entry(LEAF_BEFORE, p=23), Reason.MST_PREFIX, id="one byte"),
        pytest.param(_entry(LEAF_BEFORE, p=24), Reason.MST_PREFIX, id="two bytes"),
        pytest.param(_entry(LEAF_BEFORE, p=256), Reason.MST_PREFIX, id="three bytes"),
        pytest.param(_entry(LEAF_BEFORE, p=65_535), Reason.MST_PREFIX, id="longest"),
        pytest.param(_entry(LEAF_BEFORE, p=65_536), Reason.MST_NODE, id="longer than any key"),
        pytest.param(_entry(LEAF_BEFORE, p=2**63), Reason.MST_NODE, id="huge"),
        pytest.param(_entry("", p=0), Reason.MST_NODE, id="empty key"),
        pytest.param(_entry("", p=1), Reason.MST_NODE, id="empty key with a prefix"),
    ],
)
def test_a_first_prefix_that_does_not_fit_is_refused(
    entry: dict[str, Any], reason: Reason
) -> None:
    """Spec: B-42: slices of Python never fail."""
    assert _reason(lambda: _look(_raw_node(entry))) is reason


@pytest.mark.parametrize(
    ("prefix_length", "suffix", "reason"),
    [
        (len(_LEAVES[0]) + 1, b"1", Reason.MST_PREFIX),
        (-1, b"1", Reason.MST_NODE),
        (len(_LEAVES[0]), b"", Reason.MST_NODE),
        (0, _LEAVES[1].encode(), Reason.MST_KEY_ORDER),
        (len(_LEAVES[0]) - 2, _LEAVES[1][-2:].encode(), Reason.MST_KEY_ORDER),
        (0, _LEAVES[0].encode(), Reason.MST_KEY_ORDER),
        (0, b"a", Reason.MST_KEY_ORDER),
        (len(_LEAVES[0]) - 1, b"/", Reason.MST_KEY_ORDER),
    ],
    ids=[
        "longer than the key before",
        "negative",
        "same key",
        "no prefix at all",
        "a byte too short",
        "same key without prefix",
        "lesser key",
        "lesser byte after the prefix",
    ],
)
def test_a_prefix_is_exactly_what_two_keys_share(
    prefix_length: int, suffix: bytes, reason: Reason
) -> None:
    """Spec: B-26, B-41, B-42."""
    assert oracle.common_prefix_length(_LEAVES[0].encode(), _LEAVES[1].encode()) == (
        len(_LEAVES[0]) - 1
    )
    second = _entry("", k=suffix, p=prefix_length)
    assert _reason(lambda: _look(_raw_node(_entry(_LEAVES[0]), second))) is reason


def test_a_key_may_extend_the_one_before() -> None:
    longer = next(
        path for n in range(99) if oracle.layer_of((path := f"{LEAF_BEFORE}{n}").encode()) == 0
    )
    tree = build({LEAF_BEFORE: VALUE, longer: VALUE})
    assert mst.invert(tree.nodes, tree.root, [update(longer)]) == tree.root


@pytest.mark.parametrize(
    "root",
    [
        pytest.param(node([LEAF_BEFORE, TOP]), id="higher key among leaves"),
        pytest.param(node([INNER_BEFORE, TOP]), id="first key lower than the next"),
        pytest.param(node([TOP, INNER_AFTER]), id="first key higher than the next"),
        pytest.param(node([LEAF_BEFORE], VALUE, None), id="leaf with a child before"),
        pytest.param(node([LEAF_BEFORE], None, VALUE), id="leaf with a child after"),
    ],
)
def test_all_keys_of_a_node_are_of_its_layer(root: bytes) -> None:
    """Spec: B-24, B-25."""
    assert _reason(lambda: _look(root)) is Reason.MST_LAYER


def _zero_bits(path: str) -> int:
    digest = int.from_bytes(sha256(path.encode()).digest())
    return 256 - digest.bit_length()


@pytest.mark.parametrize("zero_bits", range(9))
@pytest.mark.parametrize("layer", range(4))
def test_two_counts_of_zero_bits_make_a_layer(layer: int, zero_bits: int) -> None:
    """Spec: B-23, B-25: 2L and 2L + 1, beside a key that is of the layer."""
    (first,) = oracle.sample_paths(layer)
    numbered = (f"com.example.note/x{n}" for n in itertools.count())
    second = next(path for path in numbered if _zero_bits(path) == zero_bits)
    undo = partial(look_at, node([first, second]), paths=(first,))
    if zero_bits // 2 == layer:
        assert undo() == cid_of(node([first, second]))
    else:
        assert _reason(undo) is Reason.MST_LAYER


@pytest.mark.parametrize(
    "child",
    [
        pytest.param(node([LEAF_BEFORE]), id="a layer skipped"),
        pytest.param(node([TOP]), id="same layer"),
    ],
)
def test_a_child_is_exactly_one_layer_lower(child: bytes) -> None:
    """Spec: B-24."""
    top = max(oracle.sample_paths(2, 9))
    root = node([top], cid_of(child), None)
    assert _reason(lambda: look_at(root, child, paths=(LEAF_BEFORE,))) is Reason.MST_LAYER


@pytest.mark.parametrize("path", [INNER_BEFORE, INNER_AFTER])
def test_keys_lie_in_the_range_of_their_place(path: str) -> None:
    """Spec: B-26: the children of TOP are exchanged."""
    before, after = node([INNER_AFTER]), node([INNER_BEFORE])
    root = node([TOP], cid_of(before), cid_of(after))
    assert _reason(lambda: look_at(root, before, after, paths=(path,))) is Reason.MST_RANGE


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_key_of_the_node_above_does_not_occur_again(side: str) -> None:
    """Spec: B-26: it would be of another layer."""
    child = node([TOP])
    below = {"left": (cid_of(child), None), "right": (None, cid_of(child))}[side]
    path = {"left": INNER_BEFORE, "right": INNER_AFTER}[side]
    root = node([TOP], *below)
    assert _reason(lambda: look_at(root, child, paths=(path,))) is Reason.MST_LAYER


def test_a_node_occurs_once() -> None:
    """Spec: B-45, M-05."""
    child = node([INNER_BEFORE])
    root = node([TOP], cid_of(child), cid_of(child))
    assert (
        _reason(lambda: look_at(root, child, paths=(INNER_BEFORE, INNER_AFTER)))
        is Reason.MST_RECURRENCE
    )


def test_a_root_has_entries() -> None:
    """Spec: B-27, B-28: the empty repository is the one exception."""
    inner = node([INNER_BEFORE])
    assert _reason(lambda: look_at(node([], cid_of(inner)), inner, paths=(INNER_BEFORE,))) is (
        Reason.MST_NODE
    )
    error = refusal(lambda: look_at(mst.EMPTY_NODE, paths=(INNER_BEFORE,)))
    assert error.reason is Reason.COMMIT_OP_MISMATCH


def test_a_node_below_the_root_is_not_empty() -> None:
    """Spec: B-27."""
    root = node([TOP], mst.EMPTY_ROOT_CID, None)
    assert _reason(lambda: look_at(root, mst.EMPTY_NODE, paths=(LEAF_BEFORE,))) is Reason.MST_NODE


def test_a_chain_of_empty_nodes_ends_in_keys() -> None:
    """Spec: B-27: at the leaf layer at the latest."""
    leaf = node([], VALUE)
    inner = node([], cid_of(leaf))
    root = node([TOP], cid_of(inner), None)
    assert _reason(lambda: look_at(root, inner, leaf, paths=(LEAF_BEFORE,))) is Reason.MST_LAYER


def test_a_layer_without_keys_is_a_node_without_entries() -> None:
    """Spec: B-24: it is neither skipped nor left out when it is written again."""
    records = {LEAF_BEFORE: VALUE, TOP: VALUE}
    tree = build(records)
    assert len(tree.nodes) == 3
    assert mst.invert(tree.nodes, tree.root, [update(LEAF_BEFORE)]) == tree.root
    op = make_op(Action.UPDATE, LEAF_BEFORE, VALUE, OTHER_VALUE)
    assert (
        mst.invert(tree.nodes, tree.root, [op]) == build(records | {LEAF_BEFORE: OTHER_VALUE}).root
    )


def test_a_node_with_very_many_entries_is_refused() -> None:
    """Spec: M-02."""
    most = list(oracle.sample_paths(0, mst.MAX_NODE_ENTRIES_COUNT))
    assert look_at(node(most), paths=(most[0],)) == cid_of(node(most))
    more = node([*oracle.sample_paths(0, mst.MAX_NODE_ENTRIES_COUNT + 1)])
    assert _reason(lambda: look_at(more, paths=(most[0],))) is Reason.MST_TOO_LARGE


def test_a_key_has_at_most_1024_bytes() -> None:
    """Spec: B-22."""
    stem = "com.example.note/" + "k" * 1_000
    candidates = [f"{stem}{n:0{mst.MAX_KEY_BYTES - len(stem)}}" for n in range(99)]
    longest = next(path for path in candidates if oracle.layer_of(path.encode()) == 0)
    assert look_at(node([longest]), paths=(longest,)) == cid_of(node([longest]))
    longer = next(
        path for path in (f"{longest}{n}" for n in range(99)) if not oracle.layer_of(path.encode())
    )
    assert _reason(lambda: _look(node([longer]))) is Reason.MST_NODE
    # Here no part of the key is too long.
    assert _reason(lambda: _look(node([longest, longer]))) is Reason.MST_KEY


def test_the_limits_are_those_of_the_specifications() -> None:
    """Spec: M-02, M-03, B-22."""
    limits = (mst.MAX_NODE_ENTRIES_COUNT, mst.MAX_LAYER, mst.MAX_KEY_BYTES)
    assert limits == (1_000, 31, 1_024)


def test_a_node_stands_in_the_one_layer_of_its_keys() -> None:
    """Spec: B-24: in none of the other layers that a tree may have."""
    block = node([INNER_BEFORE])
    keys, _, layer = parse_node(block, 1)
    assert (keys, layer) == ([INNER_BEFORE.encode()], 1)
    for other in {*range(mst.MAX_LAYER + 1)} - {1}:
        assert _reason(partial(parse_node, block, other)) is Reason.MST_LAYER


def _set_max_layer(monkeypatch: pytest.MonkeyPatch, layer: int) -> None:
    for module in ("node", "inversion"):
        monkeypatch.setattr(f"pipelines.atproto.mst.{module}.MAX_LAYER", layer)


def test_the_layer_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spec: M-03: nobody can make a key of the real bound, so the bound is moved."""
    high = oracle.sample_paths(4)[0]
    records = {LEAF_BEFORE: VALUE, high: VALUE}
    tree, low = build(records), build({LEAF_BEFORE: VALUE})
    delete = make_op(Action.DELETE, high, None, VALUE)
    _set_max_layer(monkeypatch, 4)
    assert mst.invert(tree.nodes, tree.root, [update(high)]) == tree.root
    assert mst.invert(low.nodes, low.root, [delete]) == tree.root
    _set_max_layer(monkeypatch, 3)
    assert (
        _reason(lambda: mst.invert(tree.nodes, tree.root, [update(high)])) is Reason.MST_TOO_LARGE
    )
    assert _reason(lambda: mst.invert(low.nodes, low.root, [delete])) is Reason.MST_TOO_LARGE


def test_a_node_that_was_not_sent_is_named_as_missing() -> None:
    """Spec: B-46, G-12."""
    tree = build(dict.fromkeys(_ALL, VALUE))
    for cid in tree.nodes:
        blocks = {other: block for other, block in tree.nodes.items() if other != cid}
        undo = partial(mst.invert, blocks, tree.root, [update(path) for path in _ALL])
        assert _reason(undo) is Reason.MST_BLOCK_MISSING


def test_nodes_that_no_op_reaches_are_not_needed() -> None:
    """Spec: B-46."""
    records = dict.fromkeys(_ALL, VALUE)
    tree = build(records)
    blocks = {tree.root: tree.nodes[tree.root]}
    assert mst.invert(blocks, tree.root, [update(TOP)]) == tree.root
    assert mst.invert({}, tree.root, []) == tree.root


def test_removing_the_top_leaves_a_root_known_by_its_cid_alone() -> None:
    """Spec: G-14: real frames need it."""
    before = {LEAF_BEFORE: VALUE, INNER_BEFORE: VALUE}
    after = build(before | {TOP: VALUE})
    blocks = {after.root: after.nodes[after.root]}
    op = make_op(Action.CREATE, TOP, VALUE, None)
    assert mst.invert(blocks, after.root, [op]) == build(before).root


def test_a_root_without_entries_is_cut_off_down_to_the_first_keys() -> None:
    """Spec: B-27, G-14."""
    before = {LEAF_BEFORE: VALUE}
    high = oracle.sample_paths(4)[0]
    after = build(before | {high: VALUE})
    assert len(after.nodes) == 5
    op = make_op(Action.CREATE, high, VALUE, None)
    assert mst.invert(after.nodes, after.root, [op]) == build(before).root


def test_deletes_are_undone_first_so_that_fewer_nodes_are_needed() -> None:
    """Spec: G-13: what was deleted stands between the leaf and what is to be removed above it."""
    low, high = [path for path in oracle.sample_paths(2, 9) if path > TOP][:2]
    before = build({LEAF_BEFORE: VALUE, low: VALUE})
    after = build({LEAF_BEFORE: VALUE, INNER_BEFORE: VALUE, high: VALUE})
    ops = [
        make_op(Action.CREATE, INNER_BEFORE, VALUE, None),
        make_op(Action.DELETE, low, None, VALUE),
        make_op(Action.CREATE, high, VALUE, None),
    ]
    leaf = cid_of(node([LEAF_BEFORE]))
    blocks = {cid: block for cid, block in after.nodes.items() if cid != leaf}
    assert len(blocks) == len(after.nodes) - 1
    assert mst.invert(blocks, after.root, ops) == before.root


def test_undoing_everything_gives_the_empty_tree_and_back() -> None:
    """Spec: G-14."""
    records = dict.fromkeys(_ALL, VALUE)
    tree = build(records)
    assert mst.invert(tree.nodes, tree.root, make_ops({}, records)) == mst.EMPTY_ROOT_CID
    assert mst.invert({}, mst.EMPTY_ROOT_CID, make_ops(records, {})) == tree.root


@pytest.mark.parametrize(
    "op",
    [
        pytest.param(make_op(Action.CREATE, TOP, OTHER_VALUE, None), id="create, other record"),
        pytest.param(make_op(Action.UPDATE, TOP, OTHER_VALUE, VALUE), id="update, other record"),
        pytest.param(make_op(Action.DELETE, TOP, None, VALUE), id="delete of what is there"),
        pytest.param(make_op(Action.CREATE, _LEAVES[30], VALUE, None), id="create of nothing"),
        pytest.param(make_op(Action.UPDATE, _LEAVES[30], VALUE, VALUE), id="update of nothing"),
        pytest.param(
            make_op(Action.CREATE, oracle.sample_paths(3)[0], VALUE, None), id="above the root"
        ),
    ],
)
def test_an_op_that_contradicts_the_tree_is_refused(op: Op) -> None:
    """Spec: G-09, G-12."""
    tree = build(dict.fromkeys(_ALL, VALUE))
    error = refusal(lambda: mst.invert(tree.nodes, tree.root, [op]))
    assert isinstance(error, CommitError)
    assert error.reason is Reason.COMMIT_OP_MISMATCH
    assert error.path == op.path


@pytest.mark.parametrize(
    "op",
    [
        make_op(Action.CREATE, TOP, None, None),
        make_op(Action.UPDATE, TOP, VALUE, None),
        make_op(Action.DELETE, LEAF_BEFORE, None, None),
        make_op("upsert", TOP, VALUE, VALUE),  # type: ignore[arg-type]  # that is the point
    ],
    ids=["create", "update", "delete", "unknown action"],
)
def test_no_op_falls_through_to_the_remaining_kind(op: Op) -> None:
    """A damaged action must never be taken for another one."""
    tree = build({TOP: VALUE})
    error = refusal(lambda: mst.invert(tree.nodes, tree.root, [op]))
    assert error.reason is Reason.COMMIT_OP_MISMATCH


def test_the_blocks_given_are_not_changed() -> None:
    tree = build(dict.fromkeys(_ALL, VALUE))
    blocks = dict(tree.nodes)
    mst.invert(blocks, tree.root, make_ops({}, dict.fromkeys(_ALL, VALUE)))
    assert blocks == tree.nodes
