"""The root of a sorted list of records, and which lists are none."""

from collections.abc import Iterator

import pytest
from support import oracle
from support.repo import refusal
from support.trees import LEAF_BEFORE, TOP, VALUE

from pipelines.atproto import mst
from pipelines.atproto.cid import DAG_CBOR_PREFIX, RAW_PREFIX
from pipelines.atproto.errors import MstError, Reason


def test_no_records_have_the_empty_root() -> None:
    """Spec: B-28."""
    assert mst.root_of([]) == mst.EMPTY_ROOT_CID


def test_text_and_bytes_are_the_same_path() -> None:
    items = [(LEAF_BEFORE, VALUE), (TOP, VALUE)]
    assert LEAF_BEFORE < TOP
    encoded = [(path.encode(), cid) for path, cid in items]
    assert mst.root_of(items) == mst.root_of(encoded) == oracle.build(dict(items)).root


def test_the_items_are_taken_one_by_one() -> None:
    """A list that does not fit into memory is a stream."""
    read = 0

    def records() -> Iterator[tuple[str, bytes]]:
        nonlocal read
        for path in sorted(oracle.sample_paths(0, 5)):
            read += 1
            yield path, VALUE
        yield "", VALUE
        raise AssertionError("read on after a fault")

    assert refusal(lambda: mst.root_of(records())).reason is Reason.MST_KEY
    assert read == 5


@pytest.mark.parametrize("layer", [1, 2, 5])
def test_layers_without_keys_are_chains_of_empty_nodes(layer: int) -> None:
    """Spec: B-24, B-27: between the first and the last key, and before and after all others."""
    high = oracle.sample_paths(layer)[0]
    around = [path for path in oracle.sample_paths(0, 40) if path != high]
    for leaves in ([], [min(around)], [max(around)], [min(around), max(around)]):
        records = dict.fromkeys([*leaves, high], VALUE)
        assert mst.root_of(sorted(records.items())) == oracle.build(records).root


@pytest.mark.parametrize(
    ("items", "reason"),
    [
        pytest.param([("b/2", VALUE), ("b/1", VALUE)], Reason.MST_KEY_ORDER, id="descending"),
        pytest.param([("b/1", VALUE), ("b/1", VALUE)], Reason.MST_KEY_ORDER, id="twice"),
        pytest.param([("b/11", VALUE), ("b/1", VALUE)], Reason.MST_KEY_ORDER, id="a prefix after"),
        pytest.param([("", VALUE)], Reason.MST_KEY, id="empty"),
        pytest.param([(b"", VALUE)], Reason.MST_KEY, id="empty bytes"),
        pytest.param([("\ud800", VALUE)], Reason.MST_KEY, id="lone surrogate"),
        pytest.param([(" b/1", VALUE)], Reason.MST_KEY, id="space"),
        pytest.param(
            [("\x7f", VALUE)], Reason.MST_KEY, id="the first after ASCII that is printed"
        ),
        pytest.param([(VALUE, VALUE)], Reason.MST_KEY, id="like a CID"),
        pytest.param(
            [(b"b/1", VALUE), (b"b/1" + VALUE, VALUE)], Reason.MST_KEY, id="like a CID at the end"
        ),
        pytest.param([("b/1", b"")], Reason.MST_NODE, id="value empty"),
        pytest.param([("b/1", VALUE[:-1])], Reason.MST_NODE, id="value too short"),
        pytest.param([("b/1", VALUE + b"\0")], Reason.MST_NODE, id="value too long"),
        pytest.param([("b/1", RAW_PREFIX + VALUE[4:])], Reason.MST_NODE, id="value a blob"),
        pytest.param([("b/1", DAG_CBOR_PREFIX)], Reason.MST_NODE, id="value a prefix alone"),
    ],
)
def test_what_is_no_sorted_list_of_records_is_refused(
    items: list[tuple[str | bytes, bytes]], reason: Reason
) -> None:
    """Spec: B-20, B-26, A-43."""
    error = refusal(lambda: mst.root_of(items))
    assert isinstance(error, MstError)
    assert error.reason is reason


def test_a_path_has_from_1_to_1024_bytes() -> None:
    """Spec: B-22."""
    assert mst.root_of([("k", VALUE)]) == oracle.build({"k": VALUE}).root
    longest = "k" * mst.MAX_KEY_BYTES
    assert mst.root_of([(longest, VALUE)]) == oracle.build({longest: VALUE}).root
    error = refusal(lambda: mst.root_of([(longest + "k", VALUE)]))
    assert error.reason is Reason.MST_KEY


def test_a_node_of_more_entries_than_any_reader_takes_is_not_made() -> None:
    """Spec: M-02: this also bounds the memory."""
    paths = sorted(oracle.sample_paths(0, mst.MAX_NODE_ENTRIES_COUNT + 1))
    most = dict.fromkeys(paths[:-1], VALUE)
    assert mst.root_of(most.items()) == oracle.build(most).root
    error = refusal(lambda: mst.root_of((path, VALUE) for path in paths))
    assert error.reason is Reason.MST_TOO_LARGE


def test_the_layer_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spec: M-03: nobody can make a key of the real bound, so the bound is moved."""
    items = [(oracle.sample_paths(4)[0], VALUE)]
    monkeypatch.setattr("pipelines.atproto.mst.building.MAX_LAYER", 4)
    assert mst.root_of(items) == oracle.build(dict(items)).root
    monkeypatch.setattr("pipelines.atproto.mst.building.MAX_LAYER", 3)
    assert refusal(lambda: mst.root_of(items)).reason is Reason.MST_TOO_LARGE
