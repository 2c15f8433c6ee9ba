"""A generated network over real sockets: stream, directory and host tell of one moment."""

import asyncio
import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
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
from pipelines.sim.mix import Mix, Settings, Trouble, meanings
from pipelines.sim.network import load_network
from pipelines.sim.service import SimServer
from pipelines.sim.truth import AccountTruth
from pipelines.subscriptions import error_frame

STANDPIPE = Path(sys.executable).with_name("standpipe")
DEADLINE_S = 60.0
# Nothing happens to accounts: there is one, and it has to stay.
QUIET = Mix(delete_account=0, deactivate_account=0)
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
    method, _, name = did.removeprefix("did:").partition(":")
    is_web = method == "web"
    web, plc = f"{sim.addresses.did_web}/{name}/.well-known/did.json", f"{sim.addresses.plc}/{did}"
    code, document = await get(session, web if is_web else plc)
    identity = parse_document(did, document)
    assert (code, identity.handle) == (200, account.state.handle)
    code, log = await get(session, f"{plc}/log/audit")
    if is_web:
        assert code == 404
        assert (await get(session, plc))[0] == 404
    else:
        assert verify_audit_log(did, log)[-1].signing_key == identity.signing_key
    if head is not None:
        identity.require_key().verify(head.commit.unsigned, head.commit.signature)


def listing(account: AccountTruth) -> dict[str, Any]:
    """An account with a head as listRepos has it. spec: I-09."""
    state = account.state
    assert state.head is not None
    fields = {
        "did": state.did,
        "head": encode_cid(state.head.commit_cid),
        "rev": state.head.commit.rev,
        "active": state.status is None,
    }
    return fields if state.status is None else fields | {"status": str(state.status)}


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
            accounts = network.known.accounts().values()
            for account in accounts:
                await check_host(session, sim, account)
            url = f"{sim.addresses.plc}/xrpc/com.atproto.sync.listRepos"
            expected = [listing(account) for account in accounts if account.state.head]
            assert await get(session, url) == (200, {"repos": expected})
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


def test_a_reader_continues_after_the_network_was_restarted() -> None:
    """The same network again, at a cursor that only its earlier run has emitted."""
    expected = make_events(SETTINGS, 1_200)
    with SimServer(GeneratedNetwork(SETTINGS)) as sim:

        async def conversation(session: aiohttp.ClientSession) -> list[bytes]:
            url = subscribe_url(sim.addresses.relay, expected[999].seq)
            async with session.ws_connect(url) as socket:
                return await receive(socket, 200)

        assert run(conversation) == [event.frame for event in expected[1_000:]]


def test_a_subscriber_that_is_too_slow_is_told_so_and_let_go() -> None:
    """spec: F-27: what it had not got is no longer kept."""
    network = GeneratedNetwork(SETTINGS, retained_bytes=1_000_000)
    with SimServer(network) as sim:
        url = subscribe_url(sim.addresses.relay, 0)

        async def conversation(session: aiohttp.ClientSession) -> tuple[list[Any], int]:
            async with session.ws_connect(url) as slow, session.ws_connect(url) as quick:
                await slow.receive()
                # More than sockets hold: the slow one's frames are gone from the window.
                await receive(quick, 15_000)
                return [message async for message in slow], slow.close_code or 0

        messages, close_code = run(conversation)
    assert messages[-1].data == error_frame("ConsumerTooSlow", "Stream consumer too slow")
    assert close_code == aiohttp.WSCloseCode.POLICY_VIOLATION
    assert len(messages) < 15_000


def test_a_large_repository_is_exported_while_it_goes_on() -> None:
    """spec: C-10, C-11: the state of the moment at which it was asked for."""
    settings = Settings(accounts_count=1, records_count=20_000, mix=QUIET)
    network = GeneratedNetwork(settings)
    [did] = network.known.accounts()
    with SimServer(network) as sim:

        async def conversation(session: aiohttp.ClientSession) -> bytes:
            export = f"{sim.addresses.plc}/xrpc/com.atproto.sync.getRepo?did={did}"
            stream = subscribe_url(sim.addresses.relay, 0)
            async with session.get(export) as response:
                body = await response.content.readexactly(100_000)
                async with session.ws_connect(stream) as socket:
                    await receive(socket, 2_000)
                return body + await response.read()

        account = network.known.account(did)
        body = run(conversation)
    assert network.known.account(did).state.head != account.state.head
    check_export(body, account)
    sections = list(read_car(body).blocks)
    head = account.state.head
    assert head is not None
    assert sections[:2] == [head.commit_cid, head.commit.data_cid]


