"""An upstream that means no good: a websocket server that writes whatever bytes it likes.

It has honest events, too, and sends those after the cursor that it is asked for, so that a test
can tell whether they all arrive. Everything follows from a seed.
"""

import base64
import hashlib
import itertools
import random
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Self

from support import wire

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_BINARY: Final = 2
_SEND_BYTES: Final = 256 * 1024

# What goes to a client after the handshake, given the cursor that it asked for. When it is at its
# end the connection stays open, or breaks off if `cut` came last.
Habit = Callable[[int], Iterator[bytes]]
_CUT: Final = b""


def websocket_message(payload: bytes, opcode: int = _BINARY) -> bytes:
    """Returns a message in one websocket frame."""
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", 0x80 | opcode, size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", 0x80 | opcode, 126, size)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, 127, size)
    return head + payload


def event(seq: int, fill: int = 0) -> bytes:
    """Returns an honest event, as small as they are, or filled up."""
    moment = datetime.fromtimestamp(wire.START_US / 1e6 + seq, UTC)
    payload = {
        "did": f"did:web:a{seq % 7}.example",
        "seq": seq,
        "time": moment.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
    }
    return wire.frame("#identity", payload | ({"fill": bytes(fill)} if fill else {}))


def sized_event(seq: int, size: int) -> bytes:
    """Returns an honest event of exactly so many bytes, more than 70,000."""
    return event(seq, size - len(event(seq, 70_000)) + 70_000)


def info(text: str) -> bytes:
    """Returns what an upstream says about itself."""
    return wire.frame("#info", {"name": "Chatter", "message": text})


class Habits:
    """Ways of sending honest events among other things.

    Attributes:
        events: the honest ones, by number from 1 on.
    """

    def __init__(self, events: Sequence[bytes], seed: int) -> None:
        self.events = events
        self._random = random.Random(seed)

    def honest(self, cursor: int) -> Iterator[bytes]:
        """Nothing but the events."""
        yield from map(websocket_message, self.events[cursor:])

    def garbage(self, cursor: int) -> Iterator[bytes]:
        """Random bytes, half events and text between the events, as whole messages."""
        for number, frame in enumerate(self.events[cursor:]):
            for _ in range(self._random.randrange(3)):
                yield websocket_message(self._junk(frame), 1 + (number % 5 > 0))
            yield websocket_message(frame)

    def broken(self, cursor: int) -> Iterator[bytes]:
        """Some events, then half a message, or bytes that are no websocket's, and the end."""
        count = self._random.randrange(1, 1 + len(self.events) // 3)
        yield from map(websocket_message, self.events[cursor : cursor + count])
        if self._random.random() < 0.5:
            yield websocket_message(event(0, 100_000))[:50_000]
        else:
            yield b"\xff" + self._random.randbytes(10_000)
        yield _CUT

    def jumping(self, cursor: int) -> Iterator[bytes]:
        """Events again and again, from random places on, each time a little further."""
        end = cursor
        while end < len(self.events):
            start = self._random.randrange(end + 1)
            end = min(len(self.events), end + self._random.randrange(1, 200))
            yield from map(websocket_message, self.events[start:end])

    def talkative(self, cursor: int, infos_count: int = 50) -> Iterator[bytes]:
        """Many words about itself before each event, and after the last one without end."""
        for number in itertools.count(cursor):
            yield from (websocket_message(info(f"word {n}")) for n in range(infos_count))
            if number < len(self.events):
                yield websocket_message(self.events[number])

    def dripping(self, cursor: int, pause_s: float = 1.0) -> Iterator[bytes]:
        """A byte, a pause, a byte."""
        for frame in self.events[cursor:]:
            for byte in websocket_message(frame):
                yield bytes([byte])
                time.sleep(pause_s)

    def _junk(self, frame: bytes) -> bytes:
        if self._random.random() < 0.5:
            return frame[: self._random.randrange(len(frame))]
        return self._random.randbytes(self._random.randrange(2_000))


class HostileUpstream:
    """A websocket server on loopback; each connection gets the next habit, the last one for ever.

    Attributes:
        relay: its address.
        cursors: that of each connection.
    """

    def __init__(self, *habits: Habit) -> None:
        self._habits = habits
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.relay = f"ws://{self.host}"
        self.cursors: list[int] = []
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, name="hostile", daemon=True)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Neither accept nor send is woken by close alone.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join()
        for connection in self._sockets:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._sockets.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            cursor = self._shake_hands(connection)
            habit = self._habits[min(len(self.cursors), len(self._habits) - 1)]
            self.cursors.append(cursor)
            for piece in _in_pieces(habit(cursor)):
                if piece == _CUT:
                    return
                connection.sendall(piece)
            while connection.recv(_SEND_BYTES):
                pass

    def _shake_hands(self, connection: socket.socket) -> int:
        request = b""
        while not request.endswith(b"\r\n\r\n"):
            received = connection.recv(_SEND_BYTES)
            if not received:
                raise ConnectionResetError
            request += received
        key = re.search(rb"(?i)^sec-websocket-key: *(\S+)", request, re.MULTILINE)
        cursor = re.search(rb"[?&]cursor=(\d+)", request)
        assert key is not None
        accept = base64.b64encode(hashlib.sha1(key[1] + _GUID).digest())
        connection.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        return 0 if cursor is None else int(cursor[1])


def _in_pieces(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Joins small pieces, as a system call each would slow the sender down.

    A single byte goes out at once, and so does the end.
    """
    joined = bytearray()
    for piece in pieces:
        if joined and (len(piece) <= 1 or len(joined) >= _SEND_BYTES):
            yield bytes(joined)
            joined.clear()
        if len(piece) <= 1:
            yield piece
        else:
            joined += piece
    if joined:
        yield bytes(joined)
