"""Importing a directory into a real broker: what is there at the end, whatever happens."""

import asyncio
import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import aiohttp
import pytest
from confluent_kafka.admin import AdminClient
from support import plc
from support.cli import standpipe
from support.kafka import read_committed, wait_until
from support.logs import Log, captured_logs
from support.repo import OTHER_SIGNER, P256_SIGNER

from pipelines.atproto.errors import IdentityError, Reason
from pipelines.config import KafkaConfig
from pipelines.errors import BrokerUnavailableError, ConfigError
from pipelines.identity.documents import Identity, parse_document
from pipelines.identity.entries import IdentityEntry, parse_entry
from pipelines.kafka.admin import apply, plan
from pipelines.kafka.beat import State, parse_beat
from pipelines.kafka.partition import partition_for
from pipelines.mirror import directory as directory_module
from pipelines.mirror import service
from pipelines.mirror.directory import DirectoryExport
from pipelines.mirror.dump import DumpFile
from pipelines.mirror.export import PAGE_LINES
from pipelines.mirror.intake import Tally
from pipelines.mirror.progress import Progress
from pipelines.mirror.source import Source
from pipelines.relay import subscribe_url
from pipelines.sim.generated import GeneratedNetwork
from pipelines.sim.mix import Mix, Settings
from pipelines.sim.network import CapturedNetwork, load_network
from pipelines.sim.ports import Identity as Account
from pipelines.sim.service import SimServer

pytestmark = pytest.mark.broker

STANDPIPE = Path(sys.executable).with_name("standpipe")
PARTITIONS = 3
URL = "https://plc.directory"
CAPTURED_DID = "did:plc:2hnjcpc32qkzk35lxypg6xey"
EVENTS = 3_000
DEADLINE_S = 60.0


@pytest.fixture
def config(kafka: str, topic_prefix: str) -> KafkaConfig:
    config = KafkaConfig(kafka, topic_prefix)
    apply(plan(config, PARTITIONS))
    return config


@pytest.fixture
def log() -> Iterator[Log]:
    with captured_logs("identity") as log:
        yield log


@pytest.fixture
def imported(config: KafkaConfig, tmp_path: Path) -> Callable[..., Tally]:
    """Imports from a source, or from lines, into the deployment's store."""

    def run(
        source: Source | list[plc.Json],
        *,
        directory: str = URL,
        stop: threading.Event | None = None,
        on_progress: Callable[[Progress], None] = lambda _progress: None,
    ) -> Tally:
        if isinstance(source, list):
            path = tmp_path / "dump.jsonl"
            path.write_text("\n".join(map(json.dumps, source)))
            source = DumpFile(path)
        return service.run(
            config,
            source,
            tmp_path / "state",
            directory=directory,
            stop=stop or threading.Event(),
            on_progress=on_progress,
        )

    return run


def identities(config: KafkaConfig) -> dict[str, IdentityEntry]:
    """Reads the topic as a reader from the beginning sees it."""
    found: dict[str, IdentityEntry] = {}
    for message in read_committed(config, config.topic("identities")):
        assert message.value is not None
        entry = parse_entry(message.value)
        assert message.key == entry.did.encode() == dict(message.headers)["did"]
        assert message.partition == partition_for(entry.did, PARTITIONS)
        if entry.supersedes(found.get(entry.did)):
            found[entry.did] = entry
    return found


def messages_count(config: KafkaConfig) -> int:
    return len(read_committed(config, config.topic("identities")))


def _numbered(*entries: plc.Json) -> list[plc.Json]:
    ordered = sorted(entries, key=lambda entry: str(entry["createdAt"]))
    return [
        {**entry, "type": "sequenced_op", "seq": seq} for seq, entry in enumerate(ordered, start=1)
    ]


FIRST = plc.operation()
DID = plc.did_of(FIRST)
STOLEN = plc.operation(FIRST, P256_SIGNER, verificationMethods={})
RECOVERED = plc.operation(FIRST, alsoKnownAs=["at://back.example.com"])
FORGED = plc.operation(FIRST, OTHER_SIGNER)
OTHER_FIRST = plc.operation(alsoKnownAs=["at://other.example.com"])
OTHER_DID = plc.did_of(OTHER_FIRST)
GONE = plc.tombstone(OTHER_FIRST)
LINES = _numbered(
    plc.entry(0, FIRST, DID),
    plc.entry(1, OTHER_FIRST, OTHER_DID),
    plc.entry(2, STOLEN, DID),
    plc.entry(3, FORGED, DID),
    plc.entry(4, RECOVERED, DID),
    plc.entry(5, GONE, OTHER_DID),
)


