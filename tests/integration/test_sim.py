"""The captured network over real sockets, as a relay, a directory and a host serve it."""

import asyncio
import dataclasses
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import cbor2
import pytest
from yarl import URL

from pipelines.atproto.frames import parse_envelope
from pipelines.captures import read_frames
from pipelines.errors import ConfigError
from pipelines.relay import subscribe_url
from pipelines.sim.network import CapturedNetwork, captured_frames, load_network
from pipelines.sim.ports import CursorHabit
from pipelines.sim.relay import RELAY
from pipelines.sim.service import SimServer
from pipelines.sim.state import Faults

STANDPIPE = Path(sys.executable).with_name("standpipe")
DEADLINE_S = 30.0

PLC_DID = "did:plc:2hnjcpc32qkzk35lxypg6xey"
GIVEN_UP_DID = "did:plc:owqp3frvbhmcxjtgzr3y6gfo"
WEB_DID = "did:web:localhost%3A2590"

T = TypeVar("T")


@pytest.fixture(scope="module")
def network(capture_folder: Path) -> CapturedNetwork:
    return load_network(capture_folder)


@pytest.fixture(scope="module")
def sim(network: CapturedNetwork) -> Iterator[SimServer]:
    with SimServer(network) as server:
        yield server


def numbered(*seqs: int, size: int = 0) -> CapturedNetwork:
    """A network of events of an unknown type, with nothing in them but their number."""
    header = cbor2.dumps({"op": 1, "t": "#other"}, canonical=True)
    payloads = [cbor2.dumps({"seq": seq, "fill": bytes(size)}, canonical=True) for seq in seqs]
    return CapturedNetwork(captured_frames([header + payload for payload in payloads]))


def seq_of(message: aiohttp.WSMessage) -> int:
    seq = parse_envelope(message.data).seq
    assert seq is not None
    return seq


def run(conversation: Callable[[aiohttp.ClientSession], Coroutine[Any, Any, T]]) -> T:
    async def with_deadline() -> T:
        async with asyncio.timeout(DEADLINE_S), aiohttp.ClientSession() as session:
            return await conversation(session)

    return asyncio.run(with_deadline())


def subscribe(session: aiohttp.ClientSession, sim: SimServer, cursor: int | None = None) -> Any:
    return session.ws_connect(subscribe_url(sim.addresses.relay, cursor), max_msg_size=1 << 24)


def receive(sim: SimServer, count: int, cursor: int | None = None) -> list[aiohttp.WSMessage]:
    async def conversation(session: aiohttp.ClientSession) -> list[aiohttp.WSMessage]:
        async with subscribe(session, sim, cursor) as socket:
            return [await socket.receive() for _ in range(count)]

    return run(conversation)


def get(url: str) -> tuple[int, str, bytes]:
    async def conversation(session: aiohttp.ClientSession) -> tuple[int, str, bytes]:
        async with session.get(URL(url, encoded=True)) as response:
            return response.status, response.content_type, await response.read()

    return run(conversation)


def export_page(sim: SimServer, **query: Any) -> list[Any]:
    """Returns the lines of a page; there is no line feed after the last one."""
    text = "&".join(f"{name}={value}" for name, value in query.items())
    status, content_type, body = get(f"{sim.addresses.plc}/export?{text}")
    assert (status, content_type) == (200, "application/jsonlines")
    return [json.loads(line) for line in body.split(b"\n")] if body else []


def get_json(url: str) -> tuple[int, Any]:
    status, _, body = get(url)
    return status, json.loads(body)


