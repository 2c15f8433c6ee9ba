"""The Faust application in README, run as it stands there against a real broker."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.kafka import wait_until
from support.records import RecordWriter, abort_records, generate_records

from pipelines.config import KafkaConfig
from pipelines.kafka.admin import apply, plan

pytestmark = pytest.mark.broker

PARTITIONS = 2
_README = Path(__file__).parents[2] / "README.md"


def test_the_faust_example_prints_committed_posts_and_no_others(
    kafka: str, topic_prefix: str, tmp_path: Path
) -> None:
    examples = re.findall(r"```python\n(.*?)```", _README.read_text(), re.DOTALL)
    [example] = (text for text in examples if "import faust" in text)
    config = KafkaConfig(kafka, topic_prefix)
    apply(plan(config, PARTITIONS))
    example = example.replace("127.0.0.1:9092", kafka).replace("atproto.", f"{topic_prefix}.")
    example = example.replace("my-app", topic_prefix)
    (tmp_path / "my_app.py").write_text(example)
    values = list(generate_records(200, seed=1))
    posts = [value for value in values if value["collection"] == "app.bsky.feed.post"]
    assert posts
    abort_records(config, [post | {"operation": "aborted"} for post in posts], PARTITIONS)
    RecordWriter(config, PARTITIONS).write(values)
    output = tmp_path / "output"
    command = [sys.executable, "-W", "ignore", "-m", "faust", "-A", "my_app", "worker"]
    with output.open("wb") as file:
        worker = subprocess.Popen(
            [*command, "--without-web", "-l", "warn"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONUNBUFFERED": "1"},
            stdout=file,
            stderr=file,
        )
    try:
        expected = sorted(f"{post['operation']} {post['uri']}" for post in posts)
        printed = re.compile(r"\w+ at://\S+")
        wait_until(
            lambda: len(printed.findall(output.read_text())) >= len(expected),
            "the posts to be printed",
        )
    finally:
        worker.terminate()
        worker.wait(30)
    assert sorted(printed.findall(output.read_text())) == expected