def test_a_dump_is_as_old_as_its_file(
    config: KafkaConfig, imported: Callable[..., Tally], tmp_path: Path
) -> None:
    """What is in it need not hold any more; workers ask again, as if they had asked then."""
    written_s = int(time.time()) - 1_000_000
    dump = tmp_path / "old.jsonl"
    dump.write_text("\n".join(map(json.dumps, LINES)))
    os.utime(dump, (written_s, written_s))
    imported(DumpFile(dump))
    assert {entry.fetched_us for entry in identities(config).values()} == {written_s * 1_000_000}


def test_what_stands_is_what_readers_find(
    config: KafkaConfig, imported: Callable[..., Tally], log: Log
) -> None:
    """Spec: L-07, L-13."""
    tally = imported(LINES)
    assert (tally.read_count, tally.accepted_count, tally.voided_count) == (6, 5, 1)
    assert tally.refused == {Reason.SIGNATURE_INVALID: 1}
    assert len(log.all("operation_refused")) == 1
    found = identities(config)
    assert (found[DID].handle, found[DID].seq, found[DID].source) == ("back.example.com", 5, URL)
    assert (found[OTHER_DID].signing_key, found[OTHER_DID].reason) == (
        None,
        Reason.IDENTITY_NOT_FOUND,
    )
    # One message an account: all six lines were one batch.
    assert messages_count(config) == 2


def test_it_goes_on_where_it_was_and_judges_by_what_it_knows(
    config: KafkaConfig, imported: Callable[..., Tally]
) -> None:
    assert imported(LINES[:3]).accepted_count == 3
    assert identities(config)[DID].signing_key is None  # stolen, as it seems
    tally = imported(LINES)
    assert (tally.read_count, tally.accepted_count, tally.voided_count) == (3, 2, 1)
    assert identities(config)[DID].handle == "back.example.com"
    assert imported(LINES) == Tally()
    assert messages_count(config) == 4


def test_a_batch_that_was_not_remembered_is_written_again(
    config: KafkaConfig, imported: Callable[..., Tally], tmp_path: Path
) -> None:
    """As after a crash between the commit and the store."""
    imported(LINES[:3])
    shutil.copytree(tmp_path / "state", tmp_path / "before")
    imported(LINES)
    expected = identities(config)
    shutil.rmtree(tmp_path / "state")
    shutil.copytree(tmp_path / "before", tmp_path / "state")
    assert imported(LINES).accepted_count == 2
    again = identities(config)
    assert {did: (entry.as_of_us, entry.handle) for did, entry in again.items()} == {
        did: (entry.as_of_us, entry.handle) for did, entry in expected.items()
    }


@pytest.mark.parametrize("is_damaged", [False, True])
def test_without_its_store_it_begins_again(
    imported: Callable[..., Tally], tmp_path: Path, is_damaged: bool, log: Log
) -> None:
    imported(LINES)
    if is_damaged:
        (tmp_path / "state" / "chains" / "CURRENT").write_text("nothing\n")
    else:
        shutil.rmtree(tmp_path / "state")
    assert imported(LINES).accepted_count == 5
    assert len(log.all("store_begun")) == 2


def test_a_topic_made_anew_is_filled_anew(
    config: KafkaConfig, imported: Callable[..., Tally]
) -> None:
    imported(LINES)
    admin = AdminClient({"bootstrap.servers": config.bootstrap_servers})
    topic = config.topic("identities")
    admin.delete_topics([topic])[topic].result(20)
    wait_until(lambda: topic not in admin.list_topics(timeout=10).topics, "the topic is gone")
    apply(plan(config, PARTITIONS))
    assert imported(LINES).accepted_count == 5
    assert set(identities(config)) == {DID, OTHER_DID}


def test_a_store_belongs_to_one_directory(imported: Callable[..., Tally]) -> None:
    """Sequence numbers of another directory mean something else."""
    imported(LINES)
    with pytest.raises(ConfigError, match=r"the operations of https://plc\.directory, not of"):
        imported(LINES, directory="https://mirror.example.com")


def test_a_store_belongs_to_one_import(imported: Callable[..., Tally]) -> None:
    with_rival: list[BaseException] = []

    def start_rival(_progress: Progress) -> None:
        if not with_rival:
            with pytest.raises(BrokerUnavailableError, match="another process imports") as refusal:
                imported(LINES)
            with_rival.append(refusal.value)

    assert imported(LINES, on_progress=start_rival).accepted_count == 5
    assert len(with_rival) == 1


