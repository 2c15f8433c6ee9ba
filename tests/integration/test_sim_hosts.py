"""The PDSes of a generated network over real sockets, and what may be wrong with them."""

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import aiohttp
import pytest
from support.oracle import build

from pipelines.atproto.cid import encode_cid
from pipelines.atproto.errors import ProtocolError
from pipelines.atproto.record_proof import verify_record
from pipelines.atproto.repo import verify_repo
from pipelines.atproto.syntax import Did, tid_time_us
from pipelines.relay import subscribe_url
from pipelines.sim.generated import GeneratedNetwork
from pipelines.sim.mix import Mix, Settings
from pipelines.sim.service import SimServer
from pipelines.sim.state import Faults, HostFaults

DEADLINE_S = 60.0
ACCOUNTS_COUNT = 9
HOSTS = ["pds.sim.example", "pds1.sim.example", "pds2.sim.example"]
HOST = HOSTS[1]
# Commits and nothing else.
WRITING = Mix(delete_account=0, deactivate_account=0, change_handle=0, rotate_key=0, sign_again=0)

T = TypeVar("T")


def run(conversation: Callable[[aiohttp.ClientSession], Coroutine[Any, Any, T]]) -> T:
    async def with_deadline() -> T:
        async with asyncio.timeout(DEADLINE_S), aiohttp.ClientSession() as session:
            return await conversation(session)

    return asyncio.run(with_deadline())


@pytest.fixture
def network() -> GeneratedNetwork:
    return GeneratedNetwork(
        Settings(ACCOUNTS_COUNT, seed=8, records_count=40, hosts_count=3, mix=WRITING),
        prepared_bytes=100_000,
    )


@pytest.fixture
def sim(network: GeneratedNetwork) -> Iterator[SimServer]:
    with SimServer(network) as running:
        yield running


class Answer:
    """What came back: status, headers and body."""

    def __init__(self, response: aiohttp.ClientResponse, body: bytes) -> None:
        self.status, self.headers, self.body = response.status, response.headers, body

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(sim: SimServer, method: str, query: str = "", host: str | None = HOST) -> Answer:
    """Asks a PDS, or the relay."""
    base = sim.addresses.plc if host is None else f"{sim.addresses.pds}/{host}"
    url = f"{base}/xrpc/com.atproto.sync.{method}?{query}"

    async def conversation(session: aiohttp.ClientSession) -> Answer:
        async with session.get(url, allow_redirects=False) as response:
            return Answer(response, await response.read())

    return run(conversation)


def break_host(sim: SimServer, name: str = HOST, **faults: Any) -> None:
    """Sets the faults of a host as `POST /sim/faults` does; mends all others."""

    async def conversation(session: aiohttp.ClientSession) -> None:
        body = {"hosts": {name: faults}}
        async with session.post(f"{sim.addresses.plc}/sim/faults", json=body) as response:
            assert response.status == 200, await response.text()
            assert (await response.json())["hosts"][name].items() >= faults.items()

    run(conversation)


def dids_at(network: GeneratedNetwork, host: str) -> list[Did]:
    return [did for did in network.known.accounts() if network.host_of(did) == host]


