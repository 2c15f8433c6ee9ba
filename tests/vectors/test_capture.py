"""Our own small capture, which is part of the project: every verdict is the expected one."""

import json
from pathlib import Path

from support import oracle
from support.recordings import load_recording

from pipelines.atproto.car import read_car
from pipelines.atproto.commit import parse_commit
from pipelines.report import Chain, report_frames


def test_every_frame_has_its_expected_verdict(capture_folder: Path) -> None:
    recording = load_recording(capture_folder)
    lines = (capture_folder / "expected.jsonl").read_text().splitlines()
    expected = {entry["n"]: entry["verdict"] for entry in map(json.loads, lines)}
    reports = list(report_frames(recording.frames, recording.keys))
    assert {report.n: report.verdict for report in reports} == expected


def test_the_chain_is_broken_in_one_place(capture_folder: Path) -> None:
    """Where the recorded host took in a repository and emitted nothing."""
    recording = load_recording(capture_folder)
    reports = report_frames(recording.frames, recording.keys)
    broken = [report.n for report in reports if report.chain is Chain.BROKEN]
    lines = (capture_folder / "expected.jsonl").read_text().splitlines()
    assert [entry["n"] for entry in map(json.loads, lines) if entry["source_n"] == 1233] == broken


def test_the_final_repositories_are_whole(capture_folder: Path) -> None:
    """Spec: B-29, C-11."""
    cars = sorted(capture_folder.glob("accounts/*/repo.car"))
    assert len(cars) == 20
    for path in cars:
        roots, blocks = read_car(path.read_bytes())
        data_cid = parse_commit(blocks[roots[0]]).data_cid
        records = oracle.read(blocks, data_cid)
        assert oracle.build(records).root == data_cid
        assert set(records.values()) <= blocks.keys()
