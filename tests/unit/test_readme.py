"""README keeps its word: its Python runs, and its commands exist."""

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest
from support.exports import Export, export
from support.oracle import build, cid_of, dag_cbor
from support.repo import SIGNER, record

from pipelines.atproto.cid import encode_cid
from pipelines.atproto.frames import CommitMessage, parse_frame
from pipelines.captures import read_frames
from pipelines.cli import _COMMANDS
from pipelines.identity.offline import OfflineKeys
from pipelines.kafka.messages import InputMessage
from pipelines.kafka.topics import registry
from pipelines.replay.parquet import ParquetOutput
from pipelines.replay.planning import Chosen, Plan
from pipelines.replay.progress import Progress
from pipelines.replay.selection import Selection
from pipelines.replay.window import Range

_README = (Path(__file__).parents[2] / "README.md").read_text()
_LIBRARY = _README.partition("\n## Use it as a library\n")[2].partition("\n## ")[0]
_EXAMPLES = re.findall(r"```python\n(.*?)```", _LIBRARY, re.DOTALL)


def _run(word: str, capsys: pytest.CaptureFixture[str], **names: Any) -> list[str]:
    """Runs the library example that has a word in it; returns the lines that it prints."""
    [example] = (text for text in _EXAMPLES if word in text)
    exec(example, names)
    return capsys.readouterr().out.splitlines()


def _export(*numbers: int) -> Export:
    return export({f"com.example.note/{n:04}": record(f"note {n}") for n in numbers})


def test_the_commit_example_verifies_a_recorded_commit(
    capture_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame, message = next(
        (frame, message)
        for frame in read_frames(capture_folder / "frames.bin")
        if isinstance(message := parse_frame(frame), CommitMessage) and message.ops
    )
    key = OfflineKeys.load(capture_folder / "identities.jsonl").current_key(message.did)
    printed = _run("verify_commit", capsys, websocket_message=frame, signing_key=key.did_key())
    assert printed == [f"{op.action} {op.path}" for op in message.ops]


def test_the_repository_example_proves_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    made = _export(*range(30))
    (tmp_path / "repo.car").write_bytes(made.car(reversed(made.ordered())))
    printed = _run("stream_repo", capsys, signing_key=SIGNER.key.did_key())
    assert printed[:-1] == [f"{path} {len(block)}" for path, _, block in made.contents()]
    assert printed[-1].endswith(" 30")


def test_the_example_of_two_exports_tells_what_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "monday.car").write_bytes(_export(1, 2, 3).car())
    changed = {f"com.example.note/{n:04}": record(text) for n, text in ((2, "else"), (4, "new"))}
    tuesday = export({"com.example.note/0003": record("note 3")} | changed)
    (tmp_path / "tuesday.car").write_bytes(tuesday.car())
    assert _run("mst.diff", capsys) == [
        "com.example.note/0001 is gone",
        "com.example.note/0002 changed",
        "com.example.note/0004 is new",
    ]


def test_the_example_of_json_gives_the_cid_and_the_root(
    capsys: pytest.CaptureFixture[str],
) -> None:
    cid = cid_of(dag_cbor(record("hello")))
    assert _run("from_json", capsys) == [
        f'{encode_cid(cid)} {{"text":"hello","$type":"com.example.note"}}',
        encode_cid(build({"com.example.note/3lmxjza3nva27": cid}).root),
    ]


def test_every_example_of_the_library_is_run_here() -> None:
    assert len(_EXAMPLES) == 4


def test_every_name_in_the_table_of_the_library_exists() -> None:
    rows = [line for line in _LIBRARY.splitlines() if line.startswith("| ")][2:]
    names = [name for row in rows for name in re.findall(r"`([a-z_]+(?:\.\w+)+)`", row)]
    assert len(names) > 40
    for name in names:
        module, *rest = name.split(".")
        found: Any = importlib.import_module(f"pipelines.atproto.{module}")
        if rest[0] == "tree":
            found = importlib.import_module("pipelines.atproto.mst.tree")
            del rest[0]
        for part in rest:
            found = getattr(found, part)
        assert callable(found), name


def test_the_library_needs_neither_kafka_nor_a_network() -> None:
    program = (
        "import pkgutil, sys, importlib\n"
        "for name in ('confluent_kafka', 'aiokafka', 'faust', 'aiohttp', 'asyncio', 'socket'):\n"
        "    sys.modules[name] = None\n"
        "import pipelines.atproto as core\n"
        "for module in pkgutil.walk_packages(core.__path__, 'pipelines.atproto.'):\n"
        "    importlib.import_module(module.name)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr


def test_every_standpipe_command_in_the_readme_exists() -> None:
    named = set(re.findall(r"^standpipe (\w+)", _README, re.MULTILINE))
    assert named
    assert named <= set(_COMMANDS)


def test_the_queries_run_over_what_replay_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    topics = ("records.app.bsky.feed.like", "records.app.bsky.feed.post")
    chosen = {name: Chosen(name, registry().topics[name], 1) for name in topics}
    plan = Plan(chosen, {(name, 0): Range(0, 1) for name in topics}, Selection())
    [version] = registry().specs["records"].versions
    examples = {"like": "create-like.json", "post": "create-post.json"}
    messages = []
    for name in topics:
        value = (version.examples / examples[name.rpartition(".")[2]]).read_bytes()
        collection = ("collection", name.removeprefix("records.").encode())
        messages.append(InputMessage(name, 0, 0, 1_795_651_200_000, b"at", value, [collection]))
    output = ParquetOutput(tmp_path / "lake", plan, {}, ())
    output.begin(Progress({}, plan.ranges))
    output.write(messages, Progress({}, {where: Range(1, 1) for where in plan.ranges}))
    monkeypatch.chdir(tmp_path)
    counts, posts = [_rows(query) for query in re.findall(r"```sql\n(.*?)```", _README, re.DOTALL)]
    assert {collection: count for collection, _, count, _ in counts} == {
        "app.bsky.feed.like": 1,
        "app.bsky.feed.post": 1,
    }
    [example] = (message.value for message in messages if b'"text"' in (message.value or b""))
    assert [text for text, _ in posts] == [json.loads(example or b"")["record"]["text"]]


def _rows(query: str) -> list[tuple[Any, ...]]:
    relation = duckdb.sql(query)
    assert relation is not None
    return relation.fetchall()
