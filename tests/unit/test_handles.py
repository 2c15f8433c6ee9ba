"""Handles that lead back to their account, and those that do not (spec: E-06 to E-08, M-21)."""

import asyncio
from collections.abc import Sequence

import pytest

from pipelines.atproto.errors import IdentityError, Reason
from pipelines.atproto.syntax import Did, Handle
from pipelines.errors import IdentityUnavailableError
from pipelines.identity.fetching import AbsentError, UnusableError
from pipelines.identity.handles import (
    MAX_WELL_KNOWN_BYTES,
    HandleCheck,
    HandleResolver,
    did_of_txt,
    did_of_well_known,
)

_DID = Did("did:plc:ewvi7nxzyoun6zhxrhs64oiz")
_OTHER = Did("did:web:example.org")
_HANDLE = Handle("alice.example.com")
_ABSENT = AbsentError("there is none")
_AWAY = IdentityUnavailableError("nobody answers")


class _World:
    """A DNS and a host that answer with what they are given, and note what they are asked."""

    def __init__(
        self,
        txt: Sequence[str] | IdentityUnavailableError = (),
        body: bytes | Exception = _ABSENT,
    ) -> None:
        self._txt = txt
        self._body = body
        self.asked: list[str] = []
        self.is_closed = False

    async def lookup(self, name: str) -> Sequence[str]:
        self.asked.append(name)
        if isinstance(self._txt, Exception):
            raise self._txt
        return self._txt

    async def get(self, url: str, limit_bytes: int) -> bytes:
        self.asked.append(url)
        assert limit_bytes == MAX_WELL_KNOWN_BYTES
        if isinstance(self._body, Exception):
            raise self._body
        return self._body

    async def close(self) -> None:
        self.is_closed = True

    def check(self, handle: Handle = _HANDLE) -> HandleCheck:
        async def run() -> HandleCheck:
            resolver = HandleResolver(self, self.lookup)
            try:
                return await resolver.check(_DID, handle)
            finally:
                await resolver.close()

        checked = asyncio.run(run())
        assert self.is_closed
        return checked


def test_the_dns_is_asked_first_and_counts_alone() -> None:
    world = _World([f"did={_DID}"], body=_OTHER.encode())
    assert world.check() == HandleCheck(_HANDLE, _DID, None)
    assert world.asked == ["_atproto.alice.example.com"]


@pytest.mark.parametrize("txt", [[], ["v=spf1 -all", "did", "DID=did:plc:x", ""], _AWAY])
def test_the_host_is_asked_where_the_dns_names_nobody(
    txt: Sequence[str] | IdentityUnavailableError,
) -> None:
    world = _World(txt, f"{_DID}\n".encode())
    assert world.check() == HandleCheck(_HANDLE, _DID, None)
    assert world.asked[1:] == ["https://alice.example.com/.well-known/atproto-did"]


def test_a_name_that_leads_to_another_account_is_not_this_ones() -> None:
    """Spec: E-06."""
    assert _World([f"did={_OTHER}"]).check() == HandleCheck(
        _HANDLE, _OTHER, f"it leads to {_OTHER}"
    )


@pytest.mark.parametrize(
    ("world", "problem"),
    [
        (_World(), "neither the DNS nor its host names a DID (there is none)"),
        (_World(body=UnusableError("too large")), "names a DID (too large)"),
        (_World(body=b"<html>"), "the host names not a DID: '<html>'"),
        (_World(body=b"\xff"), "the host names not a DID"),
        (_World(body=b""), "the host names not a DID"),
        (_World(["did=x"], body=_DID.encode()), "the DNS names not a DID: 'x'"),
        (_World([f"did={_DID}", f"did={_OTHER}"]), "the DNS names several DIDs"),
    ],
)
def test_a_name_that_leads_nowhere_is_nobodys(world: _World, problem: str) -> None:
    checked = world.check()
    assert checked.did is None
    assert checked.problem is not None
    assert problem in checked.problem


@pytest.mark.parametrize(
    "world", [_World(_AWAY), _World(_AWAY, _AWAY), _World(body=_AWAY), _World(_AWAY, _ABSENT)]
)
def test_what_cannot_be_told_now_is_no_refusal(world: _World) -> None:
    """Spec: E-18: the host has no file, but the DNS might have had the record."""
    checked = world.check()
    assert checked.problem == "it cannot be told now: nobody answers"


@pytest.mark.parametrize(
    "name", ["alice.test", "alice.local", "alice.onion", "alice.example", "a.internal"]
)
def test_nobody_is_asked_about_reserved_names(name: str) -> None:
    """Spec: E-08."""
    world = _World([f"did={_DID}"])
    assert world.check(Handle(name)).problem == "it is no name of the public network"
    assert world.asked == []


def test_the_same_did_named_twice_is_one() -> None:
    """Spec: E-07: more than one distinct DID fails."""
    assert did_of_txt([f"did={_DID}", "other", f"did={_DID}"]) == _DID


@pytest.mark.parametrize("value", ["did=", f"did= {_DID}", f"did={_DID} ", "did=DID:PLC:x"])
def test_a_record_is_exact(value: str) -> None:
    with pytest.raises(IdentityError) as refusal:
        did_of_txt([value])
    assert refusal.value.reason is Reason.IDENTITY_HANDLE


def test_white_space_around_the_hosts_answer_does_not_matter() -> None:
    assert did_of_well_known(b" \r\n" + _DID.encode() + b"\t\n") == _DID
