"""`standpipe audit` over real topics, filled without stages."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner, Result
from support.kafka import delete_before, read_committed
from support.reduced import HOST, Reduced, reduce_recording, write_messages
from support.repo import DID, SIGNER
from support.snapshots import HOST as SERVER
from support.snapshots import fetched

from pipelines.atproto.frames import Action
from pipelines.atproto.keys import VerifyingKey
from pipelines.atproto.syntax import parse_path
from pipelines.cli.audit import command
from pipelines.compact import servers
from pipelines.compact.events import EventOp
from pipelines.compact.outputs import record_messages
from pipelines.compact.provenance import parse_latest
from pipelines.compact.service import output_topics
from pipelines.compact.state import RepoState
from pipelines.config import KafkaConfig
from pipelines.kafka.admin import apply, plan
from pipelines.kafka.admitting import deployed
from pipelines.kafka.partition import partition_for
from pipelines.repair.chunks import chunk_message
from pipelines.repair.manifests import manifest_message
from pipelines.repair.requests import Cause, parse_request
from pipelines.sim.network import load_network
from pipelines.sim.service import SimServer

pytestmark = pytest.mark.broker

PARTITIONS = 2


class Filled(NamedTuple):
    """Topics, what is in them, and the keys of the accounts."""

    config: KafkaConfig
    reduced: Reduced
    identities: Path

    def run(self, *arguments: str) -> Result:
        """Runs `standpipe audit`, without a process for each."""
        cluster = ["--bootstrap-servers", self.config.bootstrap_servers]
        prefix = ["--topic-prefix", self.config.topic_prefix]
        return CliRunner().invoke(
            command, [*arguments, *cluster, *prefix], standalone_mode=False, catch_exceptions=False
        )

    def audit_record(self, uri: str) -> tuple[int, dict[str, Any]]:
        """Returns exit code and JSON of the audit of a record."""
        result = self.run(uri, "--json", "--identities", str(self.identities))
        return result.return_value, json.loads(result.stdout)


@pytest.fixture
def filled(kafka: str, topic_prefix: str, capture_folder: Path) -> Filled:
    config = KafkaConfig(kafka, topic_prefix)
    apply(plan(config, PARTITIONS))
    reduced = reduce_recording(capture_folder, config, PARTITIONS)
    write_messages(config, [*reduced.frames, *reduced.outputs])
    return Filled(config, reduced, capture_folder / "identities.jsonl")


def test_repositories_are_compared_with_their_servers_and_asked_for_again(
    filled: Filled, capture_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "ARRIVAL_PAUSE_S", 0.01)
    expected = {
        account["did"]: expected_standing(filled.reduced.repos[account["did"]], account)
        for account in json.loads((capture_folder / "accounts.json").read_bytes())
    }
    with SimServer(load_network(capture_folder)) as sim:
        addresses = sim.addresses
        asked = ["--plc-url", addresses.plc, "--did-web-url", addresses.did_web]
        asked += ["--pds-url", addresses.pds, "--against-pds"]
        result = filled.run("--all", "--json", "--repair", *asked)
        sampled = [
            filled.run("--sample", "5", "--seed", str(seed), "--json", *asked)
            for seed in (7, 7, 8)
        ]
    found = {line["did"]: line for line in map(json.loads, result.stdout.splitlines())}
    assert {did: line["pds"]["standing"] for did, line in found.items()} == expected
    assert set(expected.values()) == {"equal", "behind", "inactive"}
    assert all(line["finding"] in ("matches", "empty") for line in found.values())
    wrong = {did for did, standing in expected.items() if standing == "behind"}
    assert result.return_value == 1
    requests = [
        parse_request(message.value or b"")
        for message in read_committed(filled.config, filled.config.topic("resyncs"))
    ]
    assert {request.did for request in requests} == wrong
    for request in requests:
        server_rev = found[request.did]["pds"]["rev"]
        assert (request.cause, request.min_rev) == (Cause.AUDIT, server_rev)
    first, again, other = (
        {json.loads(line)["did"] for line in s.stdout.splitlines()} for s in sampled
    )
    assert len(first) == 5
    assert first == again != other


def test_a_record_is_also_proven_by_its_server(
    filled: Filled, capture_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spec: I-12: the same, a newer one, and that there is none."""
    monkeypatch.setattr(servers, "ARRIVAL_PAUSE_S", 0.01)
    uris: dict[str, str] = {}
    for account in json.loads((capture_folder / "accounts.json").read_bytes()):
        did = account["did"]
        standing = expected_standing(filled.reduced.repos[did], account)
        for uri in filled.reduced.latest():
            if uri.startswith(f"at://{did}/"):
                uris.setdefault(standing, uri)
    absent = f"{uris['equal'].rpartition('/')[0]}/absent"
    with SimServer(load_network(capture_folder)) as sim:
        asked = ["--plc-url", sim.addresses.plc, "--pds-url", sim.addresses.pds, "--against-pds"]
        asked += ["--identities", str(filled.identities)]
        results = [
            filled.run(uri, *asked, "--json") for uri in (uris["equal"], uris["behind"], absent)
        ]
        text = filled.run(uris["equal"], *asked).stdout
    same, removed, never = (json.loads(result.stdout) for result in results)
    assert [result.return_value for result in results] == [0, 1, 0]
    assert (same["proof"], same["pds"]["standing"]) == ("proven", "equal")
    # The recording ends before the commit that removes it.
    assert (removed["proof"], removed["pds"]["standing"]) == ("proven", "behind")
    assert "the server has record none" in removed["pds"]["problem"]
    assert (never["proof"], never["pds"]["standing"]) == (None, "equal")
    assert f"server     equal: proves the same in revision {same['pds']['rev']}" in text


