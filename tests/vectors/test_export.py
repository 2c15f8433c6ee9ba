"""Real repositories, made again from messages of `latest.*`: others must find the same in them."""

from pathlib import Path

import pytest
from support.recordings import load_recording
from support.reexport import export_again, read_foreign_repo, read_sdk_blocks

from pipelines.atproto.car import read_car
from pipelines.atproto.cid import encode_cid, parse_cid
from pipelines.atproto.commit import parse_commit
from pipelines.atproto.repo import stream_repo
from pipelines.atproto.syntax import tid_time_us

pytestmark = pytest.mark.shared


def test_each_recorded_repository_is_made_again(shared_data: Path, tmp_path: Path) -> None:
    """Spec: C-10, C-11: another server's exports, record by record."""
    folder = shared_data / "pds-corpus"
    keys = load_recording(folder).keys
    paths = sorted(folder.glob("accounts/*/repo.car"))
    unread_count = 0
    for number, path in enumerate(paths):
        captured = path.read_bytes()
        roots, blocks = read_car(captured)
        commit = parse_commit(blocks[roots[0]])
        key = keys.key_at(commit.did, tid_time_us(commit.rev)) or keys.current_key(commit.did)
        records = list(stream_repo(captured, key))
        bodies = {record.path: record.block for record in records}
        made = export_again(tmp_path / str(number), commit.block, bodies)
        assert list(stream_repo(made, key)) == records, path
        assert read_car(made).blocks == blocks, path
        foreign = read_foreign_repo(made, key.did_key())
        assert (foreign.did, foreign.rev) == (commit.did, commit.rev)
        assert foreign.records == {record.path: encode_cid(record.cid) for record in records}
        assert foreign.blocks_count == len(blocks)
        of_sdk = read_sdk_blocks(made)
        assert of_sdk == read_sdk_blocks(captured)
        unread_count += of_sdk is None
    # The SDK reads no records as deep as those of one account, whoever wrote the file.
    assert (len(paths), unread_count) == (33, 1)


def test_the_networks_own_repository_is_made_again(shared_data: Path, tmp_path: Path) -> None:
    """Spec: C-10, C-11: of the records that a third implementation lists."""
    folder = shared_data / "network-repo"
    roots, blocks = read_car((folder / "repo.car").read_bytes())
    lines = (folder / "car_expected_records.tsv").read_text().splitlines()
    listed = dict(line.split("\t") for line in lines)
    bodies = {path: blocks[parse_cid(text)] for path, text in listed.items()}
    made = read_car(export_again(tmp_path / "store", blocks[roots[0]], bodies))
    assert made.roots == roots
    assert made.blocks == blocks
