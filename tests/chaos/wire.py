"""A wire between the relay and the bridge that can break in the middle of a message."""

import random
import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

_CHUNK_BYTES = 4096


class Wire:
    """Passes bytes on, in both directions, between whoever connects and one port on loopback.

    Attributes:
        port: where it listens.
        broken_count: connections that it broke.
    """

    def __init__(self, target_port: int, seed: int) -> None:
        self._target_port = target_port
        self._random = random.Random(seed)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.broken_count = 0
        self._to_break = threading.Event()
        self._thread = threading.Thread(target=self._accept, name="wire", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # A thread that waits for a connection is not woken by close alone.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def break_next(self) -> None:
        """Breaks a connection in the middle of the next bytes that come from the relay."""
        self._to_break.set()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self._target_port))
            except OSError:
                near.close()
                continue
            for source, sink, is_from_relay in ((near, far, False), (far, near, True)):
                threading.Thread(
                    target=self._pass_on,
                    args=(source, sink, is_from_relay),
                    name="wire",
                    daemon=True,
                ).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, is_from_relay: bool) -> None:
        with suppress(OSError):
            while chunk := source.recv(_CHUNK_BYTES):
                if is_from_relay and self._to_break.is_set():
                    self._to_break.clear()
                    sink.sendall(chunk[: self._random.randrange(len(chunk))])
                    self.broken_count += 1
                    break
                sink.sendall(chunk)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
