"""The quick starts of README, run as they stand there over the pipeline that it starts."""

import json
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from conftest import free_port
from support.kafka import wait_until
from support.up import UpProcess, running_up

from pipelines.analytics.reading import read_minutes
from pipelines.config import KafkaConfig
from pipelines.kafka.reading import read_to_end

pytestmark = [pytest.mark.broker, pytest.mark.slow]

_README = Path(__file__).parents[2] / "README.md"
_PAGE = "http://127.0.0.1:8788/"


class Shell:
    """Runs lines of README in a folder, on another cluster and other topics than it names."""

    def __init__(self, kafka: KafkaConfig, folder: Path) -> None:
        self._cluster = (
            f"--bootstrap-servers {kafka.bootstrap_servers} --topic-prefix {kafka.topic_prefix}"
        )
        self.folder = folder
        self._environment = {
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "HOME": str(folder),
            "STANDPIPE_HOME": str(folder),
        }

    def start(self, line: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", "-c", f"exec {self.here(line)}"],
            cwd=self.folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, script: str) -> str:
        """Runs commands, of which each must succeed; returns what they print."""
        done = subprocess.run(
            ["bash", "-ec", self.here(script)],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def here(self, script: str) -> str:
        changed = script.replace("--topic-prefix sim", self._cluster)
        assert changed != script, f"no topics are named: {script}"
        return changed


def blocks() -> list[str]:
    """The commands of README's quick starts, block by block."""
    [section] = re.findall(
        r"^## Quick starts\n(.*?)^## ", _README.read_text(), re.MULTILINE | re.DOTALL
    )
    return re.findall(r"^```\n(.*?)^```", section, re.MULTILINE | re.DOTALL)


def test_each_kind_of_user_reaches_a_result(kafka: str, topic_prefix: str, tmp_path: Path) -> None:
    config = KafkaConfig(kafka, topic_prefix)
    start, page, lake, index, history = blocks()
    up = re.search(r"^standpipe up (.*)$", start, re.MULTILINE)
    assert up is not None
    shell = Shell(config, tmp_path)
    with running_up(config, tmp_path, *up[1].split()) as running:
        running.wait_for(lambda: len(posts_in(config)) >= 20, "some posts")
        running.wait_for(lambda: bool(read_minutes(config)), "the first minute")
        look_at(page, shell, running)

        table = shell.run(lake)
        assert "app.bsky.feed.like" in table
        assert list(tmp_path.glob("lake/collection=*/date=*/*.parquet"))

        following, searching, auditing = index.splitlines()
        shell.run(following)
        found = shell.run(f"{searching} # --topic-prefix sim")
        assert re.search(r"at://did:plc:\w+/app\.bsky\.feed\.post/\w+", found)
        audited = shell.run(auditing)
        assert audited.count("matches") == 10

        replaying, proven, inspecting = history.splitlines()
        shell.run(replaying)
        assert (tmp_path / "network.frames").stat().st_size > 100_000
        assert json.loads(shell.run(proven))["value"]["kind"] in {
            "commit",
            "account",
            "identity",
            "sync",
        }
        assert "signature" in shell.run(f"{inspecting} # --topic-prefix sim")

        running.interrupt()
        assert running.wait() == 0, running.output


def look_at(line: str, shell: Shell, up: UpProcess) -> None:
    """Opens the page that a command serves, as soon as it answers."""
    port = free_port()
    page = shell.start(f"{line.strip()} --listen {port}")
    try:
        wait_until(lambda: page.poll() is not None or answer(port) is not None, "the page")
        text = answer(port)
        assert text is not None, page.communicate()[0]
        assert "<title>" in text
        assert up.process.poll() is None
    finally:
        page.terminate()
        page.communicate(timeout=60)
    assert page.returncode == 0


def answer(port: int) -> str | None:
    try:
        with urllib.request.urlopen(_PAGE.replace("8788", str(port)), timeout=20) as response:
            return str(response.read(), "utf-8")
    except OSError:
        return None


def posts_in(config: KafkaConfig) -> list[bytes]:
    topic = config.topic("latest.app.bsky.feed.post")
    return [message.value for message in read_to_end(config, [topic]) if message.value]
