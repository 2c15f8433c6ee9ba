"""README keeps its word: its Python runs, and its commands exist."""

import re
from pathlib import Path

import pytest

from pipelines.atproto.frames import CommitMessage, parse_frame
from pipelines.captures import read_frames
from pipelines.cli import _COMMANDS
from pipelines.identity.offline import OfflineKeys

_README = Path(__file__).parents[2] / "README.md"


def test_the_library_example_verifies_a_recorded_commit(
    capture_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    examples = re.findall(r"```python\n(.*?)```", _README.read_text(), re.DOTALL)
    [example] = (text for text in examples if "verify_commit" in text)
    frame, did = next(
        (frame, message.did)
        for frame in read_frames(capture_folder / "frames.bin")
        if isinstance(message := parse_frame(frame), CommitMessage) and message.ops
    )
    key = OfflineKeys.load(capture_folder / "identities.jsonl").current_key(did)
    exec(example, {"websocket_message": frame, "signing_key": key.did_key()})
    printed = capsys.readouterr().out.split()
    assert printed[0] in {"create", "update", "delete"}
    assert "/" in printed[1]


def test_every_standpipe_command_in_the_readme_exists() -> None:
    named = set(re.findall(r"^standpipe (\w+)", _README.read_text(), re.MULTILINE))
    assert named
    assert named <= set(_COMMANDS)
