"""The files in deploy/: the local broker and the compose file are the same Kafka."""

import re
import string
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import yaml

_DEPLOY = Path(__file__).parents[2] / "deploy"
# Where a container must differ from a process.
_DIFFERENT = {"listeners", "log.dirs"}
_IMAGE_ITSELF = {"KAFKA_HEAP_OPTS"}


@pytest.fixture
def service() -> dict[str, Any]:
    compose = yaml.safe_load((_DEPLOY / "compose.yaml").read_text())
    service: dict[str, Any] = compose["services"]["kafka"]
    return service


@pytest.fixture
def local() -> dict[str, str]:
    template = string.Template((_DEPLOY / "kafka" / "server.properties").read_text())
    text = template.substitute(port=9092, controller_port=9093)
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def _container(service: dict[str, Any]) -> dict[str, str]:
    """The properties that the image makes of its environment."""
    return {
        name.removeprefix("KAFKA_").lower().replace("_", "."): value
        for name, value in service["environment"].items()
        if name.startswith("KAFKA_") and name not in _IMAGE_ITSELF
    }


def test_compose_file_says_what_the_local_broker_says(
    service: dict[str, Any], local: dict[str, str]
) -> None:
    container = _container(service)
    assert container.keys() == local.keys()
    assert {name for name in local if container[name] != local[name]} == _DIFFERENT


def test_both_are_reachable_from_this_machine_only(
    service: dict[str, Any], local: dict[str, str]
) -> None:
    assert re.findall(r"//([^:]*):", local["listeners"]) == ["127.0.0.1", "127.0.0.1"]
    assert service["ports"] == ["127.0.0.1:9092:9092"]
    assert local["advertised.listeners"] == "BROKER://127.0.0.1:9092"


def test_both_take_a_quarantined_websocket_message_of_16_mb(local: dict[str, str]) -> None:
    assert int(local["message.max.bytes"]) == 17 * 1024 * 1024
    assert local["replica.fetch.max.bytes"] == local["message.max.bytes"]


def test_both_run_the_same_kafka(service: dict[str, Any]) -> None:
    pom = ET.parse(_DEPLOY / "kafka" / "pom.xml")
    version = pom.findtext("{*}properties/{*}kafka.version")
    assert service["image"] == f"apache/kafka:{version}"


def test_data_of_the_container_is_in_a_volume(service: dict[str, Any]) -> None:
    (volume,) = service["volumes"]
    assert volume.partition(":")[2] == service["environment"]["KAFKA_LOG_DIRS"]


def test_container_is_healthy_when_its_broker_answers(service: dict[str, Any]) -> None:
    test = service["healthcheck"]["test"]
    assert test[1].endswith("/kafka-broker-api-versions.sh")
    assert test[-1] == "127.0.0.1:9092"


def test_every_jar_and_plugin_has_an_exact_version() -> None:
    pom = ET.parse(_DEPLOY / "kafka" / "pom.xml")
    properties = {
        item.tag.rpartition("}")[2]: item.text for item in pom.find("{*}properties") or []
    }
    versions = [
        re.sub(
            r"\$\{(.*)\}", lambda match: str(properties[match[1]]), item.findtext("{*}version", "")
        )
        for item in [*pom.iterfind(".//{*}dependency"), *pom.iterfind(".//{*}plugin")]
    ]
    assert len(versions) == 5
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in versions), versions
