"""A relay that misbehaves: it passes on what hosts say, under numbers of its own.

It takes the events of a generated network, mixes those of a captured one in, and numbers all of
them itself, as relays do. On demand it jumps in its numbers, begins them anew, sends old events
again, sends a message that ends too early, or loses events before anybody saw them.

What it sent is its log, byte for byte: what a reader has to have in the end, each once.
"""

import threading
import time
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from random import Random
from typing import Any

import cbor2
from support.spans import frame_spans

from pipelines.captures import read_frames
from pipelines.sim.generated import GeneratedNetwork
from pipelines.sim.network import FRAMES_FILE, load_network
from pipelines.sim.ports import (
    READ_COUNT,
    Account,
    Emission,
    FutureCursorError,
    Identity,
    Start,
)
from pipelines.sim.stream import Stream

# A captured event after so many generated ones.
CAPTURED_EVERY = 8
_POLL_S = 0.02


class Relay:
    """The stream of the relay, as `pipelines.sim.ports.History` describes it.

    Attributes:
        sent: every frame in order, each once.
        cut_off: what was sent of events before they were sent whole.
        lost: the generated events that were lost, by their number from 0 on.
        taken_count: generated events that were sent or lost.
        captured_count: captured events that were sent.
        last_seq: the highest number of the present numbering.
        is_drained: whether everything that happened before `freeze` was sent.
    """

    total_count: int | None = None

    def __init__(self, generated: Stream, captured: Sequence[bytes], random: Random) -> None:
        """Begins with number 1.

        Args:
            generated: what happens, without end.
            captured: frames of a captured network.
            random: chooses where a message is cut off.
        """
        self.sent: list[bytes] = []
        self.cut_off: list[bytes] = []
        self.lost: set[int] = set()
        self.taken_count = 0
        self.captured_count = 0
        self.last_seq = 0
        self.is_drained = False
        self._generated = generated
        self._captured = captured
        self._random = random
        # The simulator's thread serves, the test's thread breaks.
        self._lock = threading.RLock()
        self._has_begun = False
        # All messages in order; under which numbers cursors find which of them.
        self._messages: list[bytes] = []
        self._seqs: list[int] = []
        self._indices: list[int] = []
        self._to_lose_count = 0
        self._to_cut_count = 0
        self._is_held = False
        self._frozen_s: float | None = None

    # ---- what a test asks for ---------------------------------------------------------------

    def jump(self, count: int) -> None:
        """Leaves numbers out."""
        with self._lock:
            self.last_seq += count

    def renumber(self) -> None:
        """Begins with 1 anew; what was sent under the old numbers can no longer be asked for."""
        with self._lock:
            self.last_seq = 0
            self._seqs.clear()
            self._indices.clear()

    def resend(self, count: int) -> None:
        """Sends the newest events again, under the numbers that they had."""
        with self._lock:
            self._messages += [self._messages[index] for index in self._indices[-count:]]

    def lose(self, count: int) -> None:
        """Loses the next generated events; their numbers are used for others."""
        with self._lock:
            self._to_lose_count += count

    def cut_off_next(self) -> None:
        """Sends the first part of the next event before the event itself."""
        with self._lock:
            self._to_cut_count += 1

    def hold(self) -> None:
        """Sends nothing new until `release`; hosts go on."""
        with self._lock:
            self._is_held = True

    def release(self) -> None:
        """Goes on with what happened meanwhile."""
        with self._lock:
            self._is_held = False

    def freeze(self) -> None:
        """Lets nothing happen any more."""
        with self._lock:
            self._frozen_s = time.monotonic()

    # ---- pipelines.sim.ports.History --------------------------------------------------------

    @property
    def prepared_count(self) -> int:
        return len(self._messages)

    def emitted_count(self, _now_s: float) -> int:
        return len(self._messages)

    def wait_s(self, index: int, _now_s: float) -> float:
        return 0 if index < len(self._messages) else _POLL_S

    def subscribe(self, cursor: int | None, now_s: float) -> Start:
        with self._lock:
            if not self._has_begun:
                self._has_begun = True
                start = self._generated.subscribe(0, now_s)
                assert start == Start(0)
            if cursor is None:
                return Start(len(self._messages))
            if cursor > self.last_seq:
                raise FutureCursorError
            position = bisect_right(self._seqs, cursor)
            if position < len(self._seqs):
                return Start(self._indices[position])
            return Start(len(self._messages))

    def read(self, index: int, _now_s: float) -> Sequence[bytes]:
        with self._lock:
            return self._messages[index : index + READ_COUNT]

    def work(self, now_s: float) -> float:
        with self._lock:
            now_s = now_s if self._frozen_s is None else min(now_s, self._frozen_s)
            wait_s = self._generated.work(now_s)
            if self._has_begun and not self._is_held:
                self._pass_on(now_s)
        return _POLL_S if wait_s is None else min(wait_s, _POLL_S)

    def _pass_on(self, now_s: float) -> None:
        frames = self._generated.read(self.taken_count, now_s)
        for frame in frames:
            if self._to_lose_count > 0:
                self._to_lose_count -= 1
                self.lost.add(self.taken_count)
            else:
                self._send(frame)
            self.taken_count += 1
            if self.taken_count % CAPTURED_EVERY == 0 and self.captured_count < len(
                self._captured
            ):
                self._send(self._captured[self.captured_count])
                self.captured_count += 1
        self.is_drained = self._frozen_s is not None and not frames

    def _send(self, frame: bytes) -> None:
        self.last_seq += 1
        message = numbered(frame, self.last_seq)
        if self._to_cut_count > 0:
            self._to_cut_count -= 1
            part = message[: self._random.randrange(1, len(message))]
            self._messages.append(part)
            self.cut_off.append(part)
        self._seqs.append(self.last_seq)
        self._indices.append(len(self._messages))
        self._messages.append(message)
        self.sent.append(message)


