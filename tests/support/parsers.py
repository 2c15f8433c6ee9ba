"""Every way into the protocol core for data of others, and who needs no such data.

Both lists are complete, which a test checks: what is public in `pipelines.atproto` is in one of
them. What is here is fuzzed, by Hypothesis and by `make fuzz`.
"""

import asyncio
import importlib
import inspect
import pkgutil
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import is_dataclass
from enum import Enum
from typing import Any, NamedTuple

from support.exports import export
from support.oracle import cid_of, dag_cbor
from support.repo import DID, SIGNER, make_step, record
from support.wire import START_TIME, START_US

import pipelines.atproto
from pipelines.atproto import (
    atjson,
    car,
    cbor,
    cid,
    commit,
    frames,
    keys,
    mst,
    record_proof,
    repo,
    strings,
    syntax,
)
from pipelines.atproto.mst import node

_STEP = make_step()
_EXPORT = export({f"com.example.note/{n:04}": record(f"note {n}") for n in range(12)})
_RECORD = dag_cbor(
    {"$type": "com.example.note", "a": [1, -1, None, True, b"", {"b": "é"}], "c": "\n"}
)
_POINT = SIGNER.key.compressed


class Parser(NamedTuple):
    """A way in.

    Attributes:
        call: takes an input as it comes from outside.
        honest: an input that it accepts; bytes, or else text where any object may come.
    """

    call: Callable[[Any], object]
    honest: bytes | str


def _pieces(raw: bytes) -> Iterator[bytes]:
    """Cuts bytes into pieces that fit nothing."""
    for start in range(0, len(raw), 97):
        yield raw[start : start + 97]


async def _pieces_async(raw: bytes) -> AsyncIterator[bytes]:
    for piece in _pieces(raw):
        yield piece


def _feed(raw: bytes) -> object:
    reader = car.CarReader()
    sections = [section for piece in _pieces(raw) for section in reader.feed(piece)]
    reader.close()
    return sections


def _read_repo(raw: bytes) -> object:
    with repo.RepoReader(SIGNER.key) as reader:
        records = [found for piece in _pieces(raw) for found in reader.feed(piece)]
        return [*records, *reader.finish()], reader.verified


def _collect(stream: repo.AsyncRepoStream) -> object:
    async def collect() -> object:
        return [found async for found in stream], stream.verified

    return asyncio.run(collect())


async def _verify_repo(raw: bytes) -> object:
    return await repo.verify_repo_async(_pieces_async(raw), SIGNER.key)


def _opened(raw: bytes) -> commit.OpenedCommit:
    """Opens a commit that brings all blocks of the honest one."""
    return commit.OpenedCommit(commit.parse_commit(raw), cid_of(raw), _STEP.blocks)


def _prove(raw: bytes) -> object:
    """Proves the message of any frame against the honest commit, as if it were authentic."""
    message = frames.parse_frame(raw)
    authentic = commit.AuthenticCommit(_STEP.opened())
    if isinstance(message, frames.CommitMessage):
        return commit.prove_commit(message, authentic)
    if isinstance(message, frames.SyncMessage):
        return commit.prove_sync(message, authentic)
    return None


def _verify_message(raw: bytes) -> object:
    message = frames.parse_frame(raw)
    if isinstance(message, frames.CommitMessage):
        return commit.verify_commit(message, SIGNER.key)
    if isinstance(message, frames.SyncMessage):
        return commit.verify_sync(message, SIGNER.key)
    return None


def _invert(root: bytes) -> object:
    """Undoes the honest ops from any root: no CAR can bring it under its name."""
    return mst.invert(_STEP.after.nodes | {_STEP.after.root: root}, _STEP.after.root, _STEP.ops)


def _compare(root: bytes) -> object:
    """Compares the tree before with one with any root."""
    nodes = {**_STEP.before.nodes, **_STEP.after.nodes, _STEP.after.root: root}
    return mst.diff(nodes, _STEP.before.root, nodes, _STEP.after.root)


def _walk(root: bytes) -> object:
    """Walks a tree with any root, likewise."""
    blocks = _STEP.after.nodes | {_STEP.after.root: root}
    walk, keys_found = mst.traverse(_STEP.after.root), []
    try:
        wanted, key = next(walk)
        while True:
            keys_found.append(key)
            wanted, key = walk.send(blocks.get(wanted, b"") if key is None else b"")
    except StopIteration:
        return keys_found


def _prove_path(root: bytes) -> object:
    """Follows a path from any root, likewise."""
    blocks = _STEP.after.nodes | {_STEP.after.root: root}
    return mst.PartialTree(blocks, _STEP.after.root).get(_STEP.ops[-1].path.encode())


