"""`standpipe inspect` as a user meets it: from a file, standard input, a capture or Kafka."""

import json
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from conftest import free_port
from support import wire
from support.cli import standpipe
from support.exports import export
from support.kafka import create_topic
from support.oracle import cid_of, dag_cbor
from support.repo import OTHER_SIGNER, SIGNER, make_step, record

from pipelines.atproto.cid import encode_cid
from pipelines.atproto.syntax import parse_datetime
from pipelines.config import KafkaConfig

_STEP = make_step()
_REPO = export({f"com.example.note/{n:05}": record(f"note {n}") for n in range(30)})
_KEY = ("--key", SIGNER.key.did_key())


def _inspect(*arguments: str, **environment: str) -> tuple[int, dict[str, Any]]:
    result = standpipe("inspect", *arguments, "--json", **environment)
    assert result.stdout, result.stderr
    return result.returncode, json.loads(result.stdout)


def _failed(report: dict[str, Any]) -> list[str]:
    return [check["reason"] for check in report["checks"] if check["result"] == "failed"]


@pytest.fixture
def frame_file(tmp_path: Path) -> Path:
    path = tmp_path / "frame.bin"
    path.write_bytes(_STEP.frame())
    return path


@pytest.mark.parametrize("kind", ["frame", "car", "record", "tid", "cid", "key", "did"])
def test_help_teaches_by_example(kind: str) -> None:
    result = standpipe("inspect", kind, "--help")
    assert result.returncode == 0
    assert f"standpipe inspect {kind} " in result.stdout


def test_a_frame_as_text(frame_file: Path) -> None:
    result = standpipe("inspect", "frame", str(frame_file), *_KEY, "--records")
    assert result.returncode == 0, result.stdout + result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == f"commit frame of {len(_STEP.frame())} bytes"
    assert [line for line in lines if line and not line.startswith(" ")][1:] == [
        "message", "operations (3)", "commit", "tree", "records", "checks"
    ]  # fmt: skip
    results = [line[:13] for line in lines[lines.index("checks") + 1 :]]
    assert set(results) == {"  ok         "}
    assert '    {"text":"new","$type":"com.example.note"}' in lines


def test_a_wrong_key_is_an_exit_code_and_a_line(frame_file: Path) -> None:
    result = standpipe("inspect", "frame", str(frame_file), "--key", OTHER_SIGNER.key.did_key())
    assert result.returncode == 1
    assert "  FAILED       the signature is of the given key: signature.invalid: " in result.stdout


def test_a_frame_of_a_capture_by_its_number(tmp_path: Path) -> None:
    path = tmp_path / "two.frames"
    frames = (_STEP.sync_frame(), _STEP.frame())
    path.write_bytes(b"".join(len(frame).to_bytes(4) + frame for frame in frames))
    code, report = _inspect("frame", str(path), "--n", "1", *_KEY)
    assert (code, report["is_good"]) == (0, True)
    assert report["title"].startswith("commit frame")
    assert [check["result"] for check in report["checks"]] == ["ok"] * 15
    beyond = standpipe("inspect", "frame", str(path), "--n", "2")
    assert beyond.returncode == 2
    assert "has no frame 2" in beyond.stderr


def test_a_repository_from_standard_input() -> None:
    result = standpipe("inspect", "car", "-", *_KEY, "--tree-lines", "3", stdin=_REPO.car())
    assert result.returncode == 0, result.stderr
    text = result.stdout
    assert "  is_streamable        True" in text
    tree = text[text.index("\ntree\n") : text.index("\nchecks\n")].splitlines()[2:]
    assert len(tree) == 4
    assert tree[-1].endswith("lines more")
    torn = standpipe("inspect", "car", "-", stdin=_REPO.car()[:-1])
    assert torn.returncode == 1
    assert "car.truncated" in torn.stdout


