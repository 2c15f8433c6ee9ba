"""`standpipe quarantine` over a real topic, written as explode and the bridge write it."""

import json
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import free_port
from support.crawl import requests, wait_readable, write_repos
from support.frames import NOW_US
from support.kafka import read_committed
from support.pipeline import run_command
from support.recordings import load_recording

from pipelines.atproto.errors import Reason
from pipelines.atproto.frames import parse_envelope
from pipelines.atproto.meanings import MEANINGS
from pipelines.atproto.syntax import Tid
from pipelines.compact.events import Signed
from pipelines.compact.events import Source as SourceOfState
from pipelines.compact.state import Head, RepoState, Sync
from pipelines.config import KafkaConfig
from pipelines.explode.outputs import outputs_of
from pipelines.explode.service import output_topics
from pipelines.explode.sources import Source
from pipelines.kafka.admin import apply, plan
from pipelines.kafka.admitting import deployed
from pipelines.kafka.clients import create_producer
from pipelines.kafka.messages import InputMessage, OutputMessage
from pipelines.kafka.partition import partition_for
from pipelines.kafka.quarantine import quarantine_headers
from pipelines.repair.requests import Cause
from pipelines.verdict import Proven, Refused, judge_frame

pytestmark = pytest.mark.broker

PARTITIONS = 3
FIRST_MS = NOW_US // 1000
HOST = "relay.example"


class Filled(NamedTuple):
    """A quarantine and what was put into it."""

    config: KafkaConfig
    messages: Sequence[OutputMessage]


@pytest.fixture
def filled(kafka: str, topic_prefix: str, capture_folder: Path) -> Filled:
    config = KafkaConfig(kafka, topic_prefix)
    apply(plan(config, PARTITIONS))
    messages = [*_refused(config, capture_folder), _unreadable(config)]
    _write(config, messages, is_committed=False)
    _write(config, messages, is_committed=True)
    return Filled(config, messages)


def _refused(config: KafkaConfig, folder: Path) -> list[OutputMessage]:
    """What explode writes of the recording's refused frames, a second of arrival apart."""
    recording = load_recording(folder)
    topics = output_topics(config, *deployed(config))
    written: list[OutputMessage] = []
    for offset, frame in enumerate(recording.frames):
        received_us = (FIRST_MS + 1000 * len(written)) * 1000
        verdict = judge_frame(frame, recording.keys, received_us)
        if not isinstance(verdict, Refused):
            continue
        envelope = parse_envelope(frame)
        did = envelope.did or ""
        message = InputMessage(
            config.topic("frames"),
            partition_for(did, PARTITIONS),
            offset,
            received_us // 1000,
            did.encode(),
            frame,
            [
                ("host", HOST.encode()),
                ("seq", str(envelope.seq).encode()),
                ("kind", envelope.kind.encode()),
                ("received_us", str(received_us).encode()),
            ],
        )
        outputs = outputs_of(verdict, Source(HOST, received_us, message), topics)
        written += [output for output in outputs if output.topic == topics.quarantine]
    return written


def _iso(after_s: int) -> str:
    """Returns a time so long after the first message, as options have it."""
    return f"{datetime.fromtimestamp(FIRST_MS // 1000 + after_s, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _unreadable(config: KafkaConfig) -> OutputMessage:
    """What the bridge writes of a message that tries to draw on the reader's terminal."""
    return OutputMessage(
        config.topic("quarantine"),
        partition_for(HOST, PARTITIONS),
        HOST.encode(),
        b"\x1b[2Jnot CBOR",
        quarantine_headers(Reason.FRAME_NOT_CBOR, "bridge", "it begins with \x1b[2J\n"),
        FIRST_MS + 60_000,
    )


def _write(config: KafkaConfig, messages: Sequence[OutputMessage], *, is_committed: bool) -> None:
    producer = create_producer(config, f"{config.topic_prefix}.writer")
    producer.init_transactions(20)
    producer.begin_transaction()
    for message in messages:
        producer.produce(
            message.topic,
            message.value,
            message.key,
            message.partition,
            headers=list(message.headers),
            timestamp=message.timestamp_ms,
        )
    if is_committed:
        producer.commit_transaction(20)
    else:
        assert producer.flush(20) == 0
        producer.abort_transaction(20)


