"""The address of an event stream, and what it means when connecting to it fails.

Shared by everything that opens a relay's or PDS's socket (`bridge`, `capture`). Opens nothing
itself.

Source: atproto.com/specs/event-stream "Connection"; lexicon com.atproto.sync.subscribeRepos.
spec: F-01, F-02
"""

import re
import socket
from http import HTTPStatus
from urllib.parse import urlsplit

import aiohttp

from pipelines.errors import ConfigError

SUBSCRIBE_PATH = "/xrpc/com.atproto.sync.subscribeRepos"

# A later try may succeed after these; 405, 426 and 501 say that it never will, and any other
# answer means that the address is not that of a relay. spec: F-02
RETRY_STATUSES = frozenset(
    {
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.INTERNAL_SERVER_ERROR,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)

_SOCKET_SCHEMES = {"wss": "wss", "https": "wss", "ws": "ws", "http": "ws"}
_DEFAULT_PORTS = {"wss": ":443", "ws": ":80"}
_LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
_HOST = re.compile(r"[0-9a-z_.-]+|[0-9a-f:.]*:[0-9a-f:.]*")  # a DNS name or IPv4, or IPv6


def subscribe_url(text: str, cursor: int | None = None) -> str:
    """Returns the websocket URL of the event stream at an address.

    Args:
        text: `wss://host`, `https://host`, `ws://…`, `http://…`, or a bare `host[:port]`, which
            means TLS except on loopback; with or without the path of the stream.
        cursor: the upstream sequence number to continue after; 0 for the oldest event there is,
            None for new events only.

    Returns:
        `ws[s]://host[:port]/xrpc/com.atproto.sync.subscribeRepos[?cursor=N]`.

    Raises:
        ConfigError: the text is no such address; the message says what to write instead.

    >>> subscribe_url("relay.example", 17)
    'wss://relay.example/xrpc/com.atproto.sync.subscribeRepos?cursor=17'
    """
    address = text.strip()
    try:
        parts = urlsplit(address if "://" in address else f"//{address}")
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise _not_an_address(text, str(error)) from None
    default = "ws" if host in _LOOPBACK_HOSTS else "wss"
    scheme = _SOCKET_SCHEMES.get(parts.scheme) if parts.scheme else default
    if scheme is None:
        raise _not_an_address(text, f"{parts.scheme}:// is not a scheme of event streams")
    if "@" in parts.netloc:
        raise _not_an_address(text, "the stream is public, leave the user name out")
    if not _HOST.fullmatch(host):
        raise _not_an_address(text, f"{host!r} is not a host name" if host else "it has no host")
    if parts.query or parts.fragment:
        raise _not_an_address(text, "leave '?' and '#' out, a cursor has an option of its own")
    if parts.path.rstrip("/") not in ("", SUBSCRIBE_PATH):
        raise _not_an_address(text, f"the path is not {SUBSCRIBE_PATH}, which may be left out")
    bracketed = f"[{host}]" if ":" in host else host
    authority = bracketed if port is None else f"{bracketed}:{port}"
    query = "" if cursor is None else f"?cursor={cursor}"
    return f"{scheme}://{authority}{SUBSCRIBE_PATH}{query}"


def service_url(text: str) -> str:
    """Returns the base URL of the XRPC calls at the address of a relay or PDS.

    Args:
        text: as of `subscribe_url`.

    Returns:
        `http[s]://host[:port]`.

    Raises:
        ConfigError: as of `subscribe_url`.

    >>> service_url("wss://relay.example")
    'https://relay.example'
    """
    return subscribe_url(text).removesuffix(SUBSCRIBE_PATH).replace("ws", "http", 1)


def host_of(address: str) -> str:
    """Returns the name under which an upstream is known in all topics.

    Args:
        address: address of the upstream, as `subscribe_url` takes it.

    Returns:
        `host`, or `host:port` where the port is not that of the scheme; lower case.

    Raises:
        ConfigError: it is no such address.
    """
    parts = urlsplit(subscribe_url(address))
    return parts.netloc.removesuffix(_DEFAULT_PORTS[parts.scheme])


def is_retryable(error: Exception) -> bool:
    """Returns whether connecting again later may succeed.

    Args:
        error: what opening or reading the socket raised.
    """
    if isinstance(error, aiohttp.ClientResponseError):
        return error.status in RETRY_STATUSES
    if isinstance(error, aiohttp.ClientSSLError | aiohttp.InvalidURL):
        return False
    return isinstance(error, aiohttp.ClientError | OSError)


def retry_after_s(error: Exception) -> float | None:
    """Returns the seconds the upstream asks us to wait (`Retry-After`), where it does.

    Args:
        error: what opening the socket raised. The header's other form, a date, is not read.
    """
    if not isinstance(error, aiohttp.WSServerHandshakeError) or error.headers is None:
        return None
    value = error.headers.get("Retry-After", "")
    return float(value) if re.fullmatch(r"[0-9]{1,6}", value) else None


def connect_error(error: Exception) -> str:  # noqa: PLR0911 - one return for each kind of failure
    """Says in a sentence why the socket could not be opened, and what to do.

    Args:
        error: what opening the socket raised.

    Returns:
        A sentence without the address, which the caller puts in front of it.
    """
    match error:
        case aiohttp.WSServerHandshakeError():
            return _handshake_error(error.status)
        case aiohttp.ClientConnectorCertificateError():
            return (
                f"the host's TLS certificate is not valid ({error.certificate_error}): "
                "check the host name and this machine's clock"
            )
        case aiohttp.ClientConnectorSSLError():
            return "the host does not speak TLS on this port: try ws:// if it is a local one"
        case aiohttp.ClientConnectorDNSError():
            if isinstance(error.os_error, socket.gaierror) and error.os_error.errno in (
                socket.EAI_NONAME,
                socket.EAI_NODATA,
            ):
                return f"there is no host named {error.host}: check the spelling"
            return (
                f"the name {error.host} cannot be looked up now: "
                "check the spelling and this machine's network"
            )
        case aiohttp.ClientConnectorError() if isinstance(error.os_error, ConnectionRefusedError):
            return (
                f"nothing listens on port {error.port} of {error.host}: "
                "check host and port, and whether the relay runs"
            )
        case TimeoutError():
            return "the host does not answer: check the address and this machine's network"
        case aiohttp.ServerDisconnectedError() | ConnectionResetError():
            return "the host closed the connection: try again, or check that it is a relay"
        case aiohttp.TooManyRedirects():
            return "the host redirects without end: name the relay itself"
        case aiohttp.ClientResponseError():
            return "the host does not speak HTTP: check the port"
        case _:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            return (
                f"the connection failed ({reason}): check the address and this machine's network"
            )


def _handshake_error(status: int) -> str:
    not_a_relay = "check that the address is that of a relay or PDS"
    if status in RETRY_STATUSES:
        return f"the host has no room or is in trouble (HTTP {status}): try again later"
    if status == HTTPStatus.SWITCHING_PROTOCOLS:
        return f"the host's websocket handshake is faulty: {not_a_relay}"
    if status == HTTPStatus.BAD_REQUEST:
        return f"the host refused the request (HTTP 400): check the cursor, and {not_a_relay}"
    if status < HTTPStatus.BAD_REQUEST:
        return f"the host answered with a page (HTTP {status}) instead of a stream: {not_a_relay}"
    return f"the host has no event stream there (HTTP {status}): {not_a_relay}"


def _not_an_address(text: str, problem: str) -> ConfigError:
    return ConfigError(
        f"{text!r} is not the address of a relay: {problem}; "
        "write it like wss://relay.example or ws://127.0.0.1:2583"
    )