class TestHosts:
    def test_a_pds_answers_for_those_whose_documents_name_it(
        self, sim: SimServer, network: GeneratedNetwork
    ) -> None:
        """spec: I-04, I-08, I-11."""
        for did in [dids_at(network, host)[-1] for host in HOSTS]:
            account = network.known.account(did)
            head = account.state.head
            assert head is not None
            assert account.state.identity.pds == f"https://{account.state.host}"
            answers = {host: ask(sim, "getRepo", f"did={did}", host) for host in [*HOSTS, None]}
            for host in (account.state.host, None):
                proven = verify_repo(
                    answers.pop(host).body, account.state.identity.signing_key, did=did
                )
                assert proven.commit_cid == head.commit_cid
                assert proven.record_count == len(account.records)
                latest = ask(sim, "getLatestCommit", f"did={did}", host).json
                assert latest == {"cid": encode_cid(head.commit_cid), "rev": head.commit.rev}
                status = ask(sim, "getRepoStatus", f"did={did}", host).json
                assert status == {"did": did, "active": True, "rev": head.commit.rev}
            assert [answer.status for answer in answers.values()] == [400, 400]
            assert {answer.json["error"] for answer in answers.values()} == {"RepoNotFound"}

    def test_a_record_or_its_absence_is_proven_by_the_account_s_host(
        self, sim: SimServer, network: GeneratedNetwork
    ) -> None:
        """spec: I-12."""
        did = dids_at(network, HOST)[0]
        account = network.known.account(did)
        key = account.state.identity.signing_key
        path, record = next(iter(account.records.items()))
        collection, _, rkey = path.partition("/")
        query = f"did={did}&collection={collection}&rkey={rkey}"
        whole_bytes = len(ask(sim, "getRepo", f"did={did}").body)
        for host in (HOST, None):
            proof = ask(sim, "getRecord", query, host).body
            assert verify_record(proof, key, did=did, path=path).record == record
            assert len(proof) < whole_bytes
            proof = ask(sim, "getRecord", f"{query}x", host).body
            assert verify_record(proof, key, did=did, path=f"{path}x").record_cid is None
        elsewhere = next(host for host in HOSTS if host != HOST)
        refused = [
            ask(sim, "getRecord", query, elsewhere),
            ask(sim, "getRecord", f"did={did}&collection={collection}"),
        ]
        assert [answer.json["error"] for answer in refused] == ["RepoNotFound", "InvalidRequest"]

    def test_since_is_accepted_and_everything_comes(
        self, sim: SimServer, network: GeneratedNetwork
    ) -> None:
        did = dids_at(network, HOST)[0]
        whole = ask(sim, "getRepo", f"did={did}").body
        assert ask(sim, "getRepo", f"did={did}&since=3m5aaaaaaaa22").body == whole
        refused = ask(sim, "getRepo", f"did={did}&since=yesterday")
        assert (refused.status, refused.json["error"]) == (400, "InvalidRequest")

    def test_each_host_lists_its_own(self, sim: SimServer, network: GeneratedNetwork) -> None:
        """spec: I-09."""
        everybody = []
        for host in HOSTS:
            first = ask(sim, "listRepos", "limit=2", host).json
            second = ask(sim, "listRepos", f"limit=2&cursor={first['cursor']}", host).json
            listed = [repo["did"] for repo in [*first["repos"], *second["repos"]]]
            assert listed == dids_at(network, host)
            assert "cursor" not in second
            everybody += listed
        relay = ask(sim, "listRepos", host=None).json["repos"]
        assert sorted(repo["did"] for repo in relay) == sorted(everybody)

    def test_the_relay_lists_the_hosts(self, sim: SimServer) -> None:
        """spec: H-14."""
        sim.faults.hosts = {HOSTS[2]: HostFaults(is_down=True)}
        first = ask(sim, "listHosts", "limit=2", host=None).json
        second = ask(sim, "listHosts", f"limit=2&cursor={first['cursor']}", host=None).json
        assert "cursor" not in second
        assert [*first["hosts"], *second["hosts"]] == [
            {"hostname": HOSTS[0], "accountCount": 3, "status": "active"},
            {"hostname": HOSTS[1], "accountCount": 3, "status": "active"},
            {"hostname": HOSTS[2], "accountCount": 3, "status": "offline"},
        ]

    def test_the_relay_knows_who_has_a_collection(
        self, sim: SimServer, network: GeneratedNetwork
    ) -> None:
        """spec: I-10."""
        having: dict[str, list[str]] = {}
        for did, account in network.known.accounts().items():
            for collection in {path.partition("/")[0] for path in account.records}:
                having.setdefault(collection, []).append(did)
        rare = min(having, key=lambda collection: len(having[collection]))
        expected = having[rare]
        assert 0 < len(expected) < ACCOUNTS_COUNT
        listed, query = [], f"collection={rare}&limit=1"
        while True:
            page = ask(sim, "listReposByCollection", query, host=None).json
            listed += [repo["did"] for repo in page["repos"]]
            if "cursor" not in page:
                break
            query = f"collection={rare}&limit=1&cursor={page['cursor']}"
        assert listed == expected
        for wrong in ("", "collection=no", f"collection={rare}&limit=2001"):
            refused = ask(sim, "listReposByCollection", wrong, host=None)
            assert (refused.status, refused.json["error"]) == (400, "InvalidRequest")

    def test_the_relay_may_send_everybody_to_the_pds(
        self, sim: SimServer, network: GeneratedNetwork
    ) -> None:
        """spec: I-06."""
        did = dids_at(network, HOST)[0]
        sim.faults.relay_redirects = True
        answer = ask(sim, "getRepo", f"did={did}", host=None)
        expected = f"https://{HOST}/xrpc/com.atproto.sync.getRepo?did={did}"
        assert (answer.status, answer.headers["Location"]) == (302, expected)
        assert ask(sim, "getRepo", f"did={did}").status == 200


