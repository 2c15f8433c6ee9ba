"""Whole repositories: what is proven while it arrives, in whatever order, and what is refused."""

import io
import itertools
import random
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from support import oracle, wire
from support.exports import Export, export, export_tree
from support.oracle import Tree, cid_of, dag_cbor
from support.repo import DID, OTHER_DID, OTHER_SIGNER, P256_SIGNER, SIGNER, record, refusal
from support.trees import (
    INNER_AFTER,
    INNER_BEFORE,
    LEAF_AFTER,
    LEAF_BEFORE,
    LEAF_BETWEEN,
    TOP,
    VALUE,
    node,
)
from support.work import peak_bytes

from pipelines.atproto import car, mst, repo, repo_reader, spill
from pipelines.atproto.car import MAX_SECTION_BYTES, CarSource
from pipelines.atproto.commit import MAX_RECORD_BYTES
from pipelines.atproto.errors import MstError, Reason
from pipelines.atproto.syntax import Did

_KEYS = (LEAF_BEFORE, INNER_BEFORE, LEAF_BETWEEN, TOP, LEAF_AFTER, INNER_AFTER)
_REPO = export({f"com.example.note/{n:05}": record(f"note {n}") for n in range(60)})
_BLOCKS = _REPO.ordered()


def _shuffled(blocks: Sequence[bytes], seed: int = 1) -> list[bytes]:
    mixed = list(blocks)
    random.Random(seed).shuffle(mixed)
    return mixed


_SHUFFLED = _shuffled(_BLOCKS)
_VERIFIED = repo.VerifiedRepo(
    commit=repo.verify_repo(_REPO.car(), SIGNER.key).commit,
    commit_cid=cid_of(_REPO.commit),
    record_count=60,
    node_count=len(_REPO.nodes),
    block_count=1 + len(_REPO.nodes) + 60,
    byte_count=len(_REPO.car()),
)


def _read(car: CarSource, **arguments: Any) -> tuple[list[repo.RepoRecord], repo.VerifiedRepo]:
    stream = repo.stream_repo(car, SIGNER.key, **arguments)
    return list(stream), stream.verified


def _reason(car: CarSource, **arguments: Any) -> Reason:
    return refusal(lambda: repo.verify_repo(car, SIGNER.key, **arguments)).reason


def _pieces(car: bytes, size: int) -> Iterator[bytes]:
    return (car[start : start + size] for start in range(0, len(car), size))