def websocket_request(url: URL) -> bytes:
    """A handshake by hand: what follows is then not read unless the test does."""
    return (
        f"GET {url.raw_path_qs} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    ).encode()


def server_transports(sim: SimServer) -> list[asyncio.Transport]:
    return list(sim._app[RELAY]._sockets._transports.values())


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline, "the condition never came true"
        time.sleep(0.005)


class TestRelay:
    def test_the_whole_capture_comes_byte_for_byte(
        self, sim: SimServer, capture_folder: Path
    ) -> None:
        """spec: F-26."""
        captured = list(read_frames(capture_folder / "frames.bin"))
        messages = receive(sim, len(captured), cursor=0)
        assert [message.data for message in messages] == captured
        assert {message.type for message in messages} == {aiohttp.WSMsgType.BINARY}

    @pytest.mark.parametrize(
        ("habit", "seqs"), [(CursorHabit.EXCLUSIVE, [8, 11]), (CursorHabit.INCLUSIVE, [7, 8, 11])]
    )
    def test_both_habits_at_the_cursor(self, habit: CursorHabit, seqs: list[int]) -> None:
        """spec: F-23."""
        with SimServer(numbered(2, 7, 8, 11), cursor_habit=habit) as sim:
            messages = receive(sim, len(seqs), cursor=7)
        assert [seq_of(message) for message in messages] == seqs

    def test_without_a_cursor_only_new_frames_come(self) -> None:
        """spec: F-22."""
        with SimServer(numbered(*range(1, 41)), rate=100) as sim:

            async def conversation(session: aiohttp.ClientSession) -> tuple[list[int], list[int]]:
                async with subscribe(session, sim) as first:
                    early = [seq_of(await first.receive()) for _ in range(5)]
                    async with subscribe(session, sim) as second:
                        late = [seq_of(await second.receive())]
                        while late[-1] < 40:
                            late.append(seq_of(await second.receive()))
                return early, late

            early, late = run(conversation)
        assert early == [1, 2, 3, 4, 5]
        assert late[0] > 5
        assert late == list(range(late[0], 41))

    @pytest.mark.shared
    def test_a_future_cursor_gets_the_error_that_the_reference_host_sends(
        self, sim: SimServer, shared_data: Path
    ) -> None:
        """spec: F-14, F-25."""
        recorded = shared_data / "pds-corpus" / "extra" / "error-future-cursor.bin"
        error, closing = receive(sim, 2, cursor=10**12)
        assert [error.data] == list(read_frames(recorded))
        assert (closing.type, closing.data) == (aiohttp.WSMsgType.CLOSE, 1008)
        assert closing.extra == "FutureCursor"

    @pytest.mark.shared
    def test_an_outdated_cursor_gets_the_info_that_the_reference_host_sends(
        self, shared_data: Path
    ) -> None:
        """spec: F-24."""
        recorded = shared_data / "pds-corpus" / "extra" / "info-outdated-cursor.bin"
        with SimServer(numbered(1, 2, 3, 4), retained_count=2) as sim:
            info, *messages = receive(sim, 3, cursor=1)
        assert info.data == next(read_frames(recorded))
        assert [seq_of(message) for message in messages] == [3, 4]

    @pytest.mark.parametrize("cursor", ["", "x", "-1", "1.0", "1_0", "%2B1", "%D9%A3", "9" * 30])
    def test_a_cursor_that_is_no_number_is_a_bad_request(
        self, sim: SimServer, cursor: str
    ) -> None:
        """spec: J-16."""
        url = subscribe_url(sim.addresses.relay).replace("ws:", "http:")
        status, body = get_json(f"{url}?cursor={cursor}")
        assert (status, body["error"]) == (400, "InvalidRequest")

    def test_a_request_that_is_no_websocket_is_told_so(self, sim: SimServer) -> None:
        """spec: F-02."""
        status, _, _ = get(subscribe_url(sim.addresses.relay).replace("ws:", "http:"))
        assert status == 426

    def test_garbage_and_text_come_in_their_places(self) -> None:
        events = [frame.message for frame in numbered(1, 2).frames]
        messages = [b"\xff\xff", events[0], "text", b"", events[1]]
        with SimServer(CapturedNetwork(captured_frames(messages))) as sim:
            received = receive(sim, 5, cursor=0)
            after_first = receive(sim, 3, cursor=1)
        assert [message.data for message in received] == messages
        assert received[2].type is aiohttp.WSMsgType.TEXT
        assert [message.data for message in after_first] == messages[2:]

    def test_a_relay_can_withhold_a_part_on_an_open_socket(self) -> None:
        with SimServer(numbered(*range(1, 301)), faults=Faults(withheld_percent=95)) as sim:
            part = receive(sim, 15, cursor=0)
            sim.faults.withheld_percent = 0
            whole = receive(sim, 300, cursor=0)
        assert [seq_of(message) for message in part] == [
            hundred + number for hundred in (0, 100, 200) for number in range(96, 101)
        ]
        assert [seq_of(message) for message in whole] == list(range(1, 301))

    def test_a_socket_that_drops_is_continued_by_cursor(self) -> None:
        faults = Faults(drop_after_count=4)
        with SimServer(numbered(*range(1, 13), size=100_000), faults=faults) as sim:

            async def conversation(
                session: aiohttp.ClientSession,
            ) -> tuple[list[int], list[int | None]]:
                seqs: list[int] = []
                codes: list[int | None] = []
                while len(seqs) < 12:
                    async with subscribe(session, sim, seqs[-1] if seqs else 0) as socket:
                        seqs.extend([seq_of(message) async for message in socket])
                        codes.append(socket.close_code)
                return seqs, codes

            seqs, codes = run(conversation)
        assert seqs == list(range(1, 13))
        assert codes == [1006, 1006, 1006]

    def test_a_subscriber_that_does_not_read_costs_nothing_and_holds_up_nobody(self) -> None:
        total, size = 64, 1_000_000
        with SimServer(numbered(*range(1, total + 1), size=size)) as sim:
            url = URL(subscribe_url(sim.addresses.relay, 0))

            async def conversation(session: aiohttp.ClientSession) -> tuple[list[int], list[int]]:
                _, writer = await asyncio.open_connection(url.host, url.port, limit=1)
                writer.write(websocket_request(url))
                async with subscribe(session, sim, 0) as socket:
                    seqs = [seq_of(await socket.receive()) for _ in range(total)]
                    unsent = [
                        transport.get_write_buffer_size() for transport in server_transports(sim)
                    ]
                writer.close()
                return seqs, unsent

            seqs, unsent = run(conversation)
        assert seqs == list(range(1, total + 1))
        assert len(unsent) == 2
        # A frame or two wait in memory for the one that does not read, not all the others.
        assert 0 < max(unsent) < 4 * size

    def test_a_restarted_relay_still_knows_its_cursors(self) -> None:
        with SimServer(numbered(*range(1, 11)), rate=1000) as sim:
            messages = receive(sim, 4, cursor=6)
        assert [seq_of(message) for message in messages] == [7, 8, 9, 10]

    def test_stopping_closes_the_sockets(self) -> None:
        """spec: F-18, the subscriber's own messages are ignored."""
        sim = SimServer(numbered(1))
        sim.start()

        async def conversation(session: aiohttp.ClientSession) -> tuple[int, int | None]:
            async with subscribe(session, sim) as socket:
                await socket.send_str("hello")
                await socket.send_bytes(b"hello")
                seq = seq_of(await socket.receive())
                stopping = asyncio.create_task(asyncio.to_thread(sim.stop))
                await socket.receive()
                await stopping
                return seq, socket.close_code

        assert run(conversation) == (1, 1001)

    def test_stopping_cuts_off_a_subscriber_that_does_not_read(self) -> None:
        sim = SimServer(numbered(*range(1, 65), size=1_000_000))
        sim.start()
        url = URL(subscribe_url(sim.addresses.relay, 0))
        with socket.create_connection((url.host, url.port)) as stuck:
            stuck.sendall(websocket_request(url))
            wait_until(lambda: any(t.get_write_buffer_size() for t in server_transports(sim)))
            sim.stop()  # raises when the server does not end
            stuck.settimeout(DEADLINE_S)
            received = b""
            while part := stuck.recv(1_000_000):
                received += part
        assert received.startswith(b"HTTP/1.1 101 ")
        assert len(received) < 64_000_000


class TestDirectory:
    def test_documents_come_as_they_were_captured(
        self, sim: SimServer, network: CapturedNetwork
    ) -> None:
        """spec: E-10."""
        status, content_type, body = get(f"{sim.addresses.plc}/{PLC_DID}")
        assert (status, content_type) == (200, "application/did+ld+json")
        assert json.loads(body) == network.identities[PLC_DID].document

    def test_audit_logs_come_as_they_were_captured(
        self, sim: SimServer, network: CapturedNetwork
    ) -> None:
        """spec: L-01."""
        for did in (PLC_DID, GIVEN_UP_DID):
            status, body = get_json(f"{sim.addresses.plc}/{did}/log/audit")
            assert (status, body) == (200, network.identities[did].audit_log)

    def test_the_export_has_every_operation_once_in_order(
        self, sim: SimServer, network: CapturedNetwork
    ) -> None:
        """spec: L-12."""
        known = [
            (did, entry["cid"], entry["createdAt"])
            for did, identity in network.identities.items()
            for entry in identity.audit_log or ()
        ]
        lines: list[Any] = []
        while page := export_page(sim, after=len(lines), count=10):
            assert len(page) <= 10
            lines += page
        assert [line["seq"] for line in lines] == list(range(1, len(known) + 1))
        assert [line["createdAt"] for line in lines] == sorted(time for _, _, time in known)
        assert sorted((line["did"], line["cid"], line["createdAt"]) for line in lines) == sorted(
            known
        )
        members = {"type", "did", "operation", "cid", "createdAt", "seq"}
        assert all(set(line) == members for line in lines)
        assert {line["type"] for line in lines} == {"sequenced_op"}

    def test_the_export_by_time_comes_after_the_time(self, sim: SimServer) -> None:
        """spec: L-12."""
        by_seq = export_page(sim, after=0)
        by_time = export_page(sim)
        assert [line["cid"] for line in by_time] == [line["cid"] for line in by_seq]
        assert set(by_time[0]) == {"did", "operation", "cid", "nullified", "createdAt"}
        middle = by_time[7]["createdAt"]
        later = [line for line in by_time if line["createdAt"] > middle]
        assert export_page(sim, after=middle, count=3) == later[:3]

    @pytest.mark.parametrize("query", ["count=0", "count=x", "after=yesterday"])
    def test_a_page_that_cannot_be_is_refused(self, sim: SimServer, query: str) -> None:
        status, _, _ = get(f"{sim.addresses.plc}/export?{query}")
        assert status == 400

    def test_a_did_web_document_is_at_its_host(
        self, sim: SimServer, network: CapturedNetwork
    ) -> None:
        """spec: E-09."""
        url = f"{sim.addresses.did_web}/localhost:2590/.well-known/did.json"
        assert get_json(url) == (200, network.identities[WEB_DID].document)

    @pytest.mark.parametrize(
        ("path", "message"),
        [
            ("/did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", "DID not registered"),
            ("/did:plc:aaaaaaaaaaaaaaaaaaaaaaaa/log/audit", "DID not registered"),
            (f"/{GIVEN_UP_DID}", "DID not available"),
            ("/did:web:localhost%253A2590", "DID not registered"),
            ("/web/relay.example/.well-known/did.json", "DID not registered"),
            ("/web/localhost:2591/.well-known/did.json", "DID not registered"),
        ],
    )
    def test_what_is_not_there_is_not_found(self, sim: SimServer, path: str, message: str) -> None:
        """spec: E-10."""
        status, body = get_json(sim.addresses.plc + path)
        assert status == 404
        assert body["message"].startswith(message)

    def test_an_account_without_a_log_has_none(self, network: CapturedNetwork) -> None:
        identity = network.identities[PLC_DID]
        without_log = type(identity)(identity.document)
        with SimServer(CapturedNetwork((), {PLC_DID: without_log})) as sim:
            status, _ = get_json(f"{sim.addresses.plc}/{PLC_DID}/log/audit")
        assert status == 404


class TestRepos:
    def url(self, sim: SimServer, method: str, query: str) -> str:
        base = sim.addresses.plc
        return f"{base}/xrpc/com.atproto.sync.{method}?{query}"

    def test_a_repository_comes_byte_for_byte(self, sim: SimServer, capture_folder: Path) -> None:
        """spec: I-04."""
        for did, folder in (
            (PLC_DID, "did_plc_2hnjcpc32qkzk35lxypg6xey"),
            ("did%3Aweb%3Alocalhost%253A2590", "did_web_localhost_3A2590"),
        ):
            status, content_type, body = get(self.url(sim, "getRepo", f"did={did}"))
            assert (status, content_type) == (200, "application/vnd.ipld.car")
            assert body == (capture_folder / "accounts" / folder / "repo.car").read_bytes()

    @pytest.mark.parametrize(
        ("query", "error"),
        [
            ("did=did:plc:6svc6jhbazr4uowggrcf3at4", "RepoDeactivated"),
            ("did=did:plc:tebnmuctbmvdu73ubduqcc5o", "RepoTakendown"),
            ("did=did:plc:ucegttp4adsjxyjyslzxfyqo", "RepoNotFound"),
            ("did=did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", "RepoNotFound"),
            ("", "InvalidRequest"),
        ],
    )
    def test_a_repository_that_is_not_served_says_why(
        self, sim: SimServer, query: str, error: str
    ) -> None:
        """spec: I-08."""
        for method in ("getRepo", "getLatestCommit"):
            status, body = get_json(self.url(sim, method, query))
            assert (status, body["error"]) == (400, error)
            assert body["message"]

    def test_heads_and_statuses_are_those_of_the_host(self, sim: SimServer) -> None:
        """spec: I-11."""
        rev = "3n2vrwmiujb25"
        status, body = get_json(self.url(sim, "getLatestCommit", f"did={PLC_DID}"))
        assert (status, body["rev"]) == (200, rev)
        status, body = get_json(self.url(sim, "getRepoStatus", f"did={PLC_DID}"))
        assert (status, body) == (200, {"did": PLC_DID, "active": True, "rev": rev})
        deactivated = "did:plc:6svc6jhbazr4uowggrcf3at4"
        status, body = get_json(self.url(sim, "getRepoStatus", f"did={deactivated}"))
        expected = {"did": deactivated, "active": False, "status": "deactivated"}
        assert (status, body) == (200, expected)

    def test_repositories_are_listed_in_pages(
        self, sim: SimServer, network: CapturedNetwork
    ) -> None:
        """spec: I-09."""
        listed: list[dict[str, Any]] = []
        query = "limit=6"
        pages = 0
        while True:
            status, body = get_json(self.url(sim, "listRepos", query))
            assert status == 200
            listed += body["repos"]
            pages += 1
            if "cursor" not in body:
                break
            query = f"limit=6&cursor={body['cursor']}"
        with_head = [
            did
            for did, account in network.accounts.items()
            if "error" not in account.latest_commit
        ]
        assert [repo["did"] for repo in listed] == with_head
        assert pages == 3
        assert listed[0].keys() == {"did", "head", "rev", "active"}
        for query in ("limit=0", "limit=1001", "limit=x", "cursor=x"):
            status, body = get_json(self.url(sim, "listRepos", query))
            assert (status, body["error"]) == (400, "InvalidRequest")


class TestControl:
    def post(self, sim: SimServer, body: str) -> tuple[int, Any]:
        async def conversation(session: aiohttp.ClientSession) -> tuple[int, Any]:
            async with session.post(f"{sim.addresses.plc}/sim/faults", data=body) as response:
                return response.status, await response.json()

        return run(conversation)

    def test_identities_go_away_and_come_back(self, network: CapturedNetwork) -> None:
        with SimServer(network) as sim:
            urls = [
                f"{sim.addresses.plc}/{PLC_DID}",
                f"{sim.addresses.plc}/{PLC_DID}/log/audit",
                f"{sim.addresses.did_web}/localhost:2590/.well-known/did.json",
            ]
            status, body = self.post(sim, '{"plc_down": true}')
            assert (status, body) == (200, dataclasses.asdict(Faults(plc_down=True)))
            assert [get(url)[0] for url in urls] == [503, 503, 503]
            self.post(sim, '{"drop_after_count": 7}')
            assert sim.faults == Faults(plc_down=True, drop_after_count=7)
            sim.faults.plc_down = False
            assert [get(url)[0] for url in urls] == [200, 200, 200]

    def test_the_directory_answers_so_often_and_no_more(self, network: CapturedNetwork) -> None:
        with SimServer(network) as sim:
            urls = [f"{sim.addresses.plc}/{PLC_DID}", f"{sim.addresses.plc}/export"]
            # One in a thousand seconds: the second request is one too many.
            self.post(sim, '{"plc_per_s": 0.001}')
            assert [get(url)[0] for url in urls] == [200, 429]
            answer, retry_after = self.asked_too_often(sim)
            assert (answer, retry_after) == (429, "1")
            self.post(sim, '{"plc_per_s": null}')
            assert [get(url)[0] for url in urls] == [200, 200]

    def asked_too_often(self, sim: SimServer) -> tuple[int, str | None]:
        async def conversation(session: aiohttp.ClientSession) -> tuple[int, str | None]:
            async with session.get(f"{sim.addresses.plc}/{PLC_DID}") as response:
                return response.status, response.headers.get("Retry-After")

        return run(conversation)

    @pytest.mark.parametrize(
        "body",
        [
            *("", "[]", "1", '{"plc": true}', '{"plc_down": 1}', '{"drop_after_count": 0}'),
            *('{"plc_per_s": 0}', '{"plc_per_s": true}', '{"plc_per_s": "1"}'),
            '{"withheld_percent": 101}',
        ],
    )
    def test_a_fault_that_does_not_exist_is_refused(self, sim: SimServer, body: str) -> None:
        status, answer = self.post(sim, body)
        assert status == 400
        assert answer["message"]
        assert sim.faults == Faults()

    def test_the_status_counts_what_was_served(self, network: CapturedNetwork) -> None:
        with SimServer(network) as sim:
            total = len(network.frames)
            nothing = {
                "frames_emitted": 0,
                "frames_prepared": total,
                "frames_total": total,
                "subscribers": 0,
            }
            assert sim.status() == nothing | {"requests": {}}
            get(f"{sim.addresses.plc}/{PLC_DID}")
            get(f"{sim.addresses.plc}/{PLC_DID}")
            receive(sim, 1)
            wait_until(lambda: sim.status()["subscribers"] == 0)
            requests = {"plc_document": 2, "subscribeRepos": 1}
            expected = nothing | {"frames_emitted": total, "requests": requests}
            assert get_json(f"{sim.addresses.plc}/sim/status") == (200, expected)

    def test_a_port_that_is_taken_is_named(self, sim: SimServer) -> None:
        port = URL(sim.addresses.plc).port
        assert port is not None
        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{port}"):
            SimServer(CapturedNetwork(()), port=port).start()


class TestCommand:
    def start(self, folder: Path, *options: str) -> subprocess.Popen[str]:
        arguments = [str(STANDPIPE), "sim", "--capture", str(folder), *options]
        return subprocess.Popen(
            arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_it_serves_until_it_is_told_to_stop(
        self, capture_folder: Path, number: signal.Signals
    ) -> None:
        with self.start(capture_folder, "--json") as process:
            try:
                assert process.stdout is not None
                addresses = json.loads(process.stdout.readline())
                assert addresses.keys() == {"relay", "plc", "did_web", "pds"}
                assert get_json(f"{addresses['plc']}/sim/status")[1]["frames_total"] == 501
                process.send_signal(number)
                assert process.wait(DEADLINE_S) == 0
            finally:
                process.kill()

    def test_it_prints_an_address_a_line(self, capture_folder: Path) -> None:
        with self.start(capture_folder) as process:
            try:
                assert process.stdout is not None
                lines = [process.stdout.readline().split() for _ in range(3)]
            finally:
                process.kill()
        assert [name for name, _ in lines] == ["relay", "plc", "did-web"]
        port = URL(lines[0][1]).port
        assert [url for _, url in lines] == [
            f"ws://127.0.0.1:{port}",
            f"http://127.0.0.1:{port}",
            f"http://127.0.0.1:{port}/web",
        ]

    def test_a_folder_that_is_no_capture_is_named(self, tmp_path: Path) -> None:
        with self.start(tmp_path) as process:
            stdout, stderr = process.communicate(timeout=DEADLINE_S)
        assert (process.returncode, stdout) == (1, "")
        assert stderr == (
            f"Error: {tmp_path}: not a captured network, "
            "it lacks frames.bin and identities.jsonl\n"
        )
