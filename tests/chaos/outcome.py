"""What a round has shown: the topics, read by a foreign client, against what really happened."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cbrrr
from chaos.faults import Kind, Struck, counts
from chaos.merged import Stored, merge, never_sent, orders, outside_epochs, union
from chaos.relay import Relay, RelayedNetwork, said
from chaos.round import PARTITIONS
from support.foreign import read_foreign
from support.judge import (
    Comparison,
    Read,
    Record,
    compare,
    compare_events,
    expected_records,
    records_in_kafka,
    still_parked,
)
from support.kafka import read_cursor
from support.latest import Latest, read_latest, wrong_repos
from support.pipeline import run_command
from support.transactions import ENDED, Note, read_notes

from pipelines.atproto.cid import cid_of, encode_cid
from pipelines.bridge.gaps import GapReason
from pipelines.config import KafkaConfig
from pipelines.identity.offline import OfflineKeys
from pipelines.kafka.messages import InputMessage
from pipelines.kafka.reading import log_ends
from pipelines.kafka.topics import registry

_SIGNED = ("commit", "sync")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a round has shown.

    Attributes:
        struck: the faults that were made.
        counted: of which kinds those are that count.
        comparisons: what was compared.
        repeats_count: frames that are there again with a reason (`chaos.merged`).
        restarts_count: how often a stage ended by itself.
    """

    struck: Sequence[Struck]
    counted: Sequence[Kind]
    comparisons: Sequence[Comparison]
    repeats_count: int
    restarts_count: int

    @property
    def wrong(self) -> list[Comparison]:
        return [comparison for comparison in self.comparisons if not comparison.is_equal]


def judge(
    config: KafkaConfig,
    network: RelayedNetwork,
    folder: Path,
    capture: Path,
    struck: Sequence[Struck],
    restarts_count: int,
    hosts: Sequence[str],
) -> Outcome:
    """Compares what the topics hold with what happened.

    Args:
        config: the cluster; every stage has stopped.
        network: what happened.
        folder: holds the simulator's own log.
        capture: the captured network.
        struck: the faults that were made.
        restarts_count: how often a stage ended by itself.
        hosts: names of the relays, in their order.
    """
    relays = dict(zip(hosts, network.relays, strict=True))
    lost = set.intersection(*(relay.lost for relay in network.relays))
    happened = [json.loads(line) for line in (folder / "truth.jsonl").read_bytes().splitlines()]
    sent = [event for number, event in enumerate(happened) if number not in lost]
    keys = OfflineKeys.load(capture / "identities.jsonl")
    captured = expected_records(network.passed_captured(), keys)
    notes = read_notes(config)
    latest = read_latest(config)
    lost_of = {happened[number]["did"] for number in lost}
    stored = _stored(config)
    merged = merge(stored)
    union_ = union(network.relays)

    topics: dict[str, Sequence[InputMessage]] = {}

    def read(config: KafkaConfig, topic: str) -> Sequence[InputMessage]:
        """Reads a topic once."""
        if topic not in topics:
            topics[topic] = read_foreign(config, topic)
        return topics[topic]

    def read_new(config: KafkaConfig, topic: str) -> Sequence[InputMessage]:
        """Reads what was made of frames that are not there again with a reason."""
        found = read(config, topic)
        return [message for message in found if _frame_of(message) not in merged.repeats]

    records = records_in_kafka(config, read_new)
    comparisons = [
        compare("frames", union_, merged.events),
        compare("orders of accounts", orders(union_), orders(one.event for one in stored)),
        compare("frames that no relay has sent", [], never_sent(stored, _sent_by(relays))),
        compare(
            "frames outside of their epochs", [], outside_epochs(stored, _json(config, "epochs"))
        ),
        compare("gaps", _jumps(relays), _gaps(config)),
        *compare_events(config, ((one.partition, one.offset) for one in stored), read),
        compare("events of the simulator's log", _said(sent), _events(config, sent, read_new)),
        compare(
            "records of the simulator's log, and proven ones of the capture",
            Counter(_records(sent)) + Counter(record[:4] for record in captured.elements()),
            Counter(record[:4] for record in records.elements()),
        ),
        compare("records with other bytes than those of their CID", [], _forged(records)),
        compare(
            "cursors",
            [(host, relay.last_seq) for host, relay in relays.items()],
            [(host, read_cursor(config, host)) for host in relays],
        ),
        compare(
            "unreadable messages that nobody sent", [], _unreadable(config, network).elements()
        ),
        compare("frames that are still parked", [], still_parked(config)),
        compare("transactions that are still open", [], _open(notes)),
        compare("partitions with something open", [], _unreadable_partitions(config)),
        compare(
            "accounts with another state than the true one", [], _wrong(latest, network, lost_of)
        ),
        compare("accounts with a state that is claimed", [], _claimed(latest, sent, lost_of)),
        compare("audits that failed", [], _audit(config)),
    ]
    counted = [fault.kind for fault in struck if counts(fault, notes)]
    return Outcome(struck, counted, comparisons, len(merged.repeats), restarts_count)