def _listed(config: KafkaConfig, *arguments: str) -> list[dict[str, Any]]:
    result = run_command(config, "quarantine", "list", "--jsonl", *arguments)
    assert result.returncode == 0, result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert f"{len(lines)} messages: " in result.stderr
    return lines


def test_everything_that_was_committed_is_listed_once(filled: Filled) -> None:
    lines = _listed(filled.config)
    stored = read_committed(filled.config, filled.config.topic("quarantine"))
    assert sorted((line["partition"], line["offset"]) for line in lines) == [
        (message.partition, message.offset) for message in stored
    ]
    assert Counter((line["account"], line["received_ms"]) for line in lines) == Counter(
        ((message.key or b"").decode(), message.timestamp_ms) for message in filled.messages
    )
    by_account = {line["account"]: line for line in lines}
    assert by_account[HOST]["origin"] is None
    assert by_account[HOST]["reason"] == Reason.FRAME_NOT_CBOR
    headers = dict(filled.messages[0].headers)
    [first] = (line for line in lines if line["received_ms"] == FIRST_MS)
    assert first["origin"] == {
        "topic": filled.config.topic("frames"),
        "partition": filled.messages[0].partition,
        "offset": int(headers["q.offset"]),
    }
    assert first["size_bytes"] == len(filled.messages[0].value or b"")


def test_lines_for_people_have_columns_and_no_control_characters(filled: Filled) -> None:
    result = run_command(filled.config, "quarantine", "list")
    lines = [line.split("\t") for line in result.stdout.splitlines()]
    assert len(lines) == len(filled.messages)
    assert {len(line) for line in lines} == {7}
    [unreadable] = (line for line in lines if line[4] == HOST)
    assert unreadable[1] == _iso(60).replace("Z", ".000Z")
    assert unreadable[5] == "socket"
    assert unreadable[6] == r"it begins with \x1b[2J\n"


def test_each_option_leaves_what_fits(filled: Filled) -> None:
    config, messages = filled
    reasons = Counter(dict(message.headers)["q.reason"].decode() for message in messages)
    assert len(reasons) > 2
    for reason, count in reasons.items():
        assert len(_listed(config, "--reason", reason)) == count
    commits = [reason for reason in reasons if reason.startswith("commit.")]
    assert len(_listed(config, "--reason", "commit")) == sum(reasons[name] for name in commits)
    first, second = list(reasons)[:2]
    both = _listed(config, "--reason", first, "--reason", second)
    assert len(both) == reasons[first] + reasons[second]

    did = (messages[0].key or b"").decode()
    of_did = [message for message in messages if message.key == did.encode()]
    assert 0 < len(of_did) < len(messages)
    assert len(_listed(config, "--did", did)) == len(of_did)

    times = [line["received_ms"] for line in _listed(config, "--since", _iso(2))]
    assert min(times) == FIRST_MS + 2000
    assert len(times) == len(messages) - 2
    assert len(_listed(config, "--until", _iso(2))) == 2
    assert _listed(config, "--since", _iso(80)) == []

    number = messages[0].partition
    here = _listed(config, "--partition", str(number))
    assert len(here) == sum(message.partition == number for message in messages)
    bounds = ["--from-offset", str(here[1]["offset"]), "--to-offset", str(here[2]["offset"])]
    assert _listed(config, "--partition", str(number), *bounds) == here[1:2]


def test_the_summary_counts_by_reason_and_says_what_it_means(filled: Filled) -> None:
    result = run_command(filled.config, "quarantine", "list", "--summary", "--jsonl")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert {line["reason"]: line["count"] for line in lines} == Counter(
        dict(message.headers)["q.reason"].decode() for message in filled.messages
    )
    meanings = {line["reason"]: line["meaning"] for line in lines}
    assert meanings["frame.not_cbor"] == "the websocket message is not two items of CBOR"
    text = run_command(filled.config, "quarantine", "list", "--summary").stdout
    assert "1\tframe.not_cbor\tthe websocket message is not two items of CBOR\n" in text


