"""Reading a capture folder: what it yields, and what is said about a broken one."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.captures import CaptureError, CaptureWriter, read_frames
from pipelines.sim.network import captured_frames, load_network
from pipelines.subscriptions import error_frame, info_frame

DID = "did:plc:2hnjcpc32qkzk35lxypg6xey"
IDENTITY = {"did": DID, "document": {"id": DID}, "plc_audit_log": [{"cid": "x"}]}
ACCOUNT = {
    "did": DID,
    "dir": "some_account",
    "latestCommit": {"cid": "x", "rev": "y"},
    "repoStatus": {"did": DID, "active": True},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with CaptureWriter(tmp_path / "frames.bin") as writer:
        writer.append(b"garbage")
    write_identities(tmp_path, IDENTITY)
    return tmp_path


def write_identities(folder: Path, *entries: Any) -> None:
    text = "".join(json.dumps(entry) + "\n" for entry in entries)
    (folder / "identities.jsonl").write_text(text)


def write_accounts(folder: Path, accounts: Any) -> None:
    (folder / "accounts.json").write_text(json.dumps(accounts))


def test_the_capture_of_the_project_loads(capture_folder: Path) -> None:
    network = load_network(capture_folder)
    assert [frame.message for frame in network.frames] == list(
        read_frames(capture_folder / "frames.bin")
    )
    seqs = [frame.seq for frame in network.frames]
    assert all(seq is not None for seq in seqs)
    assert len(network.identities) == len(network.accounts) == 22
    assert sum(account.car is not None for account in network.accounts.values()) == 20
    web = [did for did, identity in network.identities.items() if identity.audit_log is None]
    assert web == ["did:web:localhost%3A2590"]
    given_up = [did for did, identity in network.identities.items() if identity.document is None]
    assert given_up == ["did:plc:owqp3frvbhmcxjtgzr3y6gfo"]


def test_accounts_and_logs_are_optional(folder: Path) -> None:
    write_identities(folder, {"did": DID, "document": {"id": DID}})
    network = load_network(folder)
    assert network.identities[DID].audit_log is None
    assert network.accounts == {}


def test_messages_without_a_readable_sequence_number_are_kept() -> None:
    messages = (b"", b"\xff", "text", info_frame("a", "b"), error_frame("a", "b"))
    frames = captured_frames(messages)
    assert tuple(frame.message for frame in frames) == messages
    assert [frame.seq for frame in frames] == [None] * 5


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="nowhere: there is no such folder"):
        load_network(tmp_path / "nowhere")


def test_every_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match=r"lacks frames\.bin and identities\.jsonl"):
        load_network(tmp_path)
    (tmp_path / "frames.bin").touch()
    with pytest.raises(CaptureError, match=r"lacks identities\.jsonl"):
        load_network(tmp_path)


def test_a_truncated_capture_is_refused(folder: Path) -> None:
    with (folder / "frames.bin").open("ab") as file:
        file.write(b"\x00\x00\x00\x09torn")
    with pytest.raises(CaptureError, match=r"frames\.bin: truncated.*frame n=1, at byte 11"):
        load_network(folder)


@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        ([IDENTITY, {"did": DID}], "line 2 has no `did` with a `document`"),
        ([{"document": {}}], "line 1 has no `did` with a `document`"),
        (["text"], "line 1 has no `did` with a `document`"),
        ([IDENTITY, IDENTITY], f"line 2 repeats {DID}"),
        ([IDENTITY | {"plc_audit_log": {}}], "`plc_audit_log` of line 1 is not a list"),
    ],
)
def test_a_broken_identity_is_named_by_its_line(
    folder: Path, entries: list[Any], problem: str
) -> None:
    write_identities(folder, *entries)
    with pytest.raises(CaptureError, match=problem):
        load_network(folder)


@pytest.mark.parametrize(
    ("accounts", "problem"),
    [
        ({}, "it is not a list of accounts"),
        ([{"did": DID}], "account 0 lacks did, dir, latestCommit or repoStatus"),
        ([ACCOUNT, ACCOUNT], f"account 1 repeats {DID}"),
        ([ACCOUNT | {"dir": "../elsewhere"}], "'../elsewhere' is not the name of a folder"),
        ([ACCOUNT | {"dir": ".."}], r"'\.\.' is not the name of a folder"),
        ([ACCOUNT | {"dir": ""}], "'' is not the name of a folder"),
    ],
)
def test_a_broken_account_is_named(folder: Path, accounts: Any, problem: str) -> None:
    write_accounts(folder, accounts)
    with pytest.raises(CaptureError, match=problem):
        load_network(folder)


@pytest.mark.parametrize("name", ["identities.jsonl", "accounts.json"])
def test_what_is_not_json_is_named(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"{")
    with pytest.raises(CaptureError, match=f"{name}: .* is not JSON"):
        load_network(folder)
    (folder / name).write_bytes(b"\xff\xfe")
    with pytest.raises(CaptureError, match=f"{name}: it is not UTF-8 text"):
        load_network(folder)