class TestFaults:
    def test_a_host_that_is_down_breaks_every_connection(self, sim: SimServer) -> None:
        for host in (HOST, "pds9.sim.example"):
            break_host(sim, is_down=True)
            for method in (
                "getRepo",
                "getRecord",
                "getLatestCommit",
                "getRepoStatus",
                "listRepos",
            ):
                with pytest.raises(aiohttp.ClientConnectionError):
                    ask(sim, method, host=host)
        assert ask(sim, "listRepos", host=HOSTS[0]).status == 200
        assert ask(sim, "listRepos", host=None).status == 200

    def test_every_pds_may_be_meant_or_the_relay(self, sim: SimServer) -> None:
        sim.faults.hosts = {"*": HostFaults(status=502), HOST: HostFaults()}
        statuses = [ask(sim, "listRepos", host=host).status for host in [*HOSTS, None]]
        assert statuses == [502, 200, 502, 200]
        sim.faults.hosts = {"relay": HostFaults(status=503)}
        statuses = [ask(sim, "listRepos", host=host).status for host in [*HOSTS, None]]
        assert statuses == [200, 200, 200, 503]

    def test_errors_may_be_no_json(self, sim: SimServer, network: GeneratedNetwork) -> None:
        """spec: I-08."""
        break_host(sim, status=502)
        answer = ask(sim, "listRepos")
        assert (answer.status, answer.headers["Content-Type"]) == (502, "text/html; charset=utf-8")
        break_host(sim, has_plain_errors=True)
        answer = ask(sim, "getRepo", "did=did:plc:aaaaaaaaaaaaaaaaaaaaaaaa")
        assert (answer.status, answer.headers["Content-Type"]) == (400, "text/html; charset=utf-8")
        assert b"400 Bad Request" in answer.body
        assert ask(sim, "getRepoStatus", f"did={dids_at(network, HOST)[0]}").json["active"]

    def test_a_host_may_ask_for_a_pause(self, sim: SimServer) -> None:
        """spec: I-07."""
        break_host(sim, per_s=0.001, retry_after_s=7)
        answers = [ask(sim, "listRepos") for _ in range(3)]
        assert [answer.status for answer in answers] == [200, 429, 429]
        assert answers[1].headers["Retry-After"] == "7"
        assert answers[1].json["error"] == "RateLimitExceeded"
        assert ask(sim, "listRepos", host=HOSTS[0]).status == 200

    def test_a_car_may_be_cut_short(self, sim: SimServer, network: GeneratedNetwork) -> None:
        """spec: C-02: as if it were whole, or with a broken connection."""
        did = dids_at(network, HOST)[0]
        key = network.known.account(did).state.identity.signing_key
        whole = ask(sim, "getRepo", f"did={did}").body
        break_host(sim, truncated_bytes=1_500)
        part = ask(sim, "getRepo", f"did={did}").body
        assert part == whole[:1_500]
        with pytest.raises(ProtocolError):
            verify_repo(part, key)
        break_host(sim, cut_bytes=1_500)
        with pytest.raises(aiohttp.ClientError):
            ask(sim, "getRepo", f"did={did}")
        for name in ("truncated_bytes", "cut_bytes"):
            break_host(sim, HOST, **{name: len(whole)})
            assert ask(sim, "getRepo", f"did={did}").body == whole

    def test_a_car_may_come_slowly(self, sim: SimServer, network: GeneratedNetwork) -> None:
        """Nothing is timed: pieces are as small as the pace demands, and all of it comes."""
        did = dids_at(network, HOST)[0]
        whole = ask(sim, "getRepo", f"did={did}").body
        break_host(sim, bytes_per_s=len(whole) * 10)

        async def conversation(session: aiohttp.ClientSession) -> list[bytes]:
            url = f"{sim.addresses.pds}/{HOST}/xrpc/com.atproto.sync.getRepo?did={did}"
            async with session.get(url) as response:
                return [chunk async for chunk, _ in response.content.iter_chunks()]

        chunks = run(conversation)
        assert b"".join(chunks) == whole

    def test_a_stale_host_is_one_commit_behind(
        self, sim: SimServer, network: GeneratedNetwork
    ) -> None:
        """spec: I-05: whole and signed, but old."""
        before = network.known.accounts()

        async def read(session: aiohttp.ClientSession) -> None:
            async with session.ws_connect(subscribe_url(sim.addresses.relay, 0)) as socket:
                while any(network.known.stale_account(did) is None for did in before):
                    await socket.receive()

        run(read)
        break_host(sim, name="*", is_stale=True)
        moved_on = 0
        for did, account in network.known.accounts().items():
            stale = network.known.stale_account(did)
            assert stale is not None
            assert stale.state.head is not None
            assert account.state.head is not None
            commit = stale.state.head.commit
            assert build(stale.cids()).root == commit.data_cid
            assert commit.rev < account.state.head.commit.rev
            moved_on += stale.state.head != before[did].state.head
            answer = ask(sim, "getRepo", f"did={did}", account.state.host)
            proven = verify_repo(answer.body, account.state.identity.signing_key, did=did)
            assert proven.commit == commit
            latest = ask(sim, "getLatestCommit", f"did={did}", account.state.host).json
            assert latest["rev"] == commit.rev
            assert ask(sim, "getLatestCommit", f"did={did}", None).json["rev"] > commit.rev
        assert moved_on

    def test_a_list_may_name_who_never_was(
        self, sim: SimServer, network: GeneratedNetwork
    ) -> None:
        break_host(sim, unknown_count=2)
        first = ask(sim, "listRepos").json["repos"]
        again = ask(sim, "listRepos").json["repos"]
        assert first == again
        unknown = [repo["did"] for repo in first[:2]]
        assert [repo["did"] for repo in first[2:]] == dids_at(network, HOST)
        assert all(network.find_identity(did) is None for did in unknown)
        assert ask(sim, "getRepo", f"did={unknown[0]}").json["error"] == "RepoNotFound"

    def test_a_list_may_have_wrong_heads(self, sim: SimServer, network: GeneratedNetwork) -> None:
        break_host(sim, has_wrong_heads=True)
        for repo in ask(sim, "listRepos").json["repos"]:
            head = network.known.account(repo["did"]).state.head
            assert head is not None
            assert repo["head"] != encode_cid(head.commit_cid)
            assert tid_time_us(repo["rev"]) > tid_time_us(head.commit.rev)

    def test_a_list_may_have_no_end(self, sim: SimServer, network: GeneratedNetwork) -> None:
        break_host(sim, is_endless=True)
        listed, cursors, query = [], [], "limit=2"
        for _ in range(7):
            page = ask(sim, "listRepos", query).json
            listed += [repo["did"] for repo in page["repos"]]
            cursors.append(page["cursor"])
            query = f"limit=2&cursor={page['cursor']}"
        assert len(cursors) == len(set(cursors)) == 7
        assert listed == (dids_at(network, HOST) * 4)[: len(listed)]

    @pytest.mark.parametrize(
        ("faults", "complaint"),
        [
            ({"is_down": 1}, "is_down is true or false"),
            ({"status": 200}, "status is an HTTP status of an error, or null"),
            ({"per_s": 0}, "per_s is a number above 0, or null"),
            ({"per_s": True}, "per_s is a number above 0, or null"),
            ({"bytes_per_s": 0}, "bytes_per_s is a number from 1 on"),
            ({"unknown_count": None}, "unknown_count is a number from 0 on"),
            ({"cut_bytes": -1}, "cut_bytes is a number from 0 on"),
        ],
    )
    def test_a_fault_that_cannot_be_is_named(self, faults: dict[str, Any], complaint: str) -> None:
        with pytest.raises(ValueError, match=complaint):
            HostFaults(**faults)

    def test_a_host_of_the_faults_is_an_object(self, sim: SimServer) -> None:
        wrong: list[Any] = [[], {HOST: 1}, {HOST: {"no_such": 1}}, {HOST: {"is_down": "yes"}}]

        async def conversation(session: aiohttp.ClientSession) -> list[int]:
            url = f"{sim.addresses.plc}/sim/faults"
            statuses = []
            for hosts in wrong:
                async with session.post(url, json={"hosts": hosts}) as response:
                    statuses.append(response.status)
            return statuses

        assert run(conversation) == [400] * 4
        assert sim.faults == Faults()
