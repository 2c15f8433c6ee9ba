"""Frames that wait for an identity: parked in a topic, tried again in order, given up in the end.

A frame whose account's key nobody can tell now is not judged. A pointer to it goes to the topic
`parked`, in the transaction that also commits its position, and the partition goes on. Until the
frame was judged, the account's later frames are parked behind it. In between batches the accounts
are looked at again: what can be judged now is read once more from `frames`, and its outputs and
the end of its waiting are one transaction. Whoever gets the partition loads the pointers first.

A frame that waited for too long, or has to make room, is given up: it goes to quarantine, and a
reader of events learns that the repository may have changed (`unresolved`).

The parking itself, with its limits: `pipelines.explode.parking` (pure).
"""

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Final, Protocol

from pipelines import logs
from pipelines.atproto.syntax import Did
from pipelines.errors import BrokerUnavailableError, IdentityUnavailableError
from pipelines.explode.parking import Parking
from pipelines.explode.pointers import (
    Pointer,
    done_message,
    parked_message,
    parse_pointer,
    pointer_to,
)
from pipelines.kafka.loop import Background
from pipelines.kafka.messages import InputMessage, OutputMessage

# How long a frame waits before it is given up, seconds. Frames are kept for three days.
DEFAULT_LIMIT_S: Final = 12 * 3_600
# One slice of work between two batches: that many accounts are looked at, that many frames read
# again, until that many bytes have come of them.
SLICE_ACCOUNTS: Final = 200
SLICE_FRAMES: Final = 100
SLICE_BYTES: Final = 2 * 1024 * 1024
# And for so long, so that batches are not held up: reading single frames takes a request each.
SLICE_READ_S: Final = 0.3
# Frames parked lately are kept at hand: most wait for a moment only.
RECENT_BYTES: Final = 16 * 1024 * 1024
# When to look at an account again whose host did not say.
RETRY_S: Final = 5.0
# When a partition is full.
FULL_RETRY_S: Final = 0.2

_SECOND_US: Final = 1_000_000

_log = logs.get_logger("explode")

Judge = Callable[[InputMessage], list[OutputMessage]]
GiveUp = Callable[[Pointer, InputMessage | None, str], list[OutputMessage]]


class FrameReader(Protocol):
    """Reads frames again, as `pipelines.kafka.rereading` does."""

    def read(
        self, partition: int, offsets: Sequence[int], budget_s: float
    ) -> Mapping[int, InputMessage | None]:
        """Returns frames by their offsets, which rise, as far as there is time to read them.

        None stands for a frame that the topic no longer has. May raise `BrokerUnavailableError`.
        """

    def close(self) -> None:
        """Ends reading."""


