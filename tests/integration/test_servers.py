"""The servers of accounts, asked for newest commits and proofs of records over real sockets."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import oracle
from support.events import source

from pipelines.atproto.car import read_car
from pipelines.atproto.cid import cid_of, encode_cid
from pipelines.atproto.commit import parse_commit
from pipelines.atproto.record_proof import VerifiedRecord
from pipelines.atproto.syntax import Did, Tid
from pipelines.compact import servers as servers_module
from pipelines.compact.events import Body
from pipelines.compact.provenance import LatestRecord
from pipelines.compact.servers import Servers, compare_one
from pipelines.compact.standing import Comparison, NoAnswer, ServerHead, ServerRefusal, Standing
from pipelines.identity.resolver import Resolver
from pipelines.sim.generated import GeneratedNetwork
from pipelines.sim.mix import Settings
from pipelines.sim.network import load_network
from pipelines.sim.service import SimServer


@pytest.fixture
def sim(capture_folder: Path) -> Iterator[SimServer]:
    with SimServer(load_network(capture_folder)) as running:
        yield running


def ask(sim: SimServer, dids: list[Did], base_url: str | None) -> dict[Did, Any]:
    addresses = sim.addresses
    resolver = Resolver(addresses.plc, did_web_base=addresses.did_web)
    with Servers(resolver, base_url, allow_loopback=False) as servers:
        return dict(servers.heads(dids))


def test_each_account_s_server_names_its_commit_or_says_why_not(
    sim: SimServer, capture_folder: Path
) -> None:
    """Spec: I-08."""
    accounts = json.loads((capture_folder / "accounts.json").read_bytes())
    found = ask(sim, [account["did"] for account in accounts], sim.addresses.pds)
    assert len(found) == len(accounts)
    kinds = set()
    for account in accounts:
        answer, said = found[account["did"]], account["latestCommit"]
        kinds.add(type(answer))
        if isinstance(answer, ServerHead):
            assert answer == (said["rev"], said["cid"])
        elif isinstance(answer, ServerRefusal):
            assert answer.error == said["error"]
    assert kinds == {ServerHead, ServerRefusal, NoAnswer}


def test_a_server_on_this_machine_is_not_asked(sim: SimServer, capture_folder: Path) -> None:
    """Spec: M-09: the recorded documents name a port of localhost."""
    [account, *_] = json.loads((capture_folder / "accounts.json").read_bytes())
    [answer] = ask(sim, [account["did"]], None).values()
    assert isinstance(answer, NoAnswer)
    assert "leads astray" in answer.detail


def test_a_generated_account_s_server_proves_its_records_and_what_it_has_not() -> None:
    """Spec: I-12: nodes that a producer chose, over a real socket, with the document's key."""
    network = GeneratedNetwork(Settings(6, seed=5, hosts_count=2, records_count=20))
    absent = "app.bsky.feed.post/absent"
    with SimServer(network) as sim:
        addresses = sim.addresses
        resolver = Resolver(addresses.plc, did_web_base=addresses.did_web)
        accounts = network.known.accounts()
        assert {account.state.host for account in accounts.values()} == set(network.list_hosts())
        with Servers(resolver, addresses.pds, allow_loopback=False) as servers:
            for did, account in accounts.items():
                head = account.state.head
                assert head is not None
                for path, body in (*list(account.records.items())[:5], (absent, None)):
                    answer = servers.record(did, path)
                    assert isinstance(answer, VerifiedRecord)
                    assert answer.commit == parse_commit(head.commit.block)
                    assert answer.record == body


def test_a_server_on_this_machine_is_not_asked_for_proofs(
    sim: SimServer, capture_folder: Path
) -> None:
    """Spec: M-09."""
    [account, *_] = json.loads((capture_folder / "accounts.json").read_bytes())
    resolver = Resolver(sim.addresses.plc, did_web_base=sim.addresses.did_web)
    with Servers(resolver, None, allow_loopback=False) as servers:
        answer = servers.record(account["did"], "app.bsky.actor.profile/self")
    assert isinstance(answer, NoAnswer)
    assert "leads astray" in answer.detail


def test_what_is_behind_is_looked_at_again_until_it_has_come(
    sim: SimServer, capture_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recorded repository is as a whole the proof of each of its records."""
    monkeypatch.setattr(servers_module, "ARRIVAL_PAUSE_S", 0)
    did, path, record_cid, rev = recorded_record(capture_folder)
    ours = LatestRecord(did, path, record_cid, rev, source(), Body(None, None, None))
    older = replace(ours, rev=Tid("2222222222222"), cid=encode_cid(cid_of(b"older")))
    resolver = Resolver(sim.addresses.plc, did_web_base=sim.addresses.did_web)
    with Servers(resolver, sim.addresses.pds, allow_loopback=False) as servers:
        looks = [None, older, ours]
        found = compare_one(lambda: looks.pop(0), did, path, servers)
        assert found == (ours, Comparison(Standing.EQUAL, None, rev))
        assert looks == []
        record, comparison = compare_one(lambda: older, did, path, servers)
        assert (record, comparison.standing) == (older, Standing.BEHIND)


def recorded_record(capture_folder: Path) -> tuple[Did, str, str, Tid]:
    """Returns account, path, CID and revision of a record that a recorded server has."""
    for account in json.loads((capture_folder / "accounts.json").read_bytes()):
        car = capture_folder / "accounts" / account["dir"] / "repo.car"
        if car.exists():
            roots, blocks = read_car(car.read_bytes())
            commit = parse_commit(blocks[roots[0]])
            path, record_cid = next(iter(oracle.read(blocks, commit.data_cid).items()))
            return commit.did, path, encode_cid(record_cid), commit.rev
    raise AssertionError("no repository was recorded")
