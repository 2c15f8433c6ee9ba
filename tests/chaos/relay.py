"""Relays that misbehave: each passes on what the hosts say, under numbers of its own.

The hosts' stream (`Hosts`) is that of a generated network with the events of a captured one mixed
in. Any number of relays read it, and number all of it themselves, as relays do. On demand a relay
jumps in its numbers, begins them anew, sends old events again, sends a message that ends too
early, or loses events before anybody saw them.

What it sent is its log, byte for byte. What a reader of several relays has to have in the end,
each event once, is `chaos.merged`.
"""

import threading
import time
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import cbor2
from support.spans import frame_spans

from pipelines.atproto.frames import Kind, parse_envelope
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
# The numbers of two relays have nothing to do with each other.
FIRST_SEQS_APART = 5_000_000
_POLL_S = 0.02


class Said(NamedTuple):
    """An event as a host says it.

    Attributes:
        frame: with its number there, which no relay keeps.
        number: of the generated event, counted from 0; None for a captured one.
    """

    frame: bytes
    number: int | None


class Hosts:
    """What the hosts say, in order, for every relay.

    Attributes:
        said: all of it so far; only ever longer.
        generated_count: how many of these are generated.
        captured_count: how many are captured.
        is_finished: whether everything that happened before `freeze` is there.
    """

    def __init__(self, generated: Stream, captured: Sequence[bytes]) -> None:
        self.said: list[Said] = []
        self.generated_count = 0
        self.captured_count = 0
        self.is_finished = False
        self._generated = generated
        self._captured = captured
        self._frozen_s: float | None = None
        self._has_begun = False

    def begin(self, now_s: float) -> None:
        """Lets things happen, if they do not yet."""
        if not self._has_begun:
            self._has_begun = True
            assert self._generated.subscribe(0, now_s) == Start(0)

    def freeze(self) -> None:
        """Lets nothing happen any more; may be called from any thread."""
        self._frozen_s = time.monotonic()

    def work(self, now_s: float) -> float | None:
        """Takes in what happened, as `pipelines.sim.ports.History` describes it."""
        frozen_s = self._frozen_s
        now_s = now_s if frozen_s is None else min(now_s, frozen_s)
        wait_s = self._generated.work(now_s)
        if self._has_begun:
            frames = self._generated.read(self.generated_count, now_s)
            for frame in frames:
                self._say(frame)
            self.is_finished = frozen_s is not None and not frames
        return wait_s

    def _say(self, frame: bytes) -> None:
        self.said.append(Said(frame, self.generated_count))
        self.generated_count += 1
        is_turn = self.generated_count % CAPTURED_EVERY == 0
        if is_turn and self.captured_count < len(self._captured):
            self.said.append(Said(self._captured[self.captured_count], None))
            self.captured_count += 1


