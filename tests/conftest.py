"""What every test may use: the shared data folder, and a real Kafka broker."""

import os
import random
import socket
import uuid
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from support.kafka import delete_deployment
from support.pipeline import forget_ended, last_words
from support.shared import shared_folder

from pipelines.config import KafkaConfig
from pipelines.kafka import broker

_ROOT = Path(__file__).parent.parent
_GIVEN_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")
_FIRST_PORT = 10_000


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begins with the files that have slow tests, or testers wait for one that began late.

    Comes after pytest-randomly: within the two halves the order is still random.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow") is not None}
    items.sort(key=lambda item: item.path not in slow)


def pytest_runtest_setup() -> None:
    """Each failure shows the logs of its own stages."""
    forget_ended()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Adds to the report of a failure what the stages said, wherever they were started."""
    report = yield
    if report.failed:
        report.sections += last_words()
    return report


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with recorded frames and published vectors.

    Without it the tests that need it are skipped with the reason; under CI=true they fail.
    """
    folder = shared_folder()
    if folder.is_dir():
        return folder
    missing = f"no shared data at {folder}: set STANDPIPE_DATA to the folder that holds it"
    if os.environ.get("CI") == "true":
        pytest.fail(missing)
    pytest.skip(missing)


@pytest.fixture(scope="session")
def capture_folder() -> Path:
    """The small capture that is part of the project."""
    return _ROOT / "tests" / "data" / "capture"


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The bootstrap servers of a real broker: the one named by BOOTSTRAP, else our own."""
    if named := os.environ.get("BOOTSTRAP"):
        yield named
        return
    local = broker.LocalBroker(
        directory=tmp_path_factory.mktemp("kafka"),
        port=free_port(),
        controller_port=free_port(),
    )
    try:
        local.start()
        yield local.bootstrap_servers
    finally:
        local.stop()


@pytest.fixture
def topic_prefix(request: pytest.FixtureRequest) -> Iterator[str]:
    """A prefix for topics, groups and transactional ids that no other test uses.

    Its topics end with the test: those of all tests together would slow the broker down.
    """
    prefix = f"test-{uuid.uuid4().hex[:12]}"
    servers = request.getfixturevalue("kafka") if "kafka" in request.fixturenames else None
    yield prefix
    if servers is not None:
        delete_deployment(KafkaConfig(servers, prefix))


def free_port() -> int:
    """Returns a TCP port on loopback that nothing listens on now.

    None of those that the kernel gives to connections: while a broker is away, whoever tries to
    reach it could get its port, and even be connected to itself.
    """
    first_given = int(_GIVEN_PORTS.read_text().split()[0])
    while True:
        port = random.SystemRandom().randrange(_FIRST_PORT, first_given)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