PARSERS: dict[str, Parser] = {
    "atjson.from_json": Parser(atjson.from_json, atjson.to_json(_RECORD)),
    "atjson.to_json": Parser(atjson.to_json, _RECORD),
    "car.CarReader.close": Parser(_feed, _STEP.car),
    "car.CarReader.feed": Parser(_feed, _STEP.car),
    "car.read_car": Parser(car.read_car, _STEP.car),
    "car.stream_car": Parser(lambda raw: list(car.stream_car(_pieces(raw)).blocks), _STEP.car),
    "cbor.count_items": Parser(lambda raw: cbor.count_items(raw, 1_000), _RECORD),
    "cbor.decode": Parser(cbor.decode, _RECORD),
    "cbor.decode_as_json_value": Parser(cbor.decode_as_json_value, _RECORD),
    "cbor.decode_loose": Parser(cbor.decode_loose, _RECORD),
    "cbor.decode_sequence": Parser(cbor.decode_sequence, _RECORD + _RECORD),
    "cid.parse_cid": Parser(cid.parse_cid, cid.encode_cid(cid_of(b""))),
    "commit.authenticate": Parser(
        lambda raw: commit.authenticate(_opened(raw), SIGNER.key), _STEP.commit
    ),
    "commit.check_rev_not_future": Parser(
        lambda raw: commit.check_rev_not_future(commit.parse_commit(raw).rev, START_US),
        _STEP.commit,
    ),
    "commit.open_commit": Parser(lambda raw: commit.open_commit(DID, raw), _STEP.car),
    "commit.parse_commit": Parser(commit.parse_commit, _STEP.commit),
    "commit.parse_root": Parser(commit.parse_root, _STEP.commit),
    "commit.prove_commit": Parser(_prove, _STEP.frame()),
    "commit.prove_sync": Parser(_prove, _STEP.sync_frame()),
    "commit.verify_commit": Parser(_verify_message, _STEP.frame()),
    "commit.verify_sync": Parser(_verify_message, _STEP.sync_frame()),
    "frames.parse_envelope": Parser(frames.parse_envelope, _STEP.frame()),
    "frames.parse_frame": Parser(frames.parse_frame, _STEP.frame()),
    "frames.parse_message": Parser(
        lambda raw: frames.parse_message(frames.parse_envelope(raw)), _STEP.sync_frame()
    ),
    "keys.VerifyingKey": Parser(lambda raw: keys.VerifyingKey("k256", raw), _POINT),
    "keys.VerifyingKey.verify": Parser(
        lambda raw: SIGNER.key.verify(b"message", raw), SIGNER.sign(b"message")
    ),
    "keys.parse_did_key": Parser(keys.parse_did_key, SIGNER.key.did_key()),
    "keys.parse_legacy_key": Parser(
        lambda text: keys.parse_legacy_key("p256", text),
        "zxdM8dSstjrpZaRUwBmDvjGXweKuEMVN95A9oJBFjkWMh",
    ),
    "keys.parse_multikey": Parser(keys.parse_multikey, SIGNER.key.multikey()),
    "mst.difference.diff": Parser(_compare, _STEP.after.nodes[_STEP.after.root]),
    "mst.inversion.invert": Parser(_invert, _STEP.after.nodes[_STEP.after.root]),
    "mst.inversion.PartialTree.get": Parser(_prove_path, _STEP.after.nodes[_STEP.after.root]),
    "mst.node.parse_node": Parser(
        lambda raw: node.parse_node(raw, None), _STEP.after.nodes[_STEP.after.root]
    ),
    "mst.traversal.traverse": Parser(_walk, _STEP.after.nodes[_STEP.after.root]),
    "record_proof.prove_record": Parser(
        lambda raw: record_proof.prove_record(
            commit.AuthenticCommit(commit.open_commit(DID, raw)), _STEP.ops[-1].path
        ),
        _STEP.car,
    ),
    "record_proof.verify_record": Parser(
        lambda raw: record_proof.verify_record(raw, SIGNER.key, did=DID, path=_STEP.ops[-1].path),
        _STEP.car,
    ),
    "repo.stream_repo": Parser(lambda raw: list(repo.stream_repo(raw, SIGNER.key)), _EXPORT.car()),
    "repo.stream_repo_async": Parser(
        lambda raw: _collect(repo.stream_repo_async(_pieces_async(raw), SIGNER.key)), _EXPORT.car()
    ),
    "repo.verify_repo": Parser(lambda raw: repo.verify_repo(raw, SIGNER.key), _EXPORT.car()),
    "repo.verify_repo_async": Parser(lambda raw: asyncio.run(_verify_repo(raw)), _EXPORT.car()),
    "repo_reader.RepoReader.feed": Parser(_read_repo, _EXPORT.car()),
    "repo_reader.RepoReader.finish": Parser(_read_repo, _EXPORT.car(reversed(_EXPORT.ordered()))),
    "strings.parse_cid_text": Parser(strings.parse_cid_text, "bafyreigh2akiscai"),
    "strings.parse_language": Parser(strings.parse_language, "de-1901-u-co-phonebk-x-a"),
    "strings.parse_uri": Parser(strings.parse_uri, "https://example.com/a?b#c"),
    "syntax.parse_at_identifier": Parser(syntax.parse_at_identifier, "alice.example.com"),
    "syntax.parse_at_uri": Parser(syntax.parse_at_uri, f"at://{DID}/com.example.note/self"),
    "syntax.parse_datetime": Parser(syntax.parse_datetime, START_TIME),
    "syntax.parse_did": Parser(syntax.parse_did, DID),
    "syntax.parse_handle": Parser(syntax.parse_handle, "alice.example.com"),
    "syntax.parse_nsid": Parser(syntax.parse_nsid, "com.example.fooBar"),
    "syntax.parse_path": Parser(syntax.parse_path, "com.example.note/3jzfcijpj2z2a"),
    "syntax.parse_record_key": Parser(syntax.parse_record_key, "3jzfcijpj2z2a"),
    "syntax.parse_tid": Parser(syntax.parse_tid, "3jzfcijpj2z2a"),
}