def expected_standing(repo: RepoState, account: dict[str, Any]) -> str:
    """Returns what has to come out, by the recording's own description."""
    server = account["latestCommit"]
    if not repo.active:
        return "inactive"
    held = None if repo.head is None else repo.head.signed.commit
    return "equal" if held == server["cid"] else "behind"


def test_a_record_leads_to_the_frame_that_proves_it(filled: Filled) -> None:
    uri, message = next(iter(filled.reduced.latest().items()))
    record = parse_latest(message.value or b"")
    partition, offset = record.source.frame_partition, record.source.frame_offset
    code, found = filled.audit_record(uri)
    assert code == 0
    place = f"{filled.config.topic('frames')}:{partition}:{offset}"
    assert (found["proof"], found["source"], found["place"]) == ("proven", "frame", place)
    assert (found["uri"], found["cid"], found["host"]) == (uri, record.cid, HOST)
    shown = filled.run(uri, "--identities", str(filled.identities))
    assert shown.stdout.startswith(f"proven  {uri}\n")
    key = found["signing_key"]
    assert f"standpipe inspect frame {place} --key {key}" in shown.stdout

    assert partition is not None
    assert offset is not None
    delete_before(filled.config, filled.config.topic("frames"), {partition: offset + 1})
    code, found = filled.audit_record(uri)
    assert (code, found["proof"]) == (1, "expired")
    assert f"the partition begins at {offset + 1}" in found["problem"]


def test_a_record_of_a_fetched_repository_leads_to_its_snapshot(
    kafka: str, topic_prefix: str, tmp_path: Path
) -> None:
    config = KafkaConfig(kafka, topic_prefix)
    apply(plan(config, PARTITIONS))
    snapshot, chunks, record = fetched()
    partition = partition_for(record.did, PARTITIONS)
    op = EventOp(Action.CREATE, *parse_path(record.path), record.cid, None, record.body)
    where = (partition, config.topic("chunks"))
    messages = [
        chunk_message(record.did, record.rev, value, snapshot.fetched_us, *where)
        for value in chunks
    ]
    messages.append(manifest_message(snapshot, partition, config.topic("snapshots")))
    topics = output_topics(config, *deployed(config))
    messages += record_messages(record.did, record.rev, [op], record.source, partition, topics)
    write_messages(config, messages)
    identities = tmp_path / "identities.jsonl"
    identities.write_text(json.dumps({"did": record.did, "document": document(SIGNER.key)}))

    filled = Filled(config, Reduced(topics), identities)
    code, found = filled.audit_record(record.uri)
    assert (code, found["proof"], found["problem"]) == (0, "proven", None)
    place = f"{config.topic('snapshots')}:{partition}:0"
    assert (found["source"], found["place"], found["host"]) == ("snapshot", place, SERVER)
    assert (found["commit"], found["signing_key"]) == (snapshot.commit, SIGNER.key.did_key())
    delete_before(config, config.topic("chunks"), {partition: 1})
    code, found = filled.audit_record(record.uri)
    assert (code, found["proof"]) == (1, "expired")
    unknown = filled.run(f"{record.uri}x")
    assert (unknown.return_value, unknown.stdout) == (1, "")


def document(key: VerifyingKey) -> dict[str, Any]:
    method = {
        "id": f"{DID}#atproto",
        "type": "Multikey",
        "controller": DID,
        "publicKeyMultibase": key.multikey(),
    }
    return {"id": DID, "verificationMethod": [method]}