def test_a_message_of_somebody_else_is_named_and_passed_over(filled: Filled) -> None:
    message = OutputMessage(filled.config.topic("quarantine"), 0, b"x", b"y", [], FIRST_MS)
    _write(filled.config, [message], is_committed=True)
    result = run_command(filled.config, "quarantine", "list")
    assert len(result.stdout.splitlines()) == len(filled.messages)
    assert "not_a_quarantined_message" in result.stderr


def test_wrong_usage_says_what_is_right(filled: Filled) -> None:
    for arguments, said in (
        (["--reason", "mst.balance"], "mst.key_order"),
        (["--since", "yesterday"], "2026-01-31T12:00:00Z"),
        (["--from-offset", "3"], "--partition"),
        (["--partition", "3"], "3 partitions"),
    ):
        result = run_command(filled.config, "quarantine", "list", *arguments)
        assert result.returncode == 2
        assert said in result.stderr


def _place(config: KafkaConfig, message: OutputMessage) -> str:
    """Returns where a message that was written lies, as `list` names it."""
    [found] = (
        stored
        for stored in read_committed(config, message.topic)
        if (stored.partition, stored.value) == (message.partition, message.value)
    )
    return f"{found.partition}:{found.offset}"


def _identities(folder: Path) -> list[str]:
    return ["--identities", str(folder / "identities.jsonl")]


def test_a_message_is_shown_and_refused_again_for_the_same_reason(
    filled: Filled, capture_folder: Path
) -> None:
    config, messages = filled
    place = _place(config, messages[0])
    options = ["quarantine", "show", place, *_identities(capture_folder)]
    result = run_command(config, *options, "--json")
    assert result.returncode == 0, result.stderr
    shown = json.loads(result.stdout)
    headers = {name: value.decode() for name, value in messages[0].headers}
    refused, again = shown["sections"]["refused"], shown["sections"]["verified again"]
    assert refused["reason"] == headers["q.reason"]
    assert refused["meaning"] == MEANINGS[Reason(headers["q.reason"])]
    assert refused["source"] == ":".join(
        headers[name] for name in ("q.topic", "q.partition", "q.offset")
    )
    assert (again["verdict"], again["reason"]) == ("refused", headers["q.reason"])
    assert again["same_as_then"] == "yes"
    failed = [check for check in shown["checks"] if check["result"] == "failed"]
    assert [check["reason"] for check in failed] == [headers["q.reason"]]
    # The right key was looked up: these commits are authentic.
    assert "ok" in {check["result"] for check in shown["checks"] if "sign" in check["name"]}
    text = run_command(config, *options).stdout
    assert refused["source"] in text
    assert f"FAILED       {failed[0]['name']}" in text


def test_the_original_bytes_come_out(filled: Filled) -> None:
    unreadable = filled.messages[-1]
    place = _place(filled.config, unreadable)
    raw = run_command(filled.config, "quarantine", "show", place, "--raw")
    assert raw.returncode == 0
    assert raw.stdout.encode() == unreadable.value


def test_what_an_upstream_sent_does_not_reach_the_terminal(
    filled: Filled, capture_folder: Path
) -> None:
    place = _place(filled.config, filled.messages[-1])
    result = run_command(filled.config, "quarantine", "show", place, *_identities(capture_folder))
    assert result.returncode == 0
    assert r"it begins with \x1b[2J\n" in result.stdout
    assert "\x1b" not in result.stdout
    assert "the upstream's socket" in result.stdout


