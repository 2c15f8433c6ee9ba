"""The servers of recorded accounts, asked for their newest commits over real sockets."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.atproto.syntax import Did
from pipelines.compact.servers import Servers
from pipelines.compact.standing import NoAnswer, ServerHead, ServerRefusal
from pipelines.identity.resolver import Resolver
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
