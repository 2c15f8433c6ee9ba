"""The reader of README that builds an index, run as it stands there against a real broker."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.index_kills import Writer
from support.indexes import POST, Network
from support.kafka import wait_until

from pipelines.config import KafkaConfig
from pipelines.kafka.admin import apply, plan

pytestmark = pytest.mark.broker

PARTITIONS = 2
_README = Path(__file__).parents[2] / "README.md"


def test_the_example_of_an_index_prints_what_there_is_and_what_comes(
    kafka: str, topic_prefix: str, tmp_path: Path
) -> None:
    examples = re.findall(r"```python\n(.*?)```", _README.read_text(), re.DOTALL)
    [example] = (text for text in examples if "pipelines.consume" in text)
    config = KafkaConfig(kafka, topic_prefix)
    apply(plan(config, PARTITIONS))
    network = Network(config, PARTITIONS, 1, admitted=[POST])
    writer = Writer(config, network, 1)
    writer.write(60)
    output = tmp_path / "output"
    changed = example.replace('"127.0.0.1:9092"', f'"{kafka}", "{topic_prefix}"')
    assert changed != example
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", changed],
            stdout=file,
            stderr=file,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
    try:
        wait_until(lambda: "complete, apart from 0" in output.read_text(), "what there is")
        writer.write(60)
        for messages in network.finish():
            writer.commit(messages)
        expected = network.posts()
        wait_until(lambda: posts(output.read_text()) == expected, "what comes")
    finally:
        process.kill()
        process.wait()
    assert expected
    assert re.search(r"^account did:plc:\S+ (shown|hidden)$", output.read_text(), re.MULTILINE)


def posts(text: str) -> dict[str, str]:
    """Returns what is left of the posts that were printed, by address."""
    found: dict[str, str] = {}
    line = re.compile(r"^(put|delete) (\S+)(?:.*'text': '(.*)')?", re.MULTILINE)
    for kind, uri, written in line.findall(text):
        if kind == "put":
            found[uri] = written
        else:
            found.pop(uri, None)
    return found
