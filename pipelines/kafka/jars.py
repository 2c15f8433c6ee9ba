"""Apache Kafka's jars and the two programs around them: Java runs them, Maven fetches them.

`deploy/kafka/pom.xml` names the jars. They lie in a folder named after that file's hash, and the
folder appears by a rename once everything in it is whole: one that exists is complete, and a new
version of the pom never changes jars under a running broker.
"""

import hashlib
import importlib.resources
import itertools
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pipelines.config import state_directory
from pipelines.errors import BrokerUnavailableError, ConfigError
from pipelines.kafka.locks import exclusive

_MINIMUM_JAVA = 17  # what Kafka 4's broker is compiled for
_JAVA_TIMEOUT_S = 30.0
_MAVEN_TIMEOUT_S = 900.0  # 55 MB over a slow line; a dead one fails earlier, inside Maven
_MAVEN_LINES_SHOWN = 5
_PART_PREFIX = "part-"

Announce = Callable[[str], object]
"""Tells a person what takes long now: called with one sentence without its full stop."""


def ignore(_sentence: str) -> None:
    """Announces nothing."""


def find_java() -> str:
    """Returns the path of a `java` that can run the broker.

    Raises:
        ConfigError: there is none in PATH, or it is older than Java 17.
    """
    remedy = (
        f"install Java {_MINIMUM_JAVA} or newer (Debian: apt-get install "
        "openjdk-17-jre-headless), or use another cluster with --bootstrap-servers"
    )
    java = shutil.which("java")
    if java is None:
        raise ConfigError(f"Kafka needs Java and there is no 'java' in PATH: {remedy}")
    try:
        answer = subprocess.run(  # noqa: S603 - the program PATH names, fixed arguments
            [java, "-version"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_JAVA_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise ConfigError(f"'{java} -version' fails ({error}): {remedy}") from None
    version = parse_java_version(answer.stderr)
    if version is None or version < _MINIMUM_JAVA:
        found = "of an unknown version" if version is None else f"version {version}"
        raise ConfigError(f"{java} is {found}: {remedy}")
    return java


def parse_java_version(text: str) -> int | None:
    """Returns the feature release (8, 17, 21, …) in what `java -version` prints, or None."""
    # Up to Java 8 the release is the second number: "1.8.0_392".
    match = re.search(r'version "(?:1\.)?(\d+)', text)
    return int(match[1]) if match else None


@dataclass(frozen=True, slots=True)
class KafkaJars:
    """Kafka's jars on this machine; brokers share them.

    Attributes:
        root: folder that holds one folder for each version of the pom.
    """

    root: Path

    @classmethod
    def default(cls) -> Self:
        """Returns the jars that all brokers of the state directory share."""
        return cls(state_directory() / "kafka" / "libs")

    @property
    def folder(self) -> Path:
        """Where the jars lie, or will lie."""
        return self.root / hashlib.sha256(_pom()).hexdigest()[:16]

    @property
    def are_here(self) -> bool:
        """Whether the jars are here already, all of them."""
        return self.folder.is_dir()

    @property
    def classpath(self) -> str:
        """Java's `-cp` argument.

        Raises:
            ConfigError: Java cannot be told about a folder with this name.
        """
        if ":" in str(self.folder):
            raise ConfigError(
                f"Java cannot load jars from {self.folder} because its name has a ':': "
                "choose another folder with STANDPIPE_HOME"
            )
        return f"{self.folder}/*"

    def fetch(self, *, timeout_s: float = _MAVEN_TIMEOUT_S, announce: Announce = ignore) -> None:
        """Has Maven copy the jars here, unless they are here already.

        Two processes may call it at once: one works, the other waits.

        Args:
            timeout_s: for the download, and for waiting on another process that does it.
            announce: called before a download, with a sentence for people.

        Raises:
            ConfigError: there is no Java or no Maven, or the folder cannot be written.
            BrokerUnavailableError: Maven failed, or took too long.
        """
        if self.are_here:
            return
        find_java()  # Maven runs on it, too, but names it badly
        maven = _find_maven()
        announce(f"Fetching Apache Kafka through Maven (55 MB, once) into {self.folder}")
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            lock_file = self.root / "fetch.lock"
            with exclusive(lock_file, purpose="fetches Kafka's jars", timeout_s=timeout_s):
                self._fetch_alone(maven, timeout_s)
        except OSError as error:
            raise ConfigError(
                f"cannot keep Kafka's jars in {self.root}: {error}; another folder is named with "
                "STANDPIPE_HOME"
            ) from None

    def _fetch_alone(self, maven: str, timeout_s: float) -> None:
        if self.are_here:  # another process fetched them while we waited
            return
        for left_behind in self.root.glob(f"{_PART_PREFIX}*"):  # by a killed download
            shutil.rmtree(left_behind)
        with tempfile.TemporaryDirectory(prefix=_PART_PREFIX, dir=self.root) as part:
            jars = Path(part) / "jars"
            _run_maven(maven, workspace=Path(part), target=jars, timeout_s=timeout_s)
            jars.rename(self.folder)


def _find_maven() -> str:
    maven = shutil.which("mvn")
    if maven is None:
        raise ConfigError(
            "Kafka's jars come through Maven and there is no 'mvn' in PATH: install it (Debian: "
            "apt-get install maven), or use another cluster with --bootstrap-servers"
        )
    return maven


def _pom() -> bytes:
    return importlib.resources.files("pipelines").joinpath("_deploy/kafka/pom.xml").read_bytes()


def _run_maven(maven: str, *, workspace: Path, target: Path, timeout_s: float) -> None:
    pom = workspace / "pom.xml"
    pom.write_bytes(_pom())
    command = [
        maven,
        "--batch-mode",
        "--no-transfer-progress",
        f"--file={pom}",
        # By its full name: looking a prefix up hides why the registry could not be reached.
        "org.apache.maven.plugins:maven-dependency-plugin:copy-dependencies",
        "-DincludeScope=runtime",
        f"-DoutputDirectory={target}",
    ]
    try:
        run = subprocess.run(  # noqa: S603 - the program PATH names, arguments of our own
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise BrokerUnavailableError(
            f"Maven has not fetched Kafka's jars within {timeout_s:g} s: check that its registry "
            "can be reached, then try again"
        ) from None
    if run.returncode != 0:
        raise BrokerUnavailableError(
            "Maven could not fetch Kafka's jars: check that its registry can be reached, then "
            f"try again; it said:\n{_last_words(run.stdout)}"
        )


def _last_words(output: str) -> str:
    lines = [line.removeprefix("[ERROR]").strip() for line in output.splitlines()]
    is_error = [line.startswith("[ERROR]") for line in output.splitlines()]
    # What happened stands in the first errors; after an empty one there is only advice.
    errors = list(itertools.takewhile(bool, itertools.compress(lines, is_error)))
    chosen = errors or [line for line in lines if line]
    return "\n".join(f"  {line}" for line in chosen[-_MAVEN_LINES_SHOWN:])
