"""The command line as a user meets it: exit codes, and messages that name the remedy."""

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import free_port
from support.cli import standpipe

from pipelines.identity.offline import OfflineKeys


def json_lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_alone_it_teaches() -> None:
    result = standpipe()
    assert result.returncode == 0
    for command in ("kafka", "topics", "bridge", "explode", "verify", "sim", "capture", "demo"):
        assert command in result.stdout + result.stderr


@pytest.mark.parametrize(
    "command",
    ["kafka", "topics", "bridge", "explode", "capture", "verify", "inspect", "identity", "sim"],
)
def test_every_command_has_help(command: str) -> None:
    result = standpipe(command, "--help")
    assert result.returncode == 0
    assert "Usage: standpipe" in result.stdout


def test_verify_prints_a_line_for_each_frame(capture_folder: Path) -> None:
    identities = str(capture_folder / "identities.jsonl")
    result = standpipe(
        "verify", str(capture_folder / "frames.bin"), "--identities", identities, "--jsonl"
    )
    assert result.returncode == 1  # seven frames are refused
    reports = [json.loads(line) for line in result.stdout.splitlines()]
    expected = json_lines(capture_folder / "expected.jsonl")
    assert [report["verdict"] for report in reports] == [line["verdict"] for line in expected]
    assert [report["n"] for report in reports] == list(range(len(expected)))
    assert {report["kind"] for report in reports} == {"commit", "sync", "identity", "account"}


def test_verify_exits_0_when_nothing_is_refused(capture_folder: Path, tmp_path: Path) -> None:
    whole = (capture_folder / "frames.bin").read_bytes()
    length = 4 + int.from_bytes(whole[:4], "big")
    (tmp_path / "one").write_bytes(whole[:length])
    identities = str(capture_folder / "identities.jsonl")
    assert standpipe("verify", str(tmp_path / "one"), "--identities", identities).returncode == 0


def test_a_truncated_capture_names_the_place_and_keeps_the_verdicts_before_it(
    capture_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "torn").write_bytes((capture_folder / "frames.bin").read_bytes()[:1000])
    identities = str(capture_folder / "identities.jsonl")
    result = standpipe("verify", str(tmp_path / "torn"), "--identities", identities)
    assert result.returncode == 1
    assert len(result.stdout.splitlines()) == 3
    assert "truncated" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("verify", "nowhere.frames", "--identities", "nowhere.jsonl"),
        ("verify",),
        ("bridge", "--relay", "ftp://relay.example"),
        ("bridge", "--relay", "a.example", "--relay", "b.example", "--cursor", "5"),
        ("explode", "--bootstrap-servers", "no-port"),
        ("nonsense",),
    ],
    ids=["no-file", "no-argument", "no-relay-url", "one-number-for-two", "no-port", "no-command"],
)
def test_wrong_usage_exits_2_with_a_sentence(arguments: tuple[str, ...]) -> None:
    result = standpipe(*arguments)
    assert result.returncode == 2
    assert "Error:" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("command", ["bridge", "explode"])
def test_a_broker_that_is_down_at_the_start_is_named_with_the_remedy(command: str) -> None:
    servers = f"127.0.0.1:{free_port()}"
    relay = ["--relay", "ws://127.0.0.1:1"] if command == "bridge" else []
    result = standpipe(command, *relay, STANDPIPE_BOOTSTRAP_SERVERS=servers)
    assert result.returncode == 1
    assert servers in result.stderr
    assert "standpipe kafka start" in result.stderr
    assert "Traceback" not in result.stderr


def test_settings_come_from_flags_over_environment_over_file(tmp_path: Path) -> None:
    file, environment, flag = (f"127.0.0.1:{free_port()}" for _ in range(3))
    config = tmp_path / "standpipe.toml"
    config.write_text(f'bootstrap-servers = "{file}"\n')
    from_file = standpipe("--config", str(config), "topics", "plan")
    assert file in from_file.stderr
    over = {"STANDPIPE_BOOTSTRAP_SERVERS": environment}
    from_environment = standpipe("--config", str(config), "topics", "plan", **over)
    assert environment in from_environment.stderr
    from_flag = standpipe("topics", "plan", "--bootstrap-servers", flag, **over)
    assert flag in from_flag.stderr


def test_a_setting_that_would_break_the_guarantee_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "standpipe.toml"
    config.write_text('[librdkafka]\n"isolation.level" = "read_uncommitted"\n"acks" = "1"\n')
    result = standpipe("--config", str(config), "topics", "plan")
    assert result.returncode == 2
    assert "isolation.level" in result.stderr
    assert "acks" in result.stderr  # every problem at once


def test_inspect_frame_shows_each_check(capture_folder: Path) -> None:
    frames = capture_folder / "frames.bin"
    expected = json_lines(capture_folder / "expected.jsonl")
    first_commit = 2  # identity, account, commit
    keys = OfflineKeys.load(capture_folder / "identities.jsonl")
    did = json_lines(capture_folder / "identities.jsonl")[0]["did"]
    key = keys.current_key(did).did_key()
    result = standpipe("inspect", "frame", str(frames), "--n", str(first_commit), "--key", key)
    assert result.returncode == 0, result.stdout
    assert "FAILED" not in result.stdout
    assert "not reached" not in result.stdout
    refused = next(line["n"] for line in expected if line["verdict"] == "refused")
    result = standpipe("inspect", "frame", str(frames), "--n", str(refused))
    assert result.returncode == 1
    assert "FAILED" in result.stdout
