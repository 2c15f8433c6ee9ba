"""Addresses of event streams, and what is said when one cannot be opened."""

import doctest
import socket
import ssl

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from pipelines import relay
from pipelines.errors import ConfigError
from pipelines.relay import connect_error, is_retryable, retry_after_s, subscribe_url

PATH = "/xrpc/com.atproto.sync.subscribeRepos"

REQUEST = aiohttp.RequestInfo(
    URL("https://relay.example/"), "GET", CIMultiDictProxy(CIMultiDict()), URL()
)
KEY = ConnectionKey(
    "relay.example",
    443,
    is_ssl=True,
    ssl=True,
    proxy=None,
    proxy_auth=None,
    proxy_headers_hash=None,
)


def handshake_error(status: int, **headers: str) -> aiohttp.WSServerHandshakeError:
    return aiohttp.WSServerHandshakeError(REQUEST, (), status=status, headers=CIMultiDict(headers))


@pytest.mark.parametrize(
    ("text", "base"),
    [
        ("wss://relay.example", "wss://relay.example"),
        ("https://relay.example", "wss://relay.example"),
        ("relay.example", "wss://relay.example"),
        ("relay.example:8443", "wss://relay.example:8443"),
        (" https://relay.example/ ", "wss://relay.example"),
        ("WSS://Relay.Example", "wss://relay.example"),
        (f"wss://relay.example{PATH}", "wss://relay.example"),
        (f"relay.example{PATH}/", "wss://relay.example"),
        ("ws://relay.example:2583", "ws://relay.example:2583"),
        ("http://127.0.0.1:2583/", "ws://127.0.0.1:2583"),
        ("127.0.0.1:2583", "ws://127.0.0.1:2583"),
        ("localhost", "ws://localhost"),
        ("[::1]:2583", "ws://[::1]:2583"),
        ("wss://localhost", "wss://localhost"),
    ],
)
def test_every_form_of_an_address_leads_to_the_stream(text: str, base: str) -> None:
    """spec: F-01."""
    assert subscribe_url(text) == base + PATH
    assert subscribe_url(subscribe_url(text)) == base + PATH


def test_a_cursor_of_zero_is_not_the_same_as_none() -> None:
    """spec: F-22, F-26."""
    assert subscribe_url("relay.example") == f"wss://relay.example{PATH}"
    assert subscribe_url("relay.example", 0) == f"wss://relay.example{PATH}?cursor=0"
    assert subscribe_url("relay.example", 2**53 - 1).endswith("?cursor=9007199254740991")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "it has no host"),
        ("wss://", "it has no host"),
        ("wss:///xrpc", "it has no host"),
        ("ftp://relay.example", "ftp:// is not a scheme"),
        ("kafka://relay.example", "kafka:// is not a scheme"),
        ("a relay", "'a relay' is not a host name"),
        ("relay.example:0x50", "Port could not be cast"),
        ("relay.example:99999", "Port out of range"),
        ("[::1", "Invalid IPv6 URL"),
        ("user:secret@relay.example", "leave the user name out"),
        ("relay.example/feed", f"the path is not {PATH}"),
        ("relay.example?cursor=5", "a cursor has an option of its own"),
        ("relay.example#top", "leave '?' and '#' out"),
    ],
)
def test_what_is_no_address_is_refused_with_the_remedy(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        subscribe_url(text)
    assert problem in str(caught.value)
    assert "write it like wss://relay.example" in str(caught.value)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_host_in_trouble_is_worth_another_try(status: int) -> None:
    """spec: F-02."""
    error = handshake_error(status)
    assert is_retryable(error)
    assert f"(HTTP {status}): try again later" in connect_error(error)


@pytest.mark.parametrize("status", [101, 200, 302, 400, 401, 403, 404, 405, 426, 501])
def test_a_host_that_has_no_stream_is_not_worth_another_try(status: int) -> None:
    """spec: F-02."""
    error = handshake_error(status)
    assert not is_retryable(error)
    assert "check that the address is that of a relay or PDS" in connect_error(error)


def test_the_host_says_when_to_come_back() -> None:
    """spec: F-02."""
    assert retry_after_s(handshake_error(429, **{"Retry-After": "17"})) == 17
    assert retry_after_s(handshake_error(429)) is None
    assert retry_after_s(handshake_error(429, **{"Retry-After": "soon"})) is None
    assert retry_after_s(handshake_error(429, **{"Retry-After": "9" * 99})) is None
    assert retry_after_s(TimeoutError()) is None


@pytest.mark.parametrize(
    ("error", "sentence", "retryable"),
    [
        (
            aiohttp.ClientConnectorDNSError(KEY, socket.gaierror(socket.EAI_NONAME, "no name")),
            "there is no host named relay.example: check the spelling",
            True,
        ),
        (
            aiohttp.ClientConnectorDNSError(KEY, socket.gaierror(socket.EAI_AGAIN, "later")),
            "the name relay.example cannot be looked up now",
            True,
        ),
        (
            aiohttp.ClientConnectorError(KEY, ConnectionRefusedError(111, "refused")),
            "nothing listens on port 443 of relay.example",
            True,
        ),
        (
            aiohttp.ClientConnectorError(KEY, OSError(113, "No route to host")),
            "the connection failed (No route to host)",
            True,
        ),
        (
            aiohttp.ClientConnectorSSLError(KEY, ssl.SSLError(1, "wrong version number")),
            "the host does not speak TLS on this port",
            False,
        ),
        (
            aiohttp.ClientConnectorCertificateError(KEY, ssl.CertificateError("self-signed")),
            "the host's TLS certificate is not valid",
            False,
        ),
        (TimeoutError(), "the host does not answer", True),
        (aiohttp.ServerTimeoutError(), "the host does not answer", True),
        (aiohttp.ServerDisconnectedError(), "the host closed the connection", True),
        (ConnectionResetError(), "the host closed the connection", True),
        (aiohttp.ClientResponseError(REQUEST, ()), "the host does not speak HTTP", False),
        (aiohttp.TooManyRedirects(REQUEST, ()), "the host redirects without end", False),
        (aiohttp.ClientPayloadError("cut"), "the connection failed (cut)", True),
        (RuntimeError(), "the connection failed (RuntimeError)", False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_each_failure_is_said_in_a_sentence(
    error: Exception, sentence: str, *, retryable: bool
) -> None:
    assert sentence in connect_error(error)
    assert is_retryable(error) is retryable


def test_the_examples_in_the_documentation_hold() -> None:
    outcome = doctest.testmod(relay)
    assert (outcome.failed, outcome.attempted) == (0, 2)
