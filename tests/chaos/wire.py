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
        self._newest = 0
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
        """Breaks the newest connection in the middle of the next bytes that come from the relay.

        Older ones are of a process that stands still, and reads nothing.
        """
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
            self._newest += 1
            for source, sink, number in ((near, far, None), (far, near, self._newest)):
                threading.Thread(
                    target=self._pass_on,
                    args=(source, sink, number),
                    name="wire",
                    daemon=True,
                ).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, number: int | None) -> None:
        """Passes one direction on; only that from the relay has the number of its connection."""
        with suppress(OSError):
            while chunk := source.recv(_CHUNK_BYTES):
                if number == self._newest and self._to_break.is_set():
                    sink.sendall(chunk[: self._random.randrange(len(chunk))])
                    self._to_break.clear()
                    self.broken_count += 1
                    break
                sink.sendall(chunk)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
