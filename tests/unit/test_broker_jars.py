"""Java and Maven around the local broker, with stand-ins for both programs."""

import threading
from pathlib import Path

import pytest

from pipelines.errors import BrokerUnavailableError, ConfigError
from pipelines.kafka import jars
from pipelines.kafka.jars import KafkaJars, find_java, parse_java_version

_JAVA_17 = """echo 'openjdk version "17.0.15" 2025-04-15' >&2"""
# The last argument of the call names the folder to fill.
_MAVEN = """
for argument; do target=${argument#-DoutputDirectory=}; done
echo fetched >>"$(dirname "$0")/calls"
/bin/mkdir "$target" && : >"$target/kafka.jar"
"""
_BROKEN_MAVEN = """
echo '[INFO] Scanning for projects...'
echo '[ERROR] Failed to execute goal: Could not transfer artifact kafka_2.13 from a registry'
echo '[ERROR] '
echo '[ERROR] Re-run Maven using the -X switch'
exit 1
"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of PATH, with a Java 17 in it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    _put(folder / "java", _JAVA_17)
    (folder / "dirname").symlink_to("/usr/bin/dirname")
    return folder


def _put(program: Path, script: str) -> None:
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('java version "1.8.0_392"', 8),
        ('openjdk version "25" 2025-09-16', 25),
        ('openjdk version "26-ea" 2026-03-17', 26),
        ('Picked up JAVA_TOOL_OPTIONS: -Xmx1g\nopenjdk version "21.0.1"', 21),
        ("The operation couldn't be completed. Unable to locate a Java Runtime.", None),
        ("", None),
    ],
)
def test_java_version_is_read_from_what_java_prints(text: str, version: int | None) -> None:
    assert parse_java_version(text) == version


def test_java_17_is_found(programs: Path) -> None:
    assert find_java() == str(programs / "java")


def test_missing_java_is_named_with_its_package(programs: Path) -> None:
    (programs / "java").unlink()
    with pytest.raises(ConfigError, match=r"no 'java' in PATH.*openjdk-17-jre-headless"):
        find_java()


@pytest.mark.parametrize("version", ["11.0.2", "1.8.0_392"])
def test_old_java_is_named_with_its_version(programs: Path, version: str) -> None:
    _put(programs / "java", f"""echo 'openjdk version "{version}"' >&2""")
    with pytest.raises(ConfigError, match=r"java is version (11|8): .*openjdk-17-jre-headless"):
        find_java()


def test_java_that_does_not_run_is_an_error_with_a_remedy(programs: Path) -> None:
    _put(programs / "java", "exit 3")
    with pytest.raises(ConfigError, match=r"exit status 3.*openjdk-17-jre-headless"):
        find_java()


def test_missing_maven_is_named_with_its_package(programs: Path, tmp_path: Path) -> None:
    assert not (programs / "mvn").exists()
    with pytest.raises(ConfigError, match=r"no 'mvn' in PATH.*apt-get install maven"):
        KafkaJars(tmp_path / "libs").fetch()


def test_fetch_needs_java_before_maven(programs: Path, tmp_path: Path) -> None:
    (programs / "java").unlink()
    with pytest.raises(ConfigError, match=r"no 'java' in PATH"):
        KafkaJars(tmp_path / "libs").fetch()


def test_jars_are_fetched_once_and_announced(programs: Path, tmp_path: Path) -> None:
    _put(programs / "mvn", _MAVEN)
    kafka = KafkaJars(tmp_path / "libs")
    announced: list[str] = []
    assert not kafka.are_here

    kafka.fetch(announce=announced.append)
    kafka.fetch(announce=announced.append)

    assert [file.name for file in kafka.folder.iterdir()] == ["kafka.jar"]
    assert (programs / "calls").read_text().count("fetched") == 1
    assert len(announced) == 1
    assert str(kafka.folder) in announced[0]


def test_failed_download_shows_why_and_is_never_taken_as_whole(
    programs: Path, tmp_path: Path
) -> None:
    _put(programs / "mvn", _MAVEN + _BROKEN_MAVEN)  # leaves a jar behind, then fails
    kafka = KafkaJars(tmp_path / "libs")
    with pytest.raises(BrokerUnavailableError) as caught:
        kafka.fetch()
    assert "Could not transfer artifact kafka_2.13" in str(caught.value)
    assert "Re-run Maven" not in str(caught.value)
    assert not kafka.are_here

    _put(programs / "mvn", _MAVEN)
    kafka.fetch()
    assert kafka.are_here


def test_download_that_was_killed_is_swept_up_by_the_next(programs: Path, tmp_path: Path) -> None:
    _put(programs / "mvn", _MAVEN)
    kafka = KafkaJars(tmp_path / "libs")
    (kafka.root / "part-killed" / "jars").mkdir(parents=True)
    kafka.fetch()
    assert sorted(file.name for file in kafka.root.iterdir() if file.is_dir()) == [
        kafka.folder.name
    ]


def test_maven_that_hangs_is_given_up(programs: Path, tmp_path: Path) -> None:
    _put(programs / "mvn", "exec /bin/sleep 60")
    with pytest.raises(BrokerUnavailableError, match=r"within 0\.2 s"):
        KafkaJars(tmp_path / "libs").fetch(timeout_s=0.2)


def test_two_that_fetch_at_once_cause_one_download(programs: Path, tmp_path: Path) -> None:
    _put(programs / "mvn", _MAVEN)
    both_are_ready = threading.Barrier(2)

    def fetch() -> None:
        both_are_ready.wait(timeout=10)
        KafkaJars(tmp_path / "libs").fetch(timeout_s=10)

    threads = [threading.Thread(target=fetch) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (programs / "calls").read_text().count("fetched") == 1


def test_another_pom_means_another_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = KafkaJars(tmp_path).folder
    monkeypatch.setattr(jars, "_pom", lambda: b"<project/>")
    assert KafkaJars(tmp_path).folder != before


def test_folder_that_java_cannot_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"':'.*STANDPIPE_HOME"):
        _ = KafkaJars(tmp_path / "a:b").classpath


def test_folder_that_cannot_be_made_is_refused_with_a_remedy(
    programs: Path, tmp_path: Path
) -> None:
    _put(programs / "mvn", _MAVEN)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"Not a directory.*STANDPIPE_HOME"):
        KafkaJars(tmp_path / "file" / "libs").fetch()