def test_the_host_lists_its_accounts_page_by_page(network: GeneratedNetwork) -> None:
    """spec: I-09: also when one goes away between two pages."""
    with SimServer(network, rate=2_000) as sim:

        async def conversation(session: aiohttp.ClientSession) -> list[dict[str, Any]]:
            url = f"{sim.addresses.plc}/xrpc/com.atproto.sync.listRepos?limit=7"
            listed: list[dict[str, Any]] = []
            async with session.ws_connect(subscribe_url(sim.addresses.relay, 0)) as socket:
                await receive(socket, EVENTS_COUNT // 2)
                always = {
                    did
                    for did, account in network.known.accounts().items()
                    if account.state.status is not Status.DELETED
                }
                query: str | None = ""
                while query is not None:
                    _, body = await get(session, f"{url}{query}")
                    assert 0 < len(body["repos"]) <= 7
                    listed += body["repos"]
                    query = f"&cursor={body['cursor']}" if "cursor" in body else None
                    await receive(socket, 150)
                accounts = network.known.accounts()
                always &= {
                    did
                    for did, account in accounts.items()
                    if account.state.status is not Status.DELETED
                }
            assert {repo["did"] for repo in listed} >= always
            return listed

        listed = run(conversation)
    assert len({repo["did"] for repo in listed}) == len(listed)
    inactive = [repo for repo in listed if not repo["active"]]
    assert inactive
    assert {repo["status"] for repo in inactive} == {"deactivated"}


def test_the_truth_is_told_over_http_and_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "truth.jsonl"
    network = GeneratedNetwork(SETTINGS, events_count=800, truth_path=path)
    with SimServer(network) as sim:

        async def conversation(session: aiohttp.ClientSession) -> int:
            base = f"{sim.addresses.plc}/sim/truth"
            async with session.ws_connect(subscribe_url(sim.addresses.relay, 0)) as socket:
                await receive(socket, 800)
            status, summary = await get(session, base)
            assert status == 200
            assert summary == network.known.summary()
            for did in summary["accounts"]:
                assert await get(session, f"{base}/{did}") == (200, network.known.details(did))
            async with session.get(f"{base}/did:plc:aaaaaaaaaaaaaaaaaaaaaaaa") as response:
                assert response.status == 404
            seq: int = summary["seq"]
            return seq

        seq = run(conversation)
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    events = make_events(SETTINGS, 800)
    assert [line["seq"] for line in lines] == [event.seq for event in events]
    assert lines[-1]["seq"] == seq


def test_a_capture_knows_no_truth(capture_folder: Path) -> None:
    with SimServer(load_network(capture_folder)) as sim:

        async def conversation(session: aiohttp.ClientSession) -> int:
            async with session.get(f"{sim.addresses.plc}/sim/truth") as response:
                return response.status

        assert run(conversation) == 404


class TestCommand:
    def start(self, *options: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(STANDPIPE), "sim", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def test_a_process_of_its_own_serves_the_same_bytes(self, tmp_path: Path) -> None:
        path = tmp_path / "truth.jsonl"
        options = ["--accounts", "7", "--seed", "9", "--events", "300", "--truth", str(path)]
        expected = make_events(Settings(accounts_count=7, seed=9), 300)
        with self.start(*options, "--json") as process:
            try:
                assert process.stdout is not None
                addresses = json.loads(process.stdout.readline())

                async def conversation(session: aiohttp.ClientSession) -> list[bytes]:
                    url = subscribe_url(addresses["relay"], 0)
                    async with session.ws_connect(url) as socket:
                        return await receive(socket, 300)

                assert run(conversation) == [event.frame for event in expected]
                process.send_signal(signal.SIGINT)
                assert process.wait(DEADLINE_S) == 0
            finally:
                process.kill()
        assert len(path.read_bytes().splitlines()) == 300

    @pytest.mark.parametrize(
        "options",
        [
            [],
            ["--accounts", "3", "--capture", "folder"],
            ["--capture", "folder", "--seed", "1"],
            ["--capture", "folder", "--events", "1"],
            ["--capture", "folder", "--records", "1"],
            ["--capture", "folder", "--large", "1"],
            ["--capture", "folder", "--hosts", "2"],
            ["--capture", "folder", "--trouble", "drop_commit=1"],
            ["--capture", "folder", "--calm-after", "1"],
            ["--capture", "folder", "--mix", "p256=1"],
            ["--capture", "folder", "--truth", "file"],
            ["--accounts", "0"],
        ],
    )
    def test_wrong_usage_shows_both_choices(self, options: list[str]) -> None:
        with self.start(*options) as process:
            stdout, stderr = process.communicate(timeout=DEADLINE_S)
        assert (process.returncode, stdout) == (2, "")
        if options != ["--accounts", "0"]:
            assert "standpipe sim --accounts 200 --rate 350" in stderr
            assert "standpipe sim --capture DIR" in stderr
        if len(options) == 4 and "--accounts" not in options:
            assert f"{options[2]} goes with --accounts" in stderr

    def served(self, *options: str) -> list[bytes]:
        """Returns the first hundred frames of a network."""
        with self.start(*options, "--events", "100", "--json") as process:
            try:
                assert process.stdout is not None
                addresses = json.loads(process.stdout.readline())

                async def conversation(session: aiohttp.ClientSession) -> list[bytes]:
                    url = subscribe_url(addresses["relay"], 0)
                    async with session.ws_connect(url) as socket:
                        return await receive(socket, 100)

                return run(conversation)
            finally:
                process.kill()

    def test_the_mix_is_what_the_help_says(self) -> None:
        with self.start("--help") as process:
            stdout, _ = process.communicate(timeout=DEADLINE_S)
        listed = dict(re.findall(r"^  ([a-z_0-9]+)=([0-9.]+) ", stdout, re.MULTILINE))
        shares = {name: float(share) for name, share in listed.items()}
        assert Mix(**{name: shares.pop(name) for name in meanings(Mix)}) == Mix()
        assert Trouble(**{name: shares.pop(name) for name in meanings(Trouble)}) == Trouble()
        assert not shares

    def test_the_mix_can_be_changed(self) -> None:
        mix = Mix(did_web=1, change_handle=0.3)
        expected = make_events(Settings(accounts_count=3, mix=mix), 100)
        options = ["--accounts", "3", "--mix", "did_web=1", "--mix", "change_handle=0.3"]
        assert self.served(*options) == [event.frame for event in expected]

    def test_trouble_can_be_made(self) -> None:
        trouble = Trouble(drop_commit=0.2, migrate_account=0.1)
        settings = Settings(3, hosts_count=2, trouble=trouble, calm_after=80)
        expected = make_events(settings, 100)
        assert any(event.untold for event in expected)
        options = ["--accounts", "3", "--hosts", "2", "--calm-after", "80"]
        options += ["--trouble", "drop_commit=0.2", "--trouble", "migrate_account=0.1"]
        assert self.served(*options) == [event.frame for event in expected]

    @pytest.mark.parametrize(
        ("share", "complaint"),
        [
            ("did_wep=1", "'did_wep=1': there are p256, did_web, "),
            ("did_web", "'did_web': write did_web=0.1"),
            ("did_web=2", "did_web is 2.0: choose a number from 0 to 1"),
            ("did_web=nan", "did_web is nan: choose a number from 0 to 1"),
            ("rotate_key=1", "together: choose 1 at most"),
        ],
    )
    def test_a_mix_that_cannot_be_is_named(self, share: str, complaint: str) -> None:
        with self.start("--accounts", "1", "--mix", share) as process:
            _, stderr = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 2
        assert complaint in stderr

    def test_a_truth_that_cannot_be_written_is_named(self, tmp_path: Path) -> None:
        path = tmp_path / "nowhere" / "truth"
        with self.start("--accounts", "1", "--truth", str(path)) as process:
            _, stderr = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 2
        assert f"cannot write the truth to {path}" in stderr
