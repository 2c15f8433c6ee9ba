"""A generated network over real sockets: stream, directory and host tell of one moment."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import aiohttp
import pytest
from support.network import LIVELY, make_events
from support.oracle import build, cid_of, read

from pipelines.atproto.car import read_car
from pipelines.atproto.cid import encode_cid
from pipelines.atproto.commit import parse_commit
from pipelines.identity.documents import parse_document
from pipelines.identity.plc import verify_audit_log
from pipelines.relay import subscribe_url
from pipelines.sim.events import Status
from pipelines.sim.generated import GeneratedNetwork
from pipelines.sim.mix import Settings
from pipelines.sim.service import SimServer
from pipelines.sim.truth import AccountTruth

DEADLINE_S = 60.0
SETTINGS = Settings(accounts_count=30, seed=5, mix=LIVELY)
EVENTS_COUNT = 3_000

T = TypeVar("T")


def run(conversation: Callable[[aiohttp.ClientSession], Coroutine[Any, Any, T]]) -> T:
    async def with_deadline() -> T:
        async with asyncio.timeout(DEADLINE_S), aiohttp.ClientSession() as session:
            return await conversation(session)

    return asyncio.run(with_deadline())


async def receive(socket: aiohttp.ClientWebSocketResponse, count: int) -> list[bytes]:
    return [(await socket.receive()).data for _ in range(count)]


async def get(session: aiohttp.ClientSession, url: str) -> tuple[int, Any]:
    async with session.get(url) as response:
        body = await response.read()
        is_json = response.content_type != "application/vnd.ipld.car"
        return response.status, json.loads(body) if is_json else body


@pytest.fixture
def network() -> GeneratedNetwork:
    return GeneratedNetwork(SETTINGS, events_count=EVENTS_COUNT)


async def settled(count: Callable[[], int]) -> int:
    """Returns a count when it has stopped growing."""
    last_count = count()
    for _ in range(int(DEADLINE_S / 0.2)):
        await asyncio.sleep(0.2)
        if last_count == (last_count := count()):
            return last_count
    raise AssertionError("the count grows for ever")


async def check_host(
    session: aiohttp.ClientSession, sim: SimServer, account: AccountTruth
) -> None:
    """Everything that host and directory say of an account is what really happened to it."""
    did, head = account.state.did, account.state.head
    sync = f"{sim.addresses.plc}/xrpc/com.atproto.sync"
    latest = await get(session, f"{sync}.getLatestCommit?did={did}")
    status = await get(session, f"{sync}.getRepoStatus?did={did}")
    export = await get(session, f"{sync}.getRepo?did={did}")
    if account.state.status is Status.DELETED:
        assert [code for code, _ in (latest, status, export)] == [400, 400, 400]
        assert {body["error"] for _, body in (latest, status, export)} == {"RepoNotFound"}
    elif account.state.status is Status.DEACTIVATED:
        assert status == (200, {"did": did, "active": False, "status": "deactivated"})
        assert [code for code, _ in (latest, export)] == [400, 400]
        assert {body["error"] for _, body in (latest, export)} == {"RepoDeactivated"}
    else:
        assert head is not None
        commit_cid, rev = encode_cid(head.commit_cid), head.commit.rev
        assert latest == (200, {"cid": commit_cid, "rev": rev})
        assert status == (200, {"did": did, "active": True, "rev": rev})
        code, body = export
        assert code == 200
        check_export(body, account)
    code, document = await get(session, f"{sim.addresses.plc}/{did}")
    identity = parse_document(did, document)
    assert (code, identity.handle) == (200, account.state.handle)
    code, log = await get(session, f"{sim.addresses.plc}/{did}/log/audit")
    assert verify_audit_log(did, log)[-1].signing_key == identity.signing_key
    if head is not None:
        identity.require_key().verify(head.commit.unsigned, head.commit.signature)


def check_export(car: bytes, account: AccountTruth) -> None:
    """spec: C-11, I-04: commit, whole tree and all records, and nothing else."""
    roots, blocks = read_car(car)
    commit = parse_commit(blocks[roots[0]])
    assert account.state.head is not None
    assert commit == account.state.head.commit
    cids = account.cids()
    tree = build(cids)
    assert read(blocks, commit.data_cid) == cids
    assert tree.root == commit.data_cid
    records = {cid_of(record): record for record in account.records.values()}
    assert blocks == {roots[0]: commit.block, **tree.nodes, **records}


def test_the_whole_stream_and_the_state_behind_it(network: GeneratedNetwork) -> None:
    expected = [event.frame for event in make_events(SETTINGS, EVENTS_COUNT)]
    with SimServer(network) as sim:

        async def conversation(session: aiohttp.ClientSession) -> list[bytes]:
            async with session.ws_connect(subscribe_url(sim.addresses.relay, 0)) as socket:
                frames = await receive(socket, EVENTS_COUNT)
            for account in network.known.accounts().values():
                await check_host(session, sim, account)
            return frames

        assert run(conversation) == expected


def test_the_host_tells_of_the_last_emitted_frame() -> None:
    """Frames are prepared far ahead of the emission; nobody learns of them."""
    network = GeneratedNetwork(SETTINGS)
    with SimServer(network) as sim:

        async def conversation(session: aiohttp.ClientSession) -> None:
            async with session.ws_connect(subscribe_url(sim.addresses.relay, 0)) as socket:
                await receive(socket, 1_000)
                # Nobody reads on: the emission stops as soon as the socket is full.
                emitted_count = await settled(lambda: sim.status()["frames_emitted"])
                assert emitted_count > 1_000
                emitted = make_events(SETTINGS, emitted_count)
                accounts = network.known.accounts()
                assert accounts.keys() == {event.state.did for event in emitted}
                for account in accounts.values():
                    await check_host(session, sim, account)
                states = {event.state.did: event.state for event in emitted}
                assert {did: account.state.head for did, account in accounts.items()} == {
                    did: state.head for did, state in states.items()
                }

        run(conversation)
