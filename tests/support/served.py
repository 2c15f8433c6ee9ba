"""The event stream out of `frames`, and clients of others that read it."""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from atproto import (  # type: ignore[import-untyped]  # it has no py.typed
    FirehoseSubscribeReposClient,
)
from support.replay import RELAY, Sent
from websockets.sync.client import ClientConnection, connect

from pipelines.config import KafkaConfig
from pipelines.replay.planning import Request
from pipelines.serving import frames_server
from pipelines.serving.frames_server import Limits
from pipelines.subscriptions import encode_message

PATIENCE_S = 60


@contextlib.contextmanager
def served(
    kafka: KafkaConfig, request: Request | None = None, limits: Limits | None = None
) -> Iterator[str]:
    """Serves frames while the block runs; yields the address of the stream."""
    wanted = request or Request(("frames",), host=RELAY, is_following=True)

    def serve(tell: Callable[[str], None], should_stop: Callable[[], bool]) -> None:
        frames_server.serve(
            kafka, wanted, ("127.0.0.1", 0), lambda _host, url: tell(url), should_stop, limits
        )

    with in_thread(serve) as url:
        yield url


@contextlib.contextmanager
def in_thread(
    serve: Callable[[Callable[[str], None], Callable[[], bool]], None],
) -> Iterator[str]:
    """Runs a server while the block runs; yields its address, or raises why there is none.

    Args:
        serve: is given whom to tell the address, and what to ask whether to stop.
    """
    is_up, is_over = threading.Event(), threading.Event()
    addresses: list[str] = []
    failures: list[BaseException] = []

    def tell(address: str) -> None:
        addresses.append(address)
        is_up.set()

    def run() -> None:
        try:
            serve(tell, is_over.is_set)
        except BaseException as failure:  # noqa: BLE001 - raised where it is waited for
            failures.append(failure)
            is_up.set()

    thread = threading.Thread(target=run, name="serve-test")
    thread.start()
    try:
        assert is_up.wait(PATIENCE_S)
        if failures:
            raise failures[0]
        yield addresses[0]
    finally:
        is_over.set()
        thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert not failures


def subscribe(
    url: str, cursor: int | None = None, *, max_queue: int | None = 16
) -> ClientConnection:
    """Connects as the `websockets` library does."""
    query = "" if cursor is None else f"?cursor={cursor}"
    return connect(url + query, max_size=None, max_queue=max_queue, open_timeout=PATIENCE_S)


def take(socket: ClientConnection, count: int) -> list[bytes]:
    """Returns the next messages."""
    messages = [socket.recv(PATIENCE_S) for _ in range(count)]
    assert all(isinstance(message, bytes) for message in messages)
    return [bytes(message) for message in messages if isinstance(message, bytes)]


def collect(url: str, count: int, cursor: int | None = None) -> list[bytes]:
    """Returns the first messages for a subscriber."""
    with subscribe(url, cursor) as socket:
        return take(socket, count)


class _Recorder(FirehoseSubscribeReposClient):  # type: ignore[misc]  # has no annotations
    """The client of PyPI's atproto, which also keeps what it decodes."""

    def __init__(self, base_uri: str, cursor: int) -> None:
        super().__init__({"cursor": cursor}, base_uri)
        self.raw: list[bytes] = []

    def _decode_frame(self, raw_frame: str | bytes) -> Any:
        assert isinstance(raw_frame, bytes)
        self.raw.append(raw_frame)
        return super()._decode_frame(raw_frame)


def read_foreign_stream(url: str, count: int, cursor: int) -> list[bytes]:
    """Returns the first frames as PyPI's atproto gets them; it has to understand each."""
    client = _Recorder(url.partition("/xrpc/")[0] + "/xrpc", cursor)
    decoded: list[Any] = []

    def take_one(message: Any) -> None:
        decoded.append(message)
        if len(decoded) == count:
            client.stop()

    client.start(take_one)
    assert len(decoded) == count
    return client.raw


def made_frames(
    first_seq: int, count: int, now_ms: int, *, size_bytes: int = 100
) -> Sequence[Sent]:
    """Returns frames of several accounts, whose blocks are no CAR."""
    return [
        Sent(
            RELAY,
            seq,
            encode_message(
                "#commit",
                {
                    "seq": seq,
                    "repo": f"did:web:a{seq % 7}.example",
                    "blocks": seq.to_bytes(8) + bytes(size_bytes),
                },
            ),
            now_ms,
        )
        for seq in range(first_seq, first_seq + count)
    ]