def test_what_came_before_a_broken_line_is_kept(
    config: KafkaConfig, imported: Callable[..., Tally], tmp_path: Path
) -> None:
    path = tmp_path / "broken.jsonl"
    path.write_text("\n".join([*map(json.dumps, LINES[:2]), '{"seq": 3, "di']))
    with pytest.raises(ConfigError, match="breaks off at line 3"):
        imported(DumpFile(path))
    assert set(identities(config)) == {DID, OTHER_DID}
    assert imported(LINES).read_count == 4


def test_recorded_accounts_come_as_their_documents_say(
    config: KafkaConfig, imported: Callable[..., Tally], capture_folder: Path
) -> None:
    network = load_network(capture_folder)
    with SimServer(network) as sim:
        source = DirectoryExport(sim.addresses.plc, per_s=100, follows=False)
        tally = imported(source, directory=source.url)
    logs = {did: known for did, known in network.identities.items() if known.audit_log}
    assert tally.accepted_count == sum(len(known.audit_log or ()) for known in logs.values())
    assert tally.refused.total() == 0
    found = identities(config)
    assert set(found) == set(logs)
    for did, known in logs.items():
        if known.document is None:
            with pytest.raises(IdentityError):
                found[did].require_key()
        else:
            identity = parse_document(found[did].did, known.document)
            assert (found[did].signing_key, found[did].pds, found[did].handle) == (
                identity.signing_key,
                identity.pds,
                identity.handle,
            )


