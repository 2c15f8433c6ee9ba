"""Look-ups and downloads of repositories, from servers that are slow, wrong, away or hostile."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web
from support import wire
from support.exports import export
from support.kafka import wait_until
from support.repo import DID, OTHER_DID, OTHER_SIGNER, SIGNER, record
from support.resyncs import Accounts, Pds, car, refuses
from support.web import Handler

from pipelines.atproto.keys import VerifyingKey
from pipelines.atproto.repo import Limits
from pipelines.atproto.syntax import Did
from pipelines.identity import pace
from pipelines.identity.fetching import Fetcher, FetchLimits
from pipelines.identity.pace import PaceLimits
from pipelines.identity.streams import StreamLimits
from pipelines.repair.manifests import RepoError
from pipelines.repair.requests import Cause, Request
from pipelines.resync import downloads as downloads_module
from pipelines.resync.downloads import (
    GONE_ATTEMPTS,
    Account,
    DownloadLimits,
    Downloads,
    Failed,
    Fetched,
    Held,
    Located,
    Missing,
    Outcome,
    error_name,
)
from pipelines.resync.jobs import Job, failed, job_of
from pipelines.resync.schedule import Start
from pipelines.resync.service import Servers
from pipelines.resync.sources import Source
from pipelines.resync.spool import Spool

VALUES = {f"com.example.note/{n:04}": record(f"note {n}") for n in range(40)}
EXPORT = export(VALUES, rev=wire.rev(5))
STREAM = StreamLimits(total_bytes=1_000_000, total_s=20)
QUICK = PaceLimits(concurrent_count=8, per_s=1_000, burst_count=1_000)


class Fetching:
    """Downloads with everything they need."""

    def __init__(self, folder: Path) -> None:
        self.pds = Pds()
        self.spool = Spool(folder, limit_bytes=10_000_000)
        self.accounts = Accounts(None)
        self.accounts.keys[DID] = SIGNER.key
        self.downloads: Downloads

    def open(
        self,
        stream: StreamLimits = STREAM,
        servers: Servers = Servers(allow_loopback=True),  # noqa: B008 - frozen
    ) -> Downloads:
        """Makes the downloads anew, with other limits."""
        self.downloads = Downloads(
            self.accounts,
            Fetcher(FetchLimits(QUICK, 8), servers.guard),
            self.spool,
            DownloadLimits(stream, Limits()),
            servers.base,
        )
        return self.downloads

    def start(
        self,
        did: Did = DID,
        *,
        attempts: int = 0,
        host: str | None = None,
        cause: Cause = Cause.BACKFILL,
    ) -> Start:
        request = Request(did, cause, None, None, host, 1_790_000_000_000_000)
        job: Job = job_of(request, 0, None, 0)
        for _ in range(attempts):
            job = failed(job, "no", 0, is_last_source=True)
        return Start(job, 0, None)

    def look_up(self, start: Start) -> Outcome:
        self.downloads.look_up(start)
        return self.land()

    def fetch(
        self, start: Start | None = None, *, key: VerifyingKey = SIGNER.key, is_last: bool = True
    ) -> Outcome:
        source = Source(self.pds.server.url, is_last)
        self.downloads.fetch(start or self.start(), Account(key, source))
        return self.land()

    def land(self) -> Outcome:
        landed: list[Outcome] = []

        def has_landed() -> bool:
            outcome = self.downloads.land()
            if outcome is not None:
                landed.append(outcome)
            return bool(landed)

        wait_until(has_landed, "an outcome")
        return landed[0]


@pytest.fixture
def fetching(tmp_path: Path) -> Iterator[Fetching]:
    made = Fetching(tmp_path)
    with made.pds.running() as made.pds.server:
        made.accounts.server = made.pds.server.url
        made.open()
        yield made
        made.downloads.close()
    assert made.spool.used_bytes == 0


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "MIN_PAUSE_S", 0.05)


def take(outcome: Outcome) -> Fetched:
    """Takes a repository and lets go of what waits for it."""
    assert isinstance(outcome, Fetched), outcome
    outcome.spooled.file.close()
    return outcome


def broken_off(body: bytes) -> Handler:
    """A server whose connection breaks in the middle."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(len(body))})
        await response.prepare(request)
        await response.write(body[: len(body) // 2])
        assert request.transport is not None
        request.transport.close()
        return response

    return handler


def trickles() -> Handler:
    """A server that sends a byte now and then, without an end."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"\0")
            await asyncio.sleep(0.01)

    return handler


# --- look-ups


def test_a_look_up_tells_the_key_and_the_server(fetching: Fetching) -> None:
    outcome = fetching.look_up(fetching.start())
    assert isinstance(outcome, Located)
    assert outcome.account == (SIGNER.key, (fetching.pds.server.url, True))
    assert fetching.pds.asked == {}


def test_an_account_without_a_server_cannot_be_fetched(fetching: Fetching) -> None:
    fetching.accounts.server = None
    outcome = fetching.look_up(fetching.start())
    assert isinstance(outcome, Failed)
    assert "names no server" in outcome.detail


def test_an_account_that_does_not_exist_may_be_a_new_one(fetching: Fetching) -> None:
    outcomes = [
        fetching.look_up(fetching.start(OTHER_DID, attempts=attempts))
        for attempts in range(GONE_ATTEMPTS + 1)
    ]
    assert [type(outcome) for outcome in outcomes] == [Failed] * GONE_ATTEMPTS + [Missing]
    gone = outcomes[-1]
    assert isinstance(gone, Missing)
    assert (gone.error, gone.status) == (RepoError.NOT_FOUND, "deleted")
    assert gone.host == "directory.example"


def test_one_that_was_announced_as_deleted_is_no_new_one(fetching: Fetching) -> None:
    gone = fetching.look_up(fetching.start(OTHER_DID, cause=Cause.DELETION))
    assert isinstance(gone, Missing)
    assert (gone.error, gone.status) == (RepoError.NOT_FOUND, "deleted")


# --- downloads


@pytest.mark.parametrize("large_bytes", [10, 10_000_000])
def test_a_repository_arrives_whole(
    fetching: Fetching, monkeypatch: pytest.MonkeyPatch, large_bytes: int
) -> None:
    """Also where it counts as a large one."""
    monkeypatch.setattr(downloads_module, "LARGE_BYTES", large_bytes)
    fetching.pds.repos[DID] = car(EXPORT.car())
    for _ in range(1 + downloads_module.LARGE_COUNT):  # a place that is not given back is missed
        found = take(fetching.fetch())
        assert found.spooled.verified.record_count == len(VALUES)
        assert found.host == f"127.0.0.1:{fetching.pds.server.port}"


FAULTS: dict[str, tuple[Handler, str]] = {
    "cut": (car(EXPORT.car()[:-5]), "car.truncated"),
    "broken off": (broken_off(EXPORT.car()), "cannot fetch"),
    "signature": (car(export(VALUES, OTHER_SIGNER).car()), "signature.invalid"),
    "other account": (car(export(VALUES, did=OTHER_DID).car()), "commit.did_mismatch"),
    "future": (car(export(VALUES, rev="jzzzzzzzzzzzz").car()), "commit.rev_future"),
    "page": (car(b"<html>"), "car."),
    "empty": (car(b""), "car."),
    "500": (refuses("InternalServerError", 500), "status 500"),
    "400": (refuses("InvalidRequest"), "InvalidRequest"),
    "no XRPC": (refuses("RepoNotFound", 404), "says"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_wrong_is_a_try_in_vain_and_leaves_nothing(fetching: Fetching, name: str) -> None:
    """Spec: I-08, M-07."""
    handler, detail = FAULTS[name]
    fetching.pds.repos[DID] = handler
    outcome = fetching.fetch(is_last=False)
    assert isinstance(outcome, Failed)
    assert detail in outcome.detail
    assert not outcome.is_last_source
    assert fetching.spool.used_bytes == 0


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RepoError.NOT_FOUND, None),
        (RepoError.TAKENDOWN, "takendown"),
        (RepoError.SUSPENDED, "suspended"),
        (RepoError.DEACTIVATED, "deactivated"),
    ],
)
def test_only_the_own_server_has_the_last_word(
    fetching: Fetching, error: RepoError, status: str | None
) -> None:
    """Spec: I-08."""
    fetching.pds.repos[DID] = refuses(error)
    missing = fetching.fetch(is_last=True)
    assert isinstance(missing, Missing)
    assert (missing.error, missing.status) == (error, status)
    other = fetching.fetch(is_last=False)
    assert isinstance(other, Failed)
    assert error in other.detail


def test_a_trickle_is_cut_off(fetching: Fetching) -> None:
    """Spec: M-07."""
    fetching.downloads.close()
    fetching.open(StreamLimits(1_000_000, total_s=20, window_s=0.2, window_bytes=100_000))
    fetching.pds.repos[DID] = trickles()
    outcome = fetching.fetch()
    assert isinstance(outcome, Failed)
    assert "bytes in" in outcome.detail


def test_one_that_is_too_large_is_cut_off(fetching: Fetching) -> None:
    fetching.downloads.close()
    fetching.open(StreamLimits(total_bytes=len(EXPORT.car()) - 1, total_s=20))
    fetching.pds.repos[DID] = car(EXPORT.car())
    outcome = fetching.fetch()
    assert isinstance(outcome, Failed)
    assert "larger than" in outcome.detail


def test_a_host_that_wants_a_pause_costs_no_try(fetching: Fetching) -> None:
    """Spec: I-07."""

    async def busy(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=429, headers={"Retry-After": "120"})

    fetching.pds.repos[DID] = busy
    for _ in range(3):
        outcome = fetching.fetch()
        assert isinstance(outcome, Held)
        assert 60 < outcome.retry_s <= 121
    assert fetching.pds.asked[DID] == 1


def test_a_full_disk_costs_no_try(fetching: Fetching, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pipelines.atproto.spill.Spill.write", full)
    fetching.pds.repos[DID] = car(EXPORT.car())
    outcome = fetching.fetch()
    assert isinstance(outcome, Held)
    assert "No space left" in outcome.detail


def test_a_key_that_has_just_been_changed_is_asked_for_past_caches(fetching: Fetching) -> None:
    """Spec: I-04."""
    fetching.pds.repos[DID] = car(EXPORT.car())
    take(fetching.fetch(key=OTHER_SIGNER.key))
    assert fetching.pds.asked == {DID: 2}
    assert fetching.accounts.asked == {DID: 1}


def test_without_the_switch_this_machine_is_never_asked(fetching: Fetching) -> None:
    """Spec: M-20."""
    fetching.downloads.close()
    fetching.open(servers=Servers())
    fetching.pds.repos[DID] = car(EXPORT.car())
    outcome = fetching.fetch()
    assert isinstance(outcome, Failed)
    assert "leads astray" in outcome.detail
    assert fetching.pds.asked == {}


def test_a_redirect_of_a_trusted_base_is_not_trusted(fetching: Fetching) -> None:
    """Spec: I-06, M-20."""
    inside = Pds()
    inside.repos[DID] = car(EXPORT.car())

    async def redirect(request: web.Request) -> web.StreamResponse:
        raise web.HTTPFound(f"http://127.0.0.1:{inside.server.port}{request.path_qs}")

    fetching.pds.repos[DID] = redirect
    fetching.downloads.close()
    fetching.open(servers=Servers(base=f"{fetching.pds.server.url}/pds"))
    with inside.running() as inside.server:
        outcome = fetching.fetch()
    assert isinstance(outcome, Failed)
    assert "leads astray" in outcome.detail
    assert fetching.pds.asked == {DID: 1}
    assert inside.asked == {}


def test_a_redirect_is_followed_and_names_who_answered(fetching: Fetching) -> None:
    """Spec: I-06."""
    own = Pds()
    own.repos[DID] = car(EXPORT.car())

    async def redirect(request: web.Request) -> web.StreamResponse:
        raise web.HTTPFound(f"{own.server.url}{request.path_qs}")

    fetching.pds.repos[DID] = redirect
    with own.running() as own.server:
        found = take(fetching.fetch())
        assert found.host == f"127.0.0.1:{own.server.port}"


def test_what_is_cut_off_never_lands(fetching: Fetching) -> None:
    fetching.pds.repos[DID] = trickles()
    fetching.accounts.keys[OTHER_DID] = SIGNER.key
    source = Source(fetching.pds.server.url, is_last=True)
    fetching.downloads.fetch(fetching.start(), Account(SIGNER.key, source))
    wait_until(lambda: fetching.pds.asked[DID] == 1, "the request")
    fetching.downloads.cancel()
    outcome = fetching.look_up(fetching.start(OTHER_DID))
    assert outcome.start.job.did == OTHER_DID
    assert fetching.downloads.land() is None


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (b'{"error":"RepoNotFound","message":"x"}', "RepoNotFound"),
        (b'{"error":7}', None),
        (b'{"message":"x"}', None),
        (b'["RepoNotFound"]', None),
        (b"<html>", None),
        (b"", None),
        (b"\xff", None),
    ],
)
def test_the_name_of_an_error_is_read_from_whatever_comes(body: bytes, name: str | None) -> None:
    assert error_name(body) == name