# What else is public, and why no data of others reaches it unchecked.
NO_PARSERS: dict[str, frozenset[str]] = {
    "writes, from values of our own": frozenset(
        {
            "car.write_car",
            "car.write_car_chunks",
            "cbor.encode",
            "cbor.head",
            "cbor.head_pattern",
            "cid.encode_cid",
            "commit.CommitLayout.of",
            "commit.CommitLayout.signed",
            "commit.CommitLayout.unsigned",
            "keys.VerifyingKey.did_key",
            "keys.VerifyingKey.multikey",
            "mst.building.root_of",
            "mst.building.root_steps",
            "mst.tree.Tree.apply",
            "mst.tree.Tree.covering",
            "mst.tree.Tree.entries",
            "mst.tree.Tree.of",
            "mst.tree.Tree.walk",
            "signing.SigningKey",
            "signing.SigningKey.sign",
            "signing.sign_commit",
            "syntax.make_tid",
            "syntax.refusal",
        }
    ),
    "takes what a parser has checked": frozenset(
        {
            "cbor.encode_json_value",
            "cbor.walk",
            "mst.inversion.PartialTree",
            "mst.inversion.PartialTree.insert",
            "mst.inversion.PartialTree.remove",
            "mst.inversion.PartialTree.replace",
            "mst.inversion.PartialTree.root_cid",
            "mst.node.Node",
            "mst.node.Node.compress_key",
            "mst.node.Node.link",
            "mst.node.check_suffix",
            "mst.node.children",
            "syntax.tid_clock_id",
            "syntax.tid_time_us",
        }
    ),
    "total: any bytes or value will do": frozenset(
        {
            "commit.check_record_size",
            "commit.record_of",
            "repo_reader.check_repetition",
            "cid.cid_of",
            "cid.is_dag_cbor_cid",
            "syntax.is_plc_did",
            "mst.node.common_prefix_length",
            "mst.node.layer_of",
        }
    ),
    "keeps bytes without looking at them": frozenset(
        {
            "car.pieces_of",
            "spill.Spill",
            "spill.Spill.close",
            "spill.Spill.index",
            "spill.Spill.pieces",
            "spill.Spill.read",
            "spill.Spill.write",
        }
    ),
    "made by a function that is fuzzed": frozenset(
        {
            "car.CarReader",
            "car.Readable",
            "car.Readable.read",
            "mst.tree.StoredNode",
            "mst.tree.Tree",
            "repo.AsyncRepoStream",
            "repo.RepoStream",
            "repo_reader.RepoReader",
        }
    ),
}


def public_names() -> Iterator[str]:
    """Yields what is public in the protocol core and can be called.

    Not the types of plain values, which hold what their maker has checked.
    """
    for found in pkgutil.walk_packages(pipelines.atproto.__path__, "pipelines.atproto."):
        module = importlib.import_module(found.name)
        short = found.name.removeprefix("pipelines.atproto.")
        for name, value in vars(module).items():
            if name.startswith("_") or getattr(value, "__module__", None) != found.name:
                continue
            if inspect.isfunction(value):
                yield f"{short}.{name}"
            elif inspect.isclass(value) and not issubclass(value, (Exception, Enum)):
                if not _is_plain(value):
                    yield f"{short}.{name}"
                yield from (f"{short}.{name}.{method}" for method in _methods(value))


def _is_plain(kind: type) -> bool:
    """Tells whether a type only holds values: making one checks nothing."""
    return issubclass(kind, tuple) or (is_dataclass(kind) and not hasattr(kind, "__post_init__"))


def _methods(kind: type) -> Iterator[str]:
    for name, value in vars(kind).items():
        is_method = inspect.isfunction(value) or isinstance(value, (classmethod, staticmethod))
        if is_method and not name.startswith("_"):
            yield name