def test_following_keeps_up_with_changing_accounts(
    config: KafkaConfig, imported: Callable[..., Tally], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A generated network goes on while it is followed: the end is the truth, and is said."""
    monkeypatch.setattr(directory_module, "POLL_INTERVAL_S", 0.05)
    stop = threading.Event()
    network = GeneratedNetwork(
        Settings(accounts_count=50, seed=5, records_count=1), events_count=EVENTS
    )
    with SimServer(network, rate=0) as sim:
        source = DirectoryExport(sim.addresses.plc, per_s=100, follows=True)
        follower = threading.Thread(
            target=lambda: imported(source, directory=source.url, stop=stop)
        )
        follower.start()
        try:
            truth = _truth(network)
            assert truth
            wait_until(lambda: _known(config, truth) == truth, "the identities of the beginning")
            _drain(sim, EVENTS)

            truth = _truth(network)
            wait_until(lambda: _known(config, truth) == truth, "the identities of the end")
        finally:
            stop.set()
            follower.join()
    assert max(map(len, network.list_logs())) > 1
    last = parse_beat(read_committed(config, config.topic("status"))[-1].value or b"")
    assert (last.stage, last.slot, last.report.state) == ("identity", "import", State.STOPPED)
    assert last.report.counters["outputs"] == messages_count(config)


class TestCommandLine:
    def test_import_says_what_it_did(
        self, config: KafkaConfig, tmp_path: Path, capture_folder: Path
    ) -> None:
        """From a dump first, then the rest from the directory; the default place of the store."""
        environment = {
            "STANDPIPE_BOOTSTRAP_SERVERS": config.bootstrap_servers,
            "STANDPIPE_TOPIC_PREFIX": config.topic_prefix,
            "STANDPIPE_HOME": str(tmp_path),
        }
        with SimServer(load_network(capture_folder)) as sim:
            with urllib.request.urlopen(f"{sim.addresses.plc}/export?after=0&count=9") as page:
                (tmp_path / "dump.jsonl.gz").write_bytes(gzip.compress(page.read()))
            arguments = ("identity", "import", "--plc-url", sim.addresses.plc)
            dump = str(tmp_path / "dump.jsonl.gz")
            result = standpipe(*arguments, dump, "--json", **environment)
            assert result.returncode == 0, result.stderr
            first = json.loads(result.stdout)
            assert first == {
                "read": 9,
                "accepted": 9,
                "voided": 0,
                "repeated": 0,
                "skipped": 0,
                "refused": {},
            }
            result = standpipe(*arguments, **environment)
            for did, is_there in ((CAPTURED_DID, True), (DID, False)):
                options = ("--cached", "--json", "--no-handle", "--plc-url", sim.addresses.plc)
                inspected = standpipe("inspect", "did", did, *options, **environment)
                shown = json.loads(inspected.stdout)
                if is_there:
                    assert (shown["cached"]["state"], shown["cached"]["agrees"]) == ("fresh", True)
                    entry = shown["cached"]["entry"]
                    assert entry["origin"] == "operation"
                    assert entry["signing_key"] == shown["current"]["signing_key"]
                else:
                    assert (shown["cached"]["state"], shown["cached"]["entry"]) == ("absent", None)
                assert shown["cached"]["problems"] == []
            as_text = ("--cached", "--no-handle", "--plc-url", sim.addresses.plc)
            inspected = standpipe("inspect", "did", CAPTURED_DID, *as_text, **environment)
            assert inspected.returncode == 0
            expected = "in the topic identities: fresh, workers use it without asking\n"
            assert expected in inspected.stdout
        assert result.returncode == 0, result.stderr
        assert " 0 known before, 0 of unknown type, 0 refused" in result.stdout
        assert len(identities(config)) == 21
        assert (tmp_path / "identity" / config.topic_prefix / "chains").is_dir()

    def test_follow_ends_with_ctrl_c(
        self, config: KafkaConfig, tmp_path: Path, capture_folder: Path
    ) -> None:
        with SimServer(load_network(capture_folder)) as sim:
            command = [
                *(str(STANDPIPE), "identity", "follow", "--plc-url", sim.addresses.plc),
                *("--bootstrap-servers", config.bootstrap_servers),
                *("--topic-prefix", config.topic_prefix),
                *("--state-dir", str(tmp_path)),
            ]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
                wait_until(lambda: len(identities(config)) == 21, "all accounts")
                process.send_signal(signal.SIGINT)
                output, _ = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 0
        assert "operations read" in output

    def test_an_import_that_is_killed_goes_on(self, config: KafkaConfig, tmp_path: Path) -> None:
        """SIGKILL after the first batch: the next run begins there, and nothing is missing."""
        settings = Settings(service.BATCH_LINES + PAGE_LINES, records_count=1, mix=Mix(did_web=0))
        network = GeneratedNetwork(settings)
        accounts: dict[str, Account] = {
            state.did: Account(state.identity.document(), state.identity.audit_log())
            for state in network.known.states()
        }
        # The rest comes when nobody follows any more: so the kill is never too late.
        known = dict(list(accounts.items())[: service.BATCH_LINES])
        environment = {"STANDPIPE_HOME": str(tmp_path)}
        with SimServer(CapturedNetwork(frames=(), identities=known)) as sim:
            options = [
                *("--plc-url", sim.addresses.plc),
                *("--bootstrap-servers", config.bootstrap_servers),
                *("--topic-prefix", config.topic_prefix),
            ]
            with subprocess.Popen(
                [str(STANDPIPE), "identity", "follow", *options],
                stdout=subprocess.PIPE,
                env=os.environ | environment,
            ) as process:
                wait_until(lambda: messages_count(config) > 0, "the first batch")
                process.kill()
            known |= accounts
            result = standpipe("identity", "import", "--json", *options, **environment)
        assert result.returncode == 0, result.stderr
        # All that was committed is passed over, or, if the store was late, read again.
        summary = json.loads(result.stdout)
        assert summary["read"] in (PAGE_LINES, len(accounts))
        assert summary["accepted"] == summary["read"]
        truth = _truth(network)
        assert len(truth) == len(accounts)
        assert _known(config, truth) == truth

    def test_topics_that_are_missing_are_named(self, kafka: str, topic_prefix: str) -> None:
        result = standpipe(
            *("identity", "import", "--bootstrap-servers", kafka, "--topic-prefix", topic_prefix)
        )
        assert result.returncode == 2
        assert f"{topic_prefix}.identities" in result.stderr


def _drain(sim: SimServer, events_count: int) -> None:
    """Reads the stream of a network to its end, which makes it happen."""

    async def run() -> None:
        async with aiohttp.ClientSession() as session:
            url = subscribe_url(sim.addresses.relay, 0)
            async with session.ws_connect(url, max_msg_size=1 << 24) as socket:
                for _ in range(events_count):
                    await socket.receive()

    asyncio.run(asyncio.wait_for(run(), DEADLINE_S))


def _truth(network: GeneratedNetwork) -> dict[str, Identity]:
    return {
        state.did: parse_document(state.did, state.identity.document())
        for state in network.known.states()
        if state.did.startswith("did:plc:")
    }


def _known(config: KafkaConfig, dids: Iterable[str]) -> dict[str, Identity]:
    found = identities(config)
    return {
        did: Identity(entry.did, entry.signing_key, entry.pds, entry.handle)
        for did in dids
        if (entry := found.get(did)) is not None
    }