def test_what_is_right_today_is_said_to_be_right(filled: Filled, capture_folder: Path) -> None:
    """As if an earlier version, or a directory that lied, had refused it."""
    config = filled.config
    recording = load_recording(capture_folder)
    received_us = FIRST_MS * 1000
    frame = next(
        frame
        for frame in recording.frames
        if isinstance(judge_frame(frame, recording.keys, received_us), Proven)
    )
    did = parse_envelope(frame).did or ""
    headers = [
        ("received_us", b"%d" % received_us),
        *quarantine_headers(Reason.SIGNATURE_INVALID, "explode", "no key fits"),
    ]
    number = partition_for(did, PARTITIONS)
    message = OutputMessage(
        config.topic("quarantine"), number, did.encode(), frame, headers, FIRST_MS
    )
    _write(config, [message], is_committed=True)
    options = ["--json", *_identities(capture_folder)]
    result = run_command(config, "quarantine", "show", _place(config, message), *options)
    shown = json.loads(result.stdout)
    assert shown["sections"]["verified again"]["verdict"] == "verified"
    assert shown["sections"]["verified again"]["same_as_then"] == "no"
    assert shown["is_good"]


def test_a_key_that_nobody_can_tell_now_is_no_verdict(filled: Filled) -> None:
    place = _place(filled.config, filled.messages[0])
    options = ["--plc-url", f"http://127.0.0.1:{free_port()}", "--json"]
    result = run_command(filled.config, "quarantine", "show", place, *options)
    assert result.returncode == 1
    shown = json.loads(result.stdout)
    assert shown["sections"]["verified again"]["verdict"] == "not known now"


@pytest.mark.parametrize(
    ("place", "exit_code", "said"),
    [("0:999999", 1, "no message can be read"), ("17", 2, "is not like 3:17")],
)
def test_a_place_without_a_message_is_named(
    filled: Filled, place: str, exit_code: int, said: str
) -> None:
    result = run_command(filled.config, "quarantine", "show", place)
    assert result.returncode == exit_code
    assert said in result.stderr


def _redriven(config: KafkaConfig, *arguments: str) -> dict[str, Any]:
    wait_readable(config, "quarantine")
    result = run_command(config, "quarantine", "redrive", "--json", *arguments)
    assert result.returncode == 0, result.stderr
    summary: dict[str, Any] = json.loads(result.stdout)
    return summary


def test_a_redrive_asks_for_each_repository_that_lost_once(
    filled: Filled, capture_folder: Path
) -> None:
    """All but one of what the recording refused is authentic: its repositories are suspect."""
    config, identities = filled.config, _identities(capture_folder)
    recording = load_recording(capture_folder)
    suspects: dict[str, str] = {}
    for message in filled.messages[:-1]:
        verdict = judge_frame(message.value or b"", recording.keys, message.timestamp_ms * 1000)
        assert isinstance(verdict, Refused)
        if verdict.authentic is not None:
            commit = verdict.authentic.commit
            suspects[commit.did] = max(commit.rev, suspects.get(commit.did, ""))
    assert suspects
    dry = _redriven(config, "--dry-run", *identities)
    assert dry["requested"] == len(suspects)
    assert requests(config) == []
    summary = _redriven(config, *identities)
    assert summary == dry
    assert sum(sum(found.values()) for found in summary["reasons"].values()) == len(
        filled.messages
    )
    found = requests(config)
    assert {request.did: request.min_rev for request in found} == suspects
    assert len(found) == len(suspects)
    assert {request.cause for request in found} == {Cause.REDRIVE}
    # Once a repository is complete and as new, nothing is left to ask for.
    did = found[0].did
    head = Head(Signed(Tid(suspects[did]), "bafy", "bafy"), "")
    state = RepoState(
        did,
        SourceOfState(HOST, 1, None, 1, 0, 0),
        sync=Sync.SYNCHRONIZED,
        head=head,
        seen=head.signed,
    )
    write_repos(config, [state])
    assert _redriven(config, "--did", did, *identities)["here"] == 1
    assert len(requests(config)) == len(suspects)


def test_a_redrive_without_keys_says_that_it_does_not_know(filled: Filled) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    result = run_command(
        filled.config, "quarantine", "redrive", "--plc-url", url, "--reason", "commit"
    )
    assert result.returncode == 1, result.stderr
    assert "not known" in result.stdout
    assert requests(filled.config) == []
