"""The DNS on the wire, and hosts that lead astray (spec: E-07, M-20)."""

import asyncio
import socket
from collections.abc import Callable
from typing import cast

import dns.asyncresolver
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from pipelines.atproto.errors import IdentityError, Reason
from pipelines.atproto.syntax import Did, Handle
from pipelines.errors import IdentityUnavailableError
from pipelines.identity import handles
from pipelines.identity.fetching import Fetcher, FetchLimits, Guard
from pipelines.identity.pace import PaceLimits

_DEADLINE_S = 20.0
_NAME = "_atproto.alice.example.com"

Answer = Callable[[dns.message.QueryMessage], dns.message.Message | None]


class _NameServer(asyncio.DatagramProtocol):
    """A name server on loopback that answers everything in one way."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # asyncio's own transport does not derive from the type that it has for it.
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        assert isinstance(query, dns.message.QueryMessage)
        answer = self._answer(query)
        if answer is not None and self.transport is not None:
            self.transport.sendto(answer.to_wire(), addr)


def _ask(answer: Answer, name: str = _NAME) -> list[str]:
    async def run() -> list[str]:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(
            lambda: _NameServer(answer), local_addr=("127.0.0.1", 0)
        )
        try:
            asked = dns.asyncresolver.Resolver(configure=False)
            asked.nameservers = ["127.0.0.1"]
            asked.port = transport.get_extra_info("sockname")[1]
            async with asyncio.timeout(_DEADLINE_S):
                return await handles.lookup_txt(name, asked)
        finally:
            transport.close()

    return asyncio.run(run())


def _records(*texts: str) -> Answer:
    def answer(query: dns.message.QueryMessage) -> dns.message.Message:
        response = dns.message.make_response(query)
        response.answer.append(
            dns.rrset.from_text(query.question[0].name, 60, "IN", "TXT", *texts)
        )
        return response

    return answer


def _code(code: dns.rcode.Rcode) -> Answer:
    def answer(query: dns.message.QueryMessage) -> dns.message.Message:
        response = dns.message.make_response(query)
        response.set_rcode(code)
        return response

    return answer


def test_every_record_is_one_text() -> None:
    """A record may come in several strings, which belong together."""
    answer = _records('"v=spf1 -all"', '"did=did:plc:" "abc"', r'"\255"')
    assert sorted(_ask(answer)) == ["did=did:plc:abc", "v=spf1 -all", "�"]


def test_no_such_name_and_no_such_record_are_none() -> None:
    assert _ask(_code(dns.rcode.NXDOMAIN)) == []
    assert _ask(dns.message.make_response) == []


def test_a_name_too_long_for_the_dns_has_none() -> None:
    longest = ".".join(["a" * 62] * 4)[:253]
    assert _ask(_records('"did=x"'), f"_atproto.{longest}") == []


def test_a_name_server_that_fails_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spec: E-18."""
    monkeypatch.setattr(handles, "DNS_TIMEOUT_S", 0.2)
    for answer in (_code(dns.rcode.SERVFAIL), lambda _query: None):
        with pytest.raises(IdentityUnavailableError, match="the DNS does not tell"):
            _ask(answer)


async def _no_txt(_name: str) -> list[str]:
    return []


async def _resolve_at(address: str) -> Did:
    """Resolves a handle whose host is at an address."""
    limits = FetchLimits(PaceLimits(1, 1_000, 1_000), 1, 5.0)
    guard = Guard(lookup=lambda _host, _port: {address: socket.AF_INET})
    resolver = handles.HandleResolver(Fetcher(limits, guard), _no_txt)
    try:
        async with asyncio.timeout(_DEADLINE_S):
            return await resolver.resolve(Handle("alice.example.com"))
    finally:
        await resolver.close()


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254"])
def test_a_host_that_is_not_public_is_never_asked(address: str) -> None:
    """Spec: M-20."""
    with pytest.raises(IdentityError) as refusal:
        asyncio.run(_resolve_at(address))
    assert refusal.value.reason is Reason.IDENTITY_HANDLE
    assert "no address on the public network" in refusal.value.detail