async def _arriving(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def _run(coroutine: Any) -> Any:
    """Drives a coroutine that waits for nothing."""
    with pytest.raises(StopIteration) as stopped:
        coroutine.send(None)
    return stopped.value.value


# --- what is proven


@pytest.mark.parametrize(
    "blocks", [_BLOCKS, _SHUFFLED, _BLOCKS[::-1]], ids=["pre", "mixed", "back"]
)
@pytest.mark.parametrize("size", [1, 7, 1000, 10**9])
def test_records_come_in_the_order_of_their_paths(blocks: list[bytes], size: int) -> None:
    """Spec: C-06, C-10, C-11."""
    records, verified = _read(_pieces(_REPO.car(blocks), size))
    assert records == _REPO.contents()
    assert verified == _VERIFIED


def test_a_car_may_be_bytes_or_a_file_or_pieces() -> None:
    car = _REPO.car(_SHUFFLED)
    for source in (car, io.BytesIO(car), [car[:100], b"", car[100:]]):
        assert _read(source) == (_REPO.contents(), _VERIFIED)


@pytest.mark.parametrize("blocks", [_BLOCKS, _SHUFFLED], ids=["pre", "mixed"])
def test_pieces_may_arrive_by_and_by(blocks: list[bytes]) -> None:
    async def read() -> tuple[list[repo.RepoRecord], repo.VerifiedRepo]:
        stream = repo.stream_repo_async(_arriving(_pieces(_REPO.car(blocks), 500)), SIGNER.key)
        return [item async for item in stream], stream.verified

    assert _run(read()) == (_REPO.contents(), _VERIFIED)
    car = _arriving(_pieces(_REPO.car(blocks), 500))
    assert _run(repo.verify_repo_async(car, SIGNER.key, did=DID)) == _VERIFIED


def test_every_subset_of_a_small_set_of_keys_is_proven() -> None:
    """All shapes of trees of three layers over six keys, in both ways."""
    for count in range(len(_KEYS) + 1):
        for paths in itertools.combinations(_KEYS, count):
            made = export({path: record(path) for path in paths})
            for blocks in (made.ordered(), _shuffled(made.ordered())):
                records, verified = _read(made.car(blocks))
                assert records == made.contents()
                assert verified.node_count == len(made.nodes)


def test_an_empty_repository_is_whole_with_its_empty_node() -> None:
    """Spec: B-28, C-11."""
    empty = export({})
    records, verified = _read(empty.car())
    assert (records, verified.record_count, verified.node_count) == ([], 0, 1)
    assert verified.commit.data_cid == mst.EMPTY_ROOT_CID
    assert _reason(empty.car([empty.commit])) is Reason.MST_BLOCK_MISSING


@pytest.mark.parametrize("seed", range(40))
def test_the_order_of_the_blocks_does_not_matter(seed: int) -> None:
    """Spec: C-06: the first blocks are left in order, so that the walk is interrupted anywhere."""
    start = random.Random(seed).randrange(len(_BLOCKS))
    blocks = _BLOCKS[:start] + _shuffled(_BLOCKS[start:], seed)
    assert _read(_pieces(_REPO.car(blocks), 300)) == (_REPO.contents(), _VERIFIED)


@pytest.mark.parametrize("size", [90, 10**9])
def test_repeated_and_surplus_blocks_do_not_matter(size: int) -> None:
    """Spec: C-07, C-12."""
    surplus = [dag_cbor(record("deleted long ago")), b"", _REPO.commit]
    for blocks in (
        _BLOCKS + surplus,
        surplus + _BLOCKS,
        _BLOCKS[:9] + surplus + _BLOCKS[9:],
        _BLOCKS * 2,
        [block for block in _BLOCKS for _ in range(2)],
        _shuffled(_BLOCKS + _BLOCKS + surplus),
    ):
        records, verified = _read(_pieces(_REPO.car(blocks), size))
        assert records == _REPO.contents()
        assert verified.block_count == len(blocks)
        assert verified.node_count == len(_REPO.nodes)


@pytest.mark.parametrize("size", [90, 10**9])
def test_a_record_under_several_paths_may_be_there_once(size: int) -> None:
    """Spec: C-07: servers write each block once; in pre-order the second path then finds none."""
    same = export({f"com.example.note/{n:05}": record(str(n % 7)) for n in range(60)})
    once = list(dict.fromkeys(same.ordered()))
    assert len(once) < len(same.ordered())
    for blocks in (same.ordered(), once, _shuffled(once)):
        assert _read(_pieces(same.car(blocks), size))[0] == same.contents()


def test_a_block_counts_by_what_refers_to_it() -> None:
    """Spec: B-45: a record may look like a node, or be the very commit."""
    lookalike = oracle.build({TOP: VALUE})
    like_a_node = lookalike.nodes[lookalike.root]
    made = export({})
    records = {LEAF_BEFORE: cid_of(like_a_node), LEAF_AFTER: cid_of(made.commit)}
    bodies = {cid_of(block): block for block in (like_a_node, made.commit)}
    tricky = export_tree(oracle.build(records), records, bodies)
    for blocks in (tricky.ordered(), tricky.ordered()[::-1]):
        assert _read(tricky.car(blocks))[0] == tricky.contents()


def test_further_roots_have_no_meaning() -> None:
    """Spec: C-03."""
    body = b"".join(wire.car_section(cid_of(block), block) for block in _BLOCKS)
    car = wire.car_header([cid_of(_REPO.commit), cid_of(b"another")]) + body
    assert _read(car)[0] == _REPO.contents()
    # Nothing needs to be kept aside: the first root is the first block.
    assert _read(car, limits=repo.Limits(spill_bytes=0))[0] == _REPO.contents()


def test_blobs_are_surplus() -> None:
    """Spec: C-08, C-13."""
    blob = wire.car_section(b"\x01\x55\x12\x20" + cid_of(b"a blob")[4:], b"a blob")
    assert _read(_REPO.car() + blob)[0] == _REPO.contents()
    header = wire.car_header([cid_of(_REPO.commit)])
    assert _read(header + blob + _REPO.car()[len(header) :])[0] == _REPO.contents()


def test_either_curve_signs() -> None:
    made = export({TOP: record("text")}, P256_SIGNER)
    assert repo.verify_repo(made.car(), P256_SIGNER.key).record_count == 1


def test_in_order_records_are_there_before_the_car_has_ended() -> None:
    """Each is proven by what came before it."""
    reader = repo.RepoReader(SIGNER.key)
    seen: list[repo.RepoRecord] = []
    car = _REPO.car()
    for position in range(len(car)):
        seen += reader.feed(car[position : position + 1])
        whole_sections = [block for _, _, block in _REPO.contents()[: len(seen)]]
        assert all(block in car[: position + 1] for block in whole_sections)
    assert seen == _REPO.contents()
    assert list(reader.finish()) == []
    assert reader.verified == _VERIFIED


def test_out_of_order_nothing_is_given_before_it_is_proven() -> None:
    """The commit comes last, so that everything before it is unsigned."""
    reader = repo.RepoReader(SIGNER.key)
    assert all(not reader.feed(piece) for piece in _pieces(_REPO.car(_BLOCKS[::-1]), 100))
    assert list(reader.finish()) == _REPO.contents()


def test_nothing_is_verified_before_the_end() -> None:
    stream = repo.stream_repo(_REPO.car(), SIGNER.key)
    with pytest.raises(RuntimeError, match="last record"):
        _ = stream.verified
    next(iter(stream))
    with pytest.raises(RuntimeError, match="last record"):
        _ = stream.verified


# --- what is refused


@pytest.mark.parametrize("blocks", [_BLOCKS, _SHUFFLED], ids=["pre", "mixed"])
def test_every_truncation_is_refused(blocks: list[bytes]) -> None:
    """Spec: C-09, C-11: also between two blocks, where the file itself is well-formed."""
    car = _REPO.car(blocks)
    for length in range(len(car)):
        reason = _reason(car[:length])
        assert reason in {
            Reason.CAR_TRUNCATED,
            Reason.CAR_ROOT_MISSING,
            Reason.MST_BLOCK_MISSING,
            Reason.COMMIT_RECORD_MISSING,
        }


@pytest.mark.parametrize("blocks", [_BLOCKS[:12], _SHUFFLED[:12]], ids=["pre", "mixed"])
def test_every_flipped_bit_is_refused(blocks: list[bytes]) -> None:
    """Spec: A-45: in a repository of which every block is needed."""
    small = export({path: record(path) for path in _KEYS})
    order = small.ordered() if blocks[0] == _BLOCKS[0] else _shuffled(small.ordered())
    car = bytearray(small.car(order))
    for bit in range(8 * len(car)):
        car[bit // 8] ^= 1 << bit % 8
        refusal(partial(repo.verify_repo, bytes(car), SIGNER.key))
        car[bit // 8] ^= 1 << bit % 8
    assert repo.verify_repo(bytes(car), SIGNER.key).record_count == len(_KEYS)


@pytest.mark.parametrize("data", [b"", b"\x00", b"\xff" * 20, b"\x3a\xa2", b"a" * 1000])
def test_what_is_no_car_is_refused(data: bytes) -> None:
    assert _reason(data) in {Reason.CAR_TRUNCATED, Reason.CAR_HEADER, Reason.CAR_SECTION}


@pytest.mark.parametrize("tail", [b"\x00", b"\x01", b"\x24", b"\xff", _REPO.commit])
@pytest.mark.parametrize("blocks", [_BLOCKS, _SHUFFLED], ids=["pre", "mixed"])
def test_trailing_bytes_are_refused(blocks: list[bytes], tail: bytes) -> None:
    """Spec: C-05, C-09: also when all that was wanted is there."""
    error = refusal(partial(repo.verify_repo, _REPO.car(blocks) + tail, SIGNER.key))
    assert error.reason in {
        Reason.CAR_TRUNCATED,
        Reason.CAR_SECTION,
        Reason.CID_UNSUPPORTED,
    }


@pytest.mark.parametrize("blocks", [_BLOCKS, _SHUFFLED], ids=["pre", "mixed"])
def test_every_missing_block_is_refused(blocks: list[bytes]) -> None:
    """Spec: C-11."""
    for missing in blocks:
        rest = [block for block in blocks if block != missing]
        cid = cid_of(missing)
        expected = (
            Reason.CAR_ROOT_MISSING
            if missing == _REPO.commit
            else Reason.MST_BLOCK_MISSING
            if cid in _REPO.nodes
            else Reason.COMMIT_RECORD_MISSING
        )
        assert _reason(_REPO.car(rest)) is expected


def test_a_surplus_block_with_another_hash_is_refused() -> None:
    """Spec: A-45: nobody would look at it, and yet the CAR is not what it says."""
    section = wire.car_section(cid_of(b"one thing"), b"another")
    for made in (_REPO.car() + section, _REPO.car(_SHUFFLED) + section):
        assert _reason(made) is Reason.CID_HASH_MISMATCH


@pytest.mark.parametrize("blocks", [_BLOCKS, _SHUFFLED], ids=["pre", "mixed"])
def test_another_signer_is_refused_before_any_record(blocks: list[bytes]) -> None:
    """Spec: B-07, B-10."""
    stream = repo.stream_repo(_REPO.car(blocks), OTHER_SIGNER.key)
    error = refusal(lambda: next(iter(stream)))
    assert error.reason is Reason.SIGNATURE_INVALID


@pytest.mark.parametrize("blocks", [_BLOCKS, _SHUFFLED], ids=["pre", "mixed"])
def test_another_account_is_refused(blocks: list[bytes]) -> None:
    """Spec: B-05."""
    assert _read(_REPO.car(blocks), did=DID)[1] == _VERIFIED
    for other in (OTHER_DID, Did("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa")):
        assert _reason(_REPO.car(blocks), did=other) is Reason.COMMIT_DID_MISMATCH


def test_errors_name_the_repository_once_it_is_known() -> None:
    error = refusal(partial(repo.verify_repo, _REPO.car(_BLOCKS[:-1]), SIGNER.key))
    assert (error.did, error.rev) == (DID, wire.rev(0))
    assert error.path == _REPO.contents()[-1][0]
    assert refusal(partial(repo.verify_repo, b"", SIGNER.key)).did is None


@pytest.mark.parametrize("change", [{"version": 2}, {"prev": ...}, {"data": "text"}, {"x": 1}])
def test_a_bad_commit_is_refused(change: dict[str, Any]) -> None:
    """Spec: B-01 to B-08."""
    fields = {name: value for name, value in change.items() if value is not ...}
    made = export({TOP: record("text")}, **fields)
    if ... in change.values():
        commit = made.commit.replace(b"\x64prev\xf6", b"").replace(b"\xa6", b"\xa5", 1)
        made = replace(made, commit=commit)
    assert _reason(made.car()) in {Reason.COMMIT_VERSION, Reason.COMMIT_FIELD}


def _tree(root: bytes, *others: bytes) -> Export:
    """Signs a tree of the given nodes, whatever is wrong with it."""
    nodes = {cid_of(block): block for block in (root, *others)}
    return export_tree(Tree(cid_of(root), nodes), {}, {VALUE: b"a record"})


def _pointer(child: bytes | None) -> bytes:
    return node([], child)


_LEAF = node([LEAF_BEFORE])
_BAD_TREES = {
    "root without entries": (Reason.MST_NODE, _tree(_pointer(cid_of(_LEAF)), _LEAF)),
    "empty node in a tree": (
        Reason.MST_NODE,
        _tree(node([INNER_BEFORE], cid_of(mst.EMPTY_NODE), None), mst.EMPTY_NODE),
    ),
    "chain of pointers below the leaves": (
        Reason.MST_LAYER,
        _tree(
            node([INNER_BEFORE], cid_of(_pointer(cid_of(_LEAF))), None), _pointer(cid_of(_LEAF))
        ),
    ),
    "leaf with a child": (
        Reason.MST_LAYER,
        _tree(node([LEAF_BEFORE], cid_of(mst.EMPTY_NODE), None), mst.EMPTY_NODE),
    ),
    "keys of two layers in a node": (Reason.MST_LAYER, _tree(node([LEAF_BEFORE, INNER_BEFORE]))),
    "a layer left out": (
        Reason.MST_LAYER,
        _tree(node([TOP], cid_of(_LEAF), None), _LEAF),
    ),
    "child before its range": (
        Reason.MST_RANGE,
        _tree(node([INNER_BEFORE], None, cid_of(_LEAF)), _LEAF),
    ),
    "child behind its range": (
        Reason.MST_RANGE,
        _tree(node([INNER_BEFORE], cid_of(node([LEAF_AFTER])), None), node([LEAF_AFTER])),
    ),
    "grandchild behind its range, under a pointer": (
        Reason.MST_RANGE,
        _tree(
            node([TOP], cid_of(_pointer(cid_of(node([LEAF_AFTER])))), None),
            _pointer(cid_of(node([LEAF_AFTER]))),
            node([LEAF_AFTER]),
        ),
    ),
    "the same child twice": (
        Reason.MST_RANGE,
        _tree(node([INNER_BEFORE, INNER_AFTER], cid_of(_LEAF), cid_of(_LEAF), None), _LEAF),
    ),
    "the same key twice": (
        Reason.MST_LAYER,
        _tree(
            node([INNER_BEFORE, INNER_AFTER], None, cid_of(node([INNER_BEFORE])), None),
            node([INNER_BEFORE]),
        ),
    ),
    "no node at all": (Reason.MST_NODE, _tree(dag_cbor(record("text")))),
    "another encoding": (Reason.MST_NODE, _tree(_LEAF.replace(b"\x61p\x00", b"\x61p\x18\x00"))),
    "two paths in one key": (
        Reason.MST_KEY,
        _tree(*oracle.build({f"{LEAF_BEFORE}/x": VALUE}).nodes.values()),
    ),
    "a key that is no path": (
        Reason.MST_KEY,
        _tree(*oracle.build({"note": VALUE}).nodes.values()),
    ),
    "a path of a bad collection": (
        Reason.MST_KEY,
        _tree(*oracle.build({"note/1": VALUE}).nodes.values()),
    ),
    "a path with other letters": (
        Reason.MST_KEY,
        _tree(*oracle.build({"com.example.note/é": VALUE}).nodes.values()),
    ),
}


@pytest.mark.parametrize("name", _BAD_TREES)
@pytest.mark.parametrize("turn", [1, -1], ids=["pre", "back"])
def test_a_tree_that_breaks_a_rule_is_refused(name: str, turn: int) -> None:
    """Spec: B-20 to B-44: its hashes and its signature are good."""
    reason, made = _BAD_TREES[name]
    blocks = [made.commit, *made.nodes.values(), *made.bodies.values()]
    error = refusal(partial(repo.verify_repo, made.car(blocks[::turn]), SIGNER.key))
    assert isinstance(error, MstError)
    assert error.reason is reason


def test_a_key_that_is_not_utf8_is_refused() -> None:
    key = next(
        key
        for key in (b"com.example.note/\xff%d" % n for n in range(99))
        if oracle.layer_of(key) == 0
    )
    root = oracle.encode_node(oracle.Node([key], [VALUE], [None, None]))
    assert _reason(_tree(root).car()) is Reason.MST_KEY


# --- what it may cost


def test_a_record_may_have_a_mebibyte() -> None:
    """Spec: A-30."""
    overhead = len(dag_cbor(record("x" * MAX_RECORD_BYTES))) - MAX_RECORD_BYTES
    largest = export({TOP: record("x" * (MAX_RECORD_BYTES - overhead))})
    assert _read(largest.car())[0] == largest.contents()
    larger = export({TOP: record("x" * (MAX_RECORD_BYTES - overhead + 1))})
    error = refusal(partial(repo.verify_repo, larger.car(), SIGNER.key))
    assert error.reason is Reason.COMMIT_RECORD_TOO_LARGE
    assert error.path == TOP


def _endless(start: bytes, unit: bytes) -> Iterator[bytes]:
    return itertools.chain([start], itertools.repeat(unit))


@pytest.mark.parametrize(
    ("car", "reason"),
    [
        pytest.param(_endless(b"", b"\xff"), Reason.CAR_SECTION, id="length without end"),
        pytest.param(_endless(b"\xff\xff\x7f", b"\x00"), Reason.CAR_HEADER, id="huge header"),
        pytest.param(
            _endless(wire.car_header([VALUE]) + wire.varint(MAX_SECTION_BYTES + 1), b"\x00"),
            Reason.CAR_SECTION,
            id="huge block",
        ),
        pytest.param(
            _endless(wire.car_header([VALUE]), b"\xff"), Reason.CAR_SECTION, id="length of a block"
        ),
    ],
)
def test_what_has_no_end_is_refused_early(car: Iterator[bytes], reason: Reason) -> None:
    """Spec: C-05, M-06: it would never come back."""
    assert _reason(car) is reason


@pytest.mark.parametrize(
    ("blocks", "limits"),
    [
        pytest.param(_BLOCKS, repo.Limits(car_bytes=50_000), id="after the tree"),
        pytest.param(_BLOCKS[:9], repo.Limits(car_bytes=50_000), id="in the tree"),
        pytest.param(_BLOCKS[:9], repo.Limits(spill_bytes=50_000), id="in the tree, no spill"),
        pytest.param(_SHUFFLED, repo.Limits(spill_bytes=50_000), id="out of order"),
    ],
)
def test_endless_repetition_is_refused(blocks: list[bytes], limits: repo.Limits) -> None:
    """Spec: C-07, M-06."""
    unit = wire.car_section(cid_of(_BLOCKS[3]), _BLOCKS[3])
    assert _reason(_endless(_REPO.car(blocks), unit), limits=limits) is Reason.CAR_TOO_LARGE


def test_a_car_has_a_limit_and_may_reach_it() -> None:
    car = _REPO.car()
    assert _read(car, limits=repo.Limits(car_bytes=len(car)))[1] == _VERIFIED
    assert _reason(car, limits=repo.Limits(car_bytes=len(car) - 1)) is Reason.CAR_TOO_LARGE


def test_who_says_nothing_gets_limits() -> None:
    """Spec: M-06, M-07: 8 GiB of a CAR, 2 GiB kept aside, 64 MiB of repeated records."""
    limits = repo.DEFAULT_LIMITS
    assert (limits.car_bytes, limits.spill_bytes) == (8_589_934_592, 2_147_483_648)
    assert repo_reader.MAX_REPEATED_BYTES == 67_108_864


def test_only_what_is_out_of_order_has_to_fit_into_the_spill() -> None:
    in_order, mixed = _REPO.car(), _REPO.car(_SHUFFLED)
    for size in (1, 64, 10**6):
        none = repo.Limits(spill_bytes=0)
        assert _read(_pieces(in_order, size), limits=none) == (_REPO.contents(), _VERIFIED)
        assert _reason(_pieces(mixed, size), limits=none) is Reason.CAR_TOO_LARGE
        enough = repo.Limits(spill_bytes=len(mixed))
        assert _read(_pieces(mixed, size), limits=enough)[0] == _REPO.contents()
        less = repo.Limits(spill_bytes=len(mixed) - 1)
        assert _reason(_pieces(mixed, size), limits=less) is Reason.CAR_TOO_LARGE


def test_order_that_ends_after_the_spill_is_full_is_refused() -> None:
    middle = len(_BLOCKS) // 2
    blocks = _BLOCKS[:middle] + _BLOCKS[middle:][::-1]
    limits = repo.Limits(spill_bytes=len(_REPO.car(_BLOCKS[: middle - 2])))
    error = refusal(
        partial(repo.verify_repo, _pieces(_REPO.car(blocks), 50), SIGNER.key, limits=limits)
    )
    assert error.reason is Reason.CAR_TOO_LARGE
    assert "Limits.spill_bytes" in error.detail


def test_the_index_of_blocks_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spec: M-06: tiny blocks must not fill the memory."""
    monkeypatch.setattr(spill, "MAX_INDEXED_BLOCKS_COUNT", len(_BLOCKS))
    assert _read(_REPO.car(_SHUFFLED * 2))[0] == _REPO.contents()
    assert _reason(_REPO.car([b"surplus", *_SHUFFLED])) is Reason.CAR_TOO_LARGE
    assert _read(_REPO.car([*_BLOCKS, b"surplus"]))[0] == _REPO.contents()


def test_one_large_record_under_many_paths_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spec: M-06: a small CAR must not ask for gigabytes."""
    large = record("x" * 10_000)
    made = export({f"com.example.note/{n:05}": large for n in range(50)})
    once = made.car(list(dict.fromkeys(made.ordered()))[::-1])
    surplus_bytes = 50 * len(dag_cbor(large)) - len(once)
    monkeypatch.setattr(repo_reader, "MAX_REPEATED_BYTES", surplus_bytes)
    assert _read(once)[0] == made.contents()
    monkeypatch.setattr(repo_reader, "MAX_REPEATED_BYTES", surplus_bytes - 1)
    assert _reason(once) is Reason.CAR_TOO_LARGE


def test_a_spill_that_outgrows_memory_goes_on_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    for memory_bytes in (0, 1, 1000, len(_REPO.car()) - 1, len(_REPO.car())):
        monkeypatch.setattr(spill, "MEMORY_BYTES", memory_bytes)
        for blocks in (_SHUFFLED, _BLOCKS[:50] + _BLOCKS[50:][::-1]):
            car = _pieces(_REPO.car(blocks), 333)
            assert _read(car) == (_REPO.contents(), _VERIFIED)


def test_the_spill_file_is_let_go_whatever_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python warns of a file that nobody closed, and pytest makes it an error."""
    monkeypatch.setattr(spill, "MEMORY_BYTES", 0)
    opened: list[Any] = []
    make = tempfile.TemporaryFile

    def remember(*arguments: Any, **options: Any) -> Any:
        opened.append(make(*arguments, **options))
        return opened[-1]

    monkeypatch.setattr(tempfile, "TemporaryFile", remember)
    _read(_REPO.car(_SHUFFLED))
    _read(_REPO.car())
    _reason(_REPO.car(_SHUFFLED[:-1]))
    abandoned = iter(repo.stream_repo(_REPO.car(_SHUFFLED), SIGNER.key))
    next(abandoned)
    del abandoned
    assert len(opened) == 4
    assert all(file.closed for file in opened)


def test_in_order_memory_does_not_grow_with_the_repository(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Spec: C-10: even the keys alone would be more than the tenth that it may grow by."""
    monkeypatch.setattr(spill, "MEMORY_BYTES", 0)
    peaks = []
    for count in (300, 6_000):
        made = export({f"com.example.note/{n:05}": record(f"note {n}") for n in range(count)})
        file = io.BytesIO(made.car())
        with monkeypatch.context() as patched:
            patched.setattr(car, "_PIECE_BYTES", 4_096)
            peaks.append(peak_bytes(partial(repo.verify_repo, file, SIGNER.key)))
    assert peaks[1] < peaks[0] + len(file.getvalue()) // 10