class RelayedNetwork:
    """A generated and a captured network behind one relay, as the simulator serves them.

    Attributes:
        generated: the network that is made.
        relay: what passes on the events of both; there once the simulator was made.
    """

    relay: Relay

    def __init__(self, generated: GeneratedNetwork, capture: Path, seed: int) -> None:
        """Reads the captured network."""
        self.generated = generated
        self._captured = load_network(capture)
        self._frames = list(read_frames(capture / FRAMES_FILE))
        self._seed = seed

    def open_history(self, emission: Emission) -> Relay:
        stream = self.generated.open_history(emission)
        self.relay = Relay(stream, self._frames, Random(self._seed))
        return self.relay

    def passed_captured(self) -> Sequence[bytes]:
        """Returns the captured frames that the relay has sent, as they were captured."""
        return self._frames[: self.relay.captured_count]

    def find_identity(self, did: str) -> Identity | None:
        return self.generated.find_identity(did) or self._captured.find_identity(did)

    def list_logs(self) -> Iterable[Sequence[Any]]:
        return chain(self.generated.list_logs(), self._captured.list_logs())

    def list_hosts(self) -> Sequence[str]:
        return [*self.generated.list_hosts(), *self._captured.list_hosts()]

    def host_of(self, did: str) -> str | None:
        return self.generated.host_of(did) or self._captured.host_of(did)

    def find_account(
        self, did: str, host: str | None = None, *, is_stale: bool = False
    ) -> Account | None:
        return self.generated.find_account(
            did, host, is_stale=is_stale
        ) or self._captured.find_account(did, host)

    def list_accounts(self, host: str | None = None) -> Iterable[tuple[str, Account]]:
        return chain(self.generated.list_accounts(host), self._captured.list_accounts(host))

    def has_collection(self, did: str, collection: str) -> bool:
        return self.generated.has_collection(did, collection)

    def truth(self, did: str | None = None) -> Mapping[str, Any] | None:
        return self.generated.truth(did)

    def close(self) -> None:
        self.generated.close()


def numbered(frame: bytes, seq: int) -> bytes:
    """Returns a frame with another sequence number, everything else as it was."""
    (span,) = [span for span in frame_spans(frame) if span.field == "seq"]
    return frame[: span.start] + cbor2.dumps(seq) + frame[span.end :]