def test_a_record_and_its_cid(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_text(json.dumps(record("hello")))
    code, report = _inspect("record", str(path))
    cid = encode_cid(cid_of(dag_cbor(record("hello"))))
    assert (code, report["records"][0]["cid"]) == (0, cid)
    assert report["records"][0]["record"] == record("hello")
    block = tmp_path / "record.cbor"
    block.write_bytes(dag_cbor(record("hello")))
    assert _inspect("cid", cid, "--block", str(block))[0] == 0
    code, report = _inspect("cid", cid, "--block", str(path))
    assert (code, _failed(report)) == (1, ["cid.hash_mismatch"])


def test_a_tid_and_a_key() -> None:
    code, report = _inspect("tid", "3lmxjza3nva27")
    assert (code, report["sections"]["what it says"]["clock_id"]) == (0, 5)
    code, report = _inspect("key", SIGNER.key.multikey())
    assert (code, report["sections"]["what it says"]["did_key"]) == (0, SIGNER.key.did_key())
    assert standpipe("inspect", "tid", "now").returncode == 1
    assert standpipe("inspect", "key", "z6Mk").returncode == 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("frame", "nowhere.bin"), "topic:partition:offset"),
        (("frame", "nowhere.frames", "--n", "0"), "nowhere.frames"),
        (("car", "."), "directory"),
        (("car", "-", "--key", "did:key:z6Mk"), "standpipe inspect key"),
        (("tid",), "Missing argument"),
    ],
    ids=["no-file", "no-capture", "a-folder", "no-key", "no-argument"],
)
def test_wrong_usage_exits_2_with_a_sentence(arguments: tuple[str, ...], complaint: str) -> None:
    result = standpipe("inspect", *arguments)
    assert result.returncode == 2
    assert complaint in result.stderr
    assert "Traceback" not in result.stderr


def test_a_broker_that_is_down_is_named() -> None:
    servers = f"127.0.0.1:{free_port()}"
    result = standpipe("inspect", "frame", "frames:0:1", STANDPIPE_BOOTSTRAP_SERVERS=servers)
    assert result.returncode == 1
    assert "no answer" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.broker
class TestKafka:
    @pytest.fixture
    def config(self, kafka: str, topic_prefix: str) -> KafkaConfig:
        return KafkaConfig(kafka, topic_prefix)

    @pytest.fixture
    def environment(self, config: KafkaConfig) -> dict[str, str]:
        """Transactions on `frames`: one aborted at 0, a frame at 2, a null at 4."""
        topic = create_topic(config, "frames", 1)
        producer = Producer(
            {
                "bootstrap.servers": config.bootstrap_servers,
                "transactional.id": config.transactional_id("test", "0"),
            }
        )
        producer.init_transactions(30)
        headers: list[tuple[str, str | bytes | None]] = [
            ("received_us", str(parse_datetime(wire.START_TIME)).encode())
        ]
        for value, is_committed in ((b"x", False), (_STEP.frame(), True), (None, True)):
            producer.begin_transaction()
            producer.produce(topic, value, b"a key", 0, headers=headers)
            assert producer.flush(30) == 0
            if is_committed:
                producer.commit_transaction(30)
            else:
                producer.abort_transaction(30)
        return {
            "STANDPIPE_BOOTSTRAP_SERVERS": config.bootstrap_servers,
            "STANDPIPE_TOPIC_PREFIX": config.topic_prefix,
        }

    def test_a_message_is_inspected_with_what_stands_beside_it(
        self, config: KafkaConfig, environment: dict[str, str]
    ) -> None:
        for topic in ("frames", config.topic("frames")):
            code, report = _inspect("frame", f"{topic}:0:2", *_KEY, **environment)
            assert (code, _failed(report)) == (0, [])
            beside = report["sections"]["Kafka message"]
            assert (beside["topic"], beside["offset"]) == (config.topic("frames"), 2)
            assert beside["key"] == "a key"
            assert beside["header received_us"] == str(parse_datetime(wire.START_TIME))

    @pytest.mark.parametrize(
        "where",
        ["frames:0:0", "frames:0:1", "frames:0:5", "frames:0:6", "frames:1:0", "nothing:0:0"],
        ids=["aborted", "mark", "last-mark", "not-written", "no-partition", "no-topic"],
    )
    def test_a_place_without_a_message_is_named_with_the_remedy(
        self, where: str, environment: dict[str, str]
    ) -> None:
        result = standpipe("inspect", "frame", where, **environment)
        assert result.returncode == 1
        assert where in result.stderr
        assert "neighbouring offset" in result.stderr

    def test_a_tombstone_is_told(self, environment: dict[str, str]) -> None:
        result = standpipe("inspect", "record", "frames:0:4", **environment)
        assert result.returncode == 1
        assert "frames:0:4 is a tombstone" in result.stderr
