"""A whole repository exported by the real network, with its contents as others list them."""

from pathlib import Path

import pytest
from support import oracle

from pipelines.atproto import mst
from pipelines.atproto.car import read_car, write_car
from pipelines.atproto.cid import cid_of, encode_cid, parse_cid
from pipelines.atproto.commit import open_commit
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
