"""The capture that is part of the project: what it holds, and that it can be made again."""

import filecmp
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pipelines.atproto.frames import Kind, parse_envelope
from pipelines.captures import read_frames


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_frame_has_an_expected_verdict(capture_folder: Path) -> None:
    expected = read_lines(capture_folder / "expected.jsonl")
    envelopes = [parse_envelope(frame) for frame in read_frames(capture_folder / "frames.bin")]
    assert [entry["n"] for entry in expected] == list(range(len(envelopes)))
    for entry, envelope in zip(expected, envelopes, strict=True):
        unsigned = envelope.kind in (Kind.IDENTITY, Kind.ACCOUNT)
        assert (entry["verdict"] == "skipped") is unsigned
    verdicts = Counter(entry["verdict"] for entry in expected)
    assert verdicts == {"verified": 424, "skipped": 70, "refused": 7}


def test_every_account_is_whole(capture_folder: Path) -> None:
    """Whoever has frames has an identity; the relay's order is kept."""
    envelopes = [parse_envelope(frame) for frame in read_frames(capture_folder / "frames.bin")]
    dids = {entry["did"] for entry in read_lines(capture_folder / "identities.jsonl")}
    accounts = json.loads((capture_folder / "accounts.json").read_text())
    assert {envelope.did for envelope in envelopes} == dids
    assert {account["did"] for account in accounts} == dids
    seqs = [envelope.seq for envelope in envelopes if envelope.seq is not None]
    assert seqs == sorted(set(seqs))
    assert len(seqs) == len(envelopes)


@pytest.mark.shared
def test_the_selection_is_reproducible(
    shared_data: Path, capture_folder: Path, tmp_path: Path
) -> None:
    script = capture_folder.parent / "select_capture.py"
    made = tmp_path / "capture"
    subprocess.run(
        [sys.executable, script, shared_data / "pds-corpus", made], check=True, timeout=60
    )
    names = sorted(
        str(file.relative_to(capture_folder))
        for file in capture_folder.rglob("*")
        if file.is_file()
    )
    assert names == sorted(str(f.relative_to(made)) for f in made.rglob("*") if f.is_file())
    _, different, unreadable = filecmp.cmpfiles(capture_folder, made, names, shallow=False)
    assert (different, unreadable) == ([], [])