class WaitingFrames:
    """The parked frames of all partitions of a worker."""

    def __init__(
        self,
        topic: str,
        *,
        load: Callable[[Sequence[int]], Iterator[InputMessage]],
        reader: FrameReader,
        outlook: Callable[[Did], float],
        clock_us: Callable[[], int],
        limit_s: float = DEFAULT_LIMIT_S,
    ) -> None:
        """Holds nothing before `restore`.

        Args:
            topic: physical name of `parked`.
            load: yields what partitions of the topic hold, once everything in them is readable.
            reader: reads frames again; closed with this.
            outlook: seconds until an account may be judged, 0 for now; sees to its look-up.
            clock_us: the time of day, microseconds since the epoch.
            limit_s: how long a frame may wait.
        """
        self._topic = topic
        self._load = load
        self._reader = reader
        self._outlook = outlook
        self._clock_us = clock_us
        self._limit_us = int(limit_s * _SECOND_US)
        self._parkings: dict[int, Parking] = {}
        self._last_partition = -1
        self._recent: OrderedDict[tuple[int, int], InputMessage] = OrderedDict()
        self._recent_bytes = 0

    @property
    def counts(self) -> dict[str, int]:
        """How many frames of how many accounts wait now."""
        parkings = list(self._parkings.values())
        return {
            "frames": sum(parking.frames_count for parking in parkings),
            "accounts": sum(parking.accounts_count for parking in parkings),
        }

    def close(self) -> None:
        """Ends reading."""
        self._reader.close()

    def holds(self, did: Did, partition: int) -> bool:
        """Tells whether frames of an account wait, so that the next one has to."""
        parking = self._parkings.get(partition)
        return parking is not None and did in parking

    def park(
        self, frame: InputMessage, did: Did, error: IdentityUnavailableError | None
    ) -> OutputMessage:
        """Parks a frame, behind those of its account, and returns the message that says so.

        Args:
            frame: the message of `frames`.
            did: its account.
            error: why it cannot be judged now; None if only because others of its account wait.

        Raises:
            IdentityUnavailableError: there is no room: the worker has to wait.
        """
        parking = self._parkings[frame.partition]
        if parking.is_full:
            raise IdentityUnavailableError(
                f"{parking.frames_count} frames wait for identities, and no more may",
                retry_after_s=FULL_RETRY_S,
            )
        now_us = self._clock_us()
        detail = None if error is None else str(error)
        pointer = pointer_to(frame, did, now_us, detail)
        if error is not None:
            _log.info("parked", did=did, offset=frame.offset, detail=detail)
        parking.add(pointer, self._due_us(error))
        self._remember(frame)
        return parked_message(pointer, self._topic)

    def restore(self, partitions: Sequence[int]) -> Iterator[None]:
        """Loads the pointers of newly assigned partitions."""
        self._parkings.clear()
        self._recent.clear()
        self._recent_bytes = 0
        pointers: dict[int, dict[bytes, Pointer]] = {partition: {} for partition in partitions}
        for number, message in enumerate(self._load(partitions)):
            assert message.key is not None
            if message.value is None:
                pointers[message.partition].pop(message.key, None)
            else:
                pointers[message.partition][message.key] = parse_pointer(message.value)
            if number % 1_000 == 0:
                yield
        now_us = self._clock_us()
        for partition, found in pointers.items():
            parking = Parking(self._limit_us)
            parking.restore(found.values(), now_us)
            self._parkings[partition] = parking
            if found:
                _log.info("waiting_frames", partition=partition, frames=len(found))

    def revisit(
        self, partitions: Collection[int], judge: Judge, give_up: GiveUp
    ) -> Background | None:
        """Tries frames again; returns the outputs of one partition, or None if there are none.

        Args:
            partitions: those that may be written for.
            judge: returns a frame's outputs; raises `IdentityUnavailableError`.
            give_up: returns the outputs of a frame that is given up: pointer, frame (None if the
                topic no longer has it), and why.
        """
        # In turn: the ones after the last come first.
        for partition in sorted(partitions, key=lambda p: (p <= self._last_partition, p)):
            parking = self._parkings.get(partition)
            if parking is not None and parking.frames_count:
                outputs = self._revisit(parking, partition, judge, give_up)
                if outputs:
                    self._last_partition = partition
                    return Background(partition, outputs)
        return None

    def _revisit(
        self, parking: Parking, partition: int, judge: Judge, give_up: GiveUp
    ) -> list[OutputMessage]:
        turns = self._turns(parking)
        try:
            frames = self._frames(partition, turns)
        except BrokerUnavailableError as error:
            _log.warning("waiting", detail=str(error))
            self._postpone(parking, {pointer.did for pointer in turns}, RETRY_S)
            return []
        outputs: list[OutputMessage] = []
        output_bytes = 0
        waits_on: set[Did] = set()  # nobody can tell yet
        later: set[Did] = set()  # there was no time
        for pointer in turns:
            did, offset = pointer.did, pointer.frame_offset
            if did in waits_on:
                continue
            if did in later or offset not in frames or output_bytes >= SLICE_BYTES:
                later.add(did)
                continue
            results = self._try(parking, pointer, frames[offset], judge, give_up)
            if results is None:
                waits_on.add(did)
                continue
            parking.remove(pointer)
            self._forget(partition, offset)
            results.append(done_message(pointer, self._topic))
            outputs += results
            output_bytes += sum(result.size_bytes for result in results)
        self._postpone(parking, {pointer.did for pointer in turns} - waits_on, 0.0)
        return outputs

    def _turns(self, parking: Parking) -> list[Pointer]:
        """Returns the frames to try now, in their order: a beginning of each account's."""
        now_us = self._clock_us()
        turns: list[Pointer] = []
        for did in parking.take_due(now_us, SLICE_ACCOUNTS):
            [first] = parking.first_of(did, 1)
            outlook_s = self._outlook(did) if first.needs_key else 0.0
            if outlook_s and not parking.must_give_up(first, now_us):
                parking.postpone(did, now_us + int(outlook_s * _SECOND_US))
            elif len(turns) < SLICE_FRAMES:
                turns += parking.first_of(did, SLICE_FRAMES - len(turns))
            else:
                parking.postpone(did, now_us)
        return sorted(turns, key=lambda pointer: pointer.frame_offset)

    def _try(
        self,
        parking: Parking,
        pointer: Pointer,
        frame: InputMessage | None,
        judge: Judge,
        give_up: GiveUp,
    ) -> list[OutputMessage] | None:
        """Returns the outputs of a frame; None if it has to wait on."""
        if frame is None:
            return give_up(pointer, None, "it was not kept as long as it had to wait")
        try:
            return judge(frame)
        except IdentityUnavailableError as error:
            if parking.must_give_up(pointer, self._clock_us()):
                return give_up(pointer, frame, str(error))
            parking.postpone(pointer.did, self._due_us(error))
            return None

    def _frames(self, partition: int, turns: Sequence[Pointer]) -> dict[int, InputMessage | None]:
        """Returns frames by their offsets, as far as there is time to read them."""
        frames: dict[int, InputMessage | None] = {}
        missing = []
        for pointer in turns:
            frame = self._recent.get((partition, pointer.frame_offset))
            if frame is None:
                missing.append(pointer.frame_offset)
            else:
                frames[pointer.frame_offset] = frame
        if missing:
            frames |= self._reader.read(partition, missing, SLICE_READ_S)
        return frames

    def _remember(self, frame: InputMessage) -> None:
        self._forget(frame.partition, frame.offset)
        self._recent[frame.partition, frame.offset] = frame
        self._recent_bytes += len(frame.value or b"")
        while self._recent_bytes > RECENT_BYTES:
            _, oldest = self._recent.popitem(last=False)
            self._recent_bytes -= len(oldest.value or b"")

    def _forget(self, partition: int, offset: int) -> None:
        frame = self._recent.pop((partition, offset), None)
        if frame is not None:
            self._recent_bytes -= len(frame.value or b"")

    def _postpone(self, parking: Parking, dids: Collection[Did], seconds: float) -> None:
        due_us = self._clock_us() + int(seconds * _SECOND_US)
        for did in dids:
            if did in parking:
                parking.postpone(did, due_us)

    def _due_us(self, error: IdentityUnavailableError | None) -> int:
        retry_s = None if error is None else error.retry_after_s
        return self._clock_us() + int((RETRY_S if retry_s is None else retry_s) * _SECOND_US)
