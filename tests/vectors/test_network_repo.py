"""A whole repository exported by the real network, with its contents as others list them."""

import random
from pathlib import Path

import coincurve
import pytest
from support import oracle
from support.repo import OTHER_SIGNER, refusal
from support.wire import car

from pipelines.atproto import mst
from pipelines.atproto.car import read_car, write_car
from pipelines.atproto.cid import cid_of, encode_cid, parse_cid
from pipelines.atproto.commit import SignedCommit, open_commit, parse_commit
from pipelines.atproto.errors import Reason
from pipelines.atproto.keys import VerifyingKey
from pipelines.atproto.repo import stream_repo, verify_repo
from pipelines.atproto.syntax import parse_did

pytestmark = pytest.mark.shared


@pytest.fixture
def folder(shared_data: Path) -> Path:
    return shared_data / "network-repo"


def test_every_block_has_its_hash(folder: Path) -> None:
    """Spec: A-45, C-01."""
    roots, blocks = read_car((folder / "repo.car").read_bytes())
    assert roots[0] in blocks
    assert len(blocks) > 1
    assert all(cid_of(block) == cid for cid, block in blocks.items())


def test_written_again_it_is_the_same_file(folder: Path) -> None:
    """Spec: C-01: byte for byte as another implementation writes it."""
    data = (folder / "repo.car").read_bytes()
    roots, blocks = read_car(data)
    assert write_car(roots[0], blocks.items()) == data


def test_the_commit_is_the_listed_one(folder: Path) -> None:
    lines = (folder / "car_expected_commit.txt").read_text().splitlines()
    expected = dict(line.split(": ", 1) for line in lines if ": " in line)
    opened = open_commit(parse_did(expected["DID"]), (folder / "repo.car").read_bytes())
    assert encode_cid(opened.commit.data_cid) == expected["Data CID"]
    assert opened.commit.rev == expected["Revision"]
    assert opened.commit.prev is None


def test_the_tree_holds_the_listed_records_and_nothing_else(folder: Path) -> None:
    """Spec: B-29: the list determines the root."""
    lines = (folder / "car_expected_records.tsv").read_text().splitlines()
    listed = {path: parse_cid(text) for path, text in (line.split("\t") for line in lines)}
    roots, blocks = read_car((folder / "repo.car").read_bytes())
    tree = oracle.build(listed)
    assert mst.root_of(sorted(listed.items())) == tree.root
    assert oracle.read(blocks, tree.root) == listed
    assert blocks == {roots[0]: blocks[roots[0]]} | tree.nodes | {
        cid: blocks[cid] for cid in listed.values()
    }


def test_the_whole_repository_is_proven_and_holds_the_listed_records(folder: Path) -> None:
    """Spec: C-11."""
    data = (folder / "repo.car").read_bytes()
    roots, blocks = read_car(data)
    commit = parse_commit(blocks[roots[0]])
    key = _signer_of(commit)
    mixed = list(blocks.values())
    random.Random(1).shuffle(mixed)
    for source in (data, car(roots[0], mixed)):
        stream = stream_repo(source, key, did=commit.did)
        lines = [f"{record.path}\t{encode_cid(record.cid)}" for record in stream]
        assert lines == (folder / "car_expected_records.tsv").read_text().splitlines()
        assert stream.verified.commit == commit
        assert stream.verified.block_count == 1 + stream.verified.node_count + len(lines)


def test_under_another_key_nothing_is_proven(folder: Path) -> None:
    data = (folder / "repo.car").read_bytes()
    assert refusal(lambda: verify_repo(data, OTHER_SIGNER.key)).reason is Reason.SIGNATURE_INVALID


def _signer_of(commit: SignedCommit) -> VerifyingKey:
    """Returns a key under which the signature holds: nobody recorded the account's own."""
    recovered = coincurve.PublicKey.from_signature_and_message(
        commit.signature + b"\x00", commit.unsigned
    )
    return VerifyingKey("k256", recovered.format())