class Relay:
    """The stream of a relay, as `pipelines.sim.ports.History` describes it.

    Attributes:
        hosts: what there is to pass on.
        sent: every frame in order, each once.
        events: the same as `said` gives them.
        cut_off: what was sent of events before they were sent whole.
        lost: the generated events that were lost, by their number.
        jumps: the numbers before and after each leap.
        last_seq: the highest number of the present numbering.
    """

    total_count: int | None = None

    def __init__(
        self, hosts: Hosts, random: Random, first_seq: int = 1, *, is_driving: bool = True
    ) -> None:
        """Begins with a number of its own.

        Args:
            hosts: what there is to pass on.
            random: chooses where a message is cut off.
            first_seq: the number of its first event.
            is_driving: whether it is this one that lets things happen; the simulator that serves
                it then serves the directory and the repositories, too, which no other thread must
                change.
        """
        self.hosts = hosts
        self.sent: list[bytes] = []
        self.events: list[bytes] = []
        self.cut_off: list[bytes] = []
        self.lost: set[int] = set()
        self.jumps: list[tuple[int, int]] = []
        self.last_seq = first_seq - 1
        self._random = random
        self._is_driving = is_driving
        self._taken_count = 0
        # The simulator's thread serves, the test's thread breaks.
        self._lock = threading.RLock()
        # All messages in order; under which numbers cursors find which of them.
        self._messages: list[bytes] = []
        self._seqs: list[int] = []
        self._indices: list[int] = []
        self._to_lose: set[int] = set()
        self._to_cut_count = 0
        self._jumped_from: int | None = None
        self._is_held = False

    # ---- what a test asks for ---------------------------------------------------------------

    @property
    def is_drained(self) -> bool:
        """Whether it has passed on everything that will ever happen."""
        with self._lock:
            return self.hosts.is_finished and self._taken_count == len(self.hosts.said)

    def jump(self, count: int) -> None:
        """Leaves numbers out."""
        with self._lock:
            self._jumped_from = self._jumped_from or self.last_seq
            self.last_seq += count

    def renumber(self) -> None:
        """Begins with 1 anew; what was sent under the old numbers can no longer be asked for."""
        with self._lock:
            self.last_seq = 0
            self._jumped_from = None
            self._seqs.clear()
            self._indices.clear()

    def resend(self, count: int) -> None:
        """Sends the newest events again, under the numbers that they had."""
        with self._lock:
            self._messages += [self._messages[index] for index in self._indices[-count:]]

    def lose(self, numbers: Iterable[int]) -> None:
        """Loses generated events, unless it has sent them; their numbers are used for others."""
        with self._lock:
            self._to_lose.update(numbers)

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
            if self._is_driving:
                self.hosts.begin(now_s)
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
        wait_s = self.hosts.work(now_s) if self._is_driving else None
        with self._lock:
            if not self._is_held:
                self._pass_on()
        return _POLL_S if wait_s is None else min(wait_s, _POLL_S)

    def _pass_on(self) -> None:
        for event in self.hosts.said[self._taken_count :]:
            if event.number in self._to_lose:
                self.lost.add(event.number)
            else:
                self._send(event.frame)
            self._taken_count += 1

    def _send(self, frame: bytes) -> None:
        self.last_seq += 1
        if self._jumped_from is not None:
            self.jumps.append((self._jumped_from, self.last_seq))
            self._jumped_from = None
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
        self.events.append(said(frame))


class RelayedNetwork:
    """A generated and a captured network behind relays, as simulators serve them.

    Attributes:
        generated: the network that is made.
        relays: what passes on the events of both: one for each simulator that was made. The first
            of these is the one to ask for identities and repositories.
        hosts: what happened; there once the first simulator was made.
    """

    hosts: Hosts

    def __init__(self, generated: GeneratedNetwork, capture: Path, seed: int) -> None:
        """Reads the captured network."""
        self.generated = generated
        self.relays: list[Relay] = []
        self._captured = load_network(capture)
        self._frames = list(read_frames(capture / FRAMES_FILE))
        self._seed = seed

    def open_history(self, emission: Emission) -> Relay:
        number = len(self.relays)
        if number == 0:
            self.hosts = Hosts(self.generated.open_history(emission), self._frames)
        relay = Relay(
            self.hosts,
            Random(self._seed + number),
            1 + number * FIRST_SEQS_APART,
            is_driving=number == 0,
        )
        self.relays.append(relay)
        return relay

    def passed_captured(self) -> Sequence[bytes]:
        """Returns the captured frames that happened, as they were captured."""
        return self._frames[: self.hosts.captured_count]

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
        """Closes nothing: one simulator ends before another; who made the network closes it."""


def said(frame: bytes) -> bytes:
    """Returns what is the same of an event whoever brings it.

    A sync that says later what it has said before, as after an account's return, is the same
    event: account, kind, revision and commit CID are.
    """
    said = numbered(frame, 1)
    return _with(said, "time", "") if parse_envelope(frame).kind is Kind.SYNC else said


def numbered(frame: bytes, seq: int) -> bytes:
    """Returns a frame with another sequence number, everything else as it was."""
    return _with(frame, "seq", seq)


def _with(frame: bytes, field: str, value: object) -> bytes:
    for span in frame_spans(frame):
        if span.field == field:
            return frame[: span.start] + cbor2.dumps(value) + frame[span.end :]
    return frame