def _stored(config: KafkaConfig) -> list[Stored]:
    stored = []
    for message in read_foreign(config, config.topic("frames")):
        headers = dict(message.headers)
        where = (message.partition, message.offset)
        source = (headers["host"].decode(), int(headers["seq"]))
        frame = message.value or b""
        stored.append(Stored(*where, *source, frame, said(frame)))
    return stored


def _sent_by(relays: Mapping[str, Relay]) -> dict[str, Sequence[bytes]]:
    return {host: relay.sent for host, relay in relays.items()}


def _json(config: KafkaConfig, topic: str) -> list[dict[str, Any]]:
    return [json.loads(m.value or b"") for m in read_foreign(config, config.topic(topic))]


def _jumps(relays: Mapping[str, Relay]) -> Iterator[tuple[str, str, int, int]]:
    for host, relay in relays.items():
        for before, after in relay.jumps:
            yield host, GapReason.JUMP, before, after


def _gaps(config: KafkaConfig) -> Iterator[tuple[str, str, int, int]]:
    for gap in _json(config, "gaps"):
        yield gap["host"], gap["reason"], gap["from_seq"], gap["to_seq"]


def _frame_of(message: InputMessage) -> tuple[int, int]:
    value = json.loads(message.value or b"")
    return value["frame_partition"], value["frame_offset"]


def _event(event: Mapping[str, Any]) -> tuple[str, str, str | None, str | None]:
    is_signed = event["kind"] in _SIGNED
    rev, commit = (event["rev"], event["commit_cid"]) if is_signed else (None, None)
    return event["did"], event["kind"], rev, commit


def _said(
    sent: Iterable[Mapping[str, Any]],
) -> Iterator[tuple[str, str, str | None, str | None]]:
    """Yields what events say, of a sync only what none before it has said."""
    syncs = set()
    for event in map(_event, sent):
        if event[1] != "sync" or event not in syncs:
            yield event
        if event[1] == "sync":
            syncs.add(event)


def _events(
    config: KafkaConfig, sent: Sequence[Mapping[str, Any]], read: Read
) -> Iterator[tuple[str, str, str | None, str | None]]:
    dids = {event["did"] for event in sent}
    for message in read(config, config.topic("events")):
        event = json.loads(message.value or b"")
        if event["did"] in dids:
            yield event["did"], event["kind"], event.get("rev"), event.get("commit")


def _records(sent: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str, str, str | None]]:
    for event in sent:
        for op in event["ops"]:
            yield f"at://{event['did']}/{op['path']}", event["rev"], op["action"], op["cid"]


def _forged(records: Iterable[Record]) -> Iterator[str]:
    for uri, _, _, cid, body in records:
        if cid is not None and body.startswith("{"):  # else it is why there is no JSON
            block = cbrrr.encode_dag_cbor(json.loads(body), atjson_mode=True)
            if encode_cid(cid_of(block)) != cid:
                yield uri


def _unreadable(config: KafkaConfig, network: RelayedNetwork) -> Counter[bytes]:
    found = Counter(
        message.value or b""
        for message in read_foreign(config, config.topic("quarantine"))
        if dict(message.headers)["q.stage"] == b"bridge"
    )
    return found - Counter(part for relay in network.relays for part in relay.cut_off)


def _open(notes: Sequence[Note]) -> list[str]:
    last = {note.transactional_id: note.status for note in notes}
    return [name for name, status in last.items() if status not in ENDED]


def _unreadable_partitions(config: KafkaConfig) -> list[str]:
    where = [
        (config.topic(name), number)
        for spec in registry().specs.values()
        for name in spec.topics
        for number in range(spec.partitions or PARTITIONS)
    ]
    ends = log_ends(config, where)
    readable = log_ends(config, where, is_readable=True)
    return [" ".join(map(str, place)) for place in where if readable[place] != ends[place]]


def _wrong(latest: Latest, network: RelayedNetwork, lost_of: set[str]) -> list[str]:
    accounts = network.generated.known.accounts()
    whole = {did: account for did, account in accounts.items() if did not in lost_of}
    return [f"{did}: {why}" for did, why in wrong_repos(latest, whole).items()]


def _claimed(
    latest: Latest, sent: Sequence[Mapping[str, Any]], lost_of: set[str]
) -> Iterator[str]:
    """Returns accounts that are called synchronized although they have not what was sent last."""
    last: dict[str, Mapping[str, Any]] = defaultdict(dict)
    for event in sent:
        if event["kind"] in _SIGNED:
            last[event["did"]] = event
    for did in lost_of:
        repo = latest.repos.get(did)
        if repo is not None and repo["sync"] == "synchronized":
            names = (("rev", "rev"), ("commit", "commit_cid"), ("data", "data_cid"))
            if any(repo[ours] != last[did].get(theirs) for ours, theirs in names):
                yield did


def _audit(config: KafkaConfig) -> list[str]:
    audit = run_command(config, "audit", "--all", "--quiet")
    return [] if audit.returncode == 0 else [audit.stdout + audit.stderr]
