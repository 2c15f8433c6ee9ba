"""Frames that wait: parked and tried again in order, given up in the end; without a broker."""

from collections.abc import Iterator, Mapping, Sequence

import pytest
from support.identities import ALICE, BOB, CAROL, WEB, Clock

from pipelines.atproto.syntax import Did
from pipelines.errors import BrokerUnavailableError, IdentityUnavailableError
from pipelines.explode import parking as parking_module
from pipelines.explode import waiting as waiting_module
from pipelines.explode.pointers import Pointer
from pipelines.explode.waiting import WaitingFrames
from pipelines.kafka.messages import InputMessage, OutputMessage

PARTITION = 3
LIMIT_S = 100.0


class Frames:
    """The topic `frames`, read again: `gone` offsets were deleted, `slow` reads one at a time."""

    def __init__(self) -> None:
        self.by_offset: dict[int, InputMessage] = {}
        self.gone: set[int] = set()
        self.reads: list[list[int]] = []
        self.is_slow = False
        self.is_away = False
        self.is_closed = False

    def read(
        self, partition: int, offsets: Sequence[int], budget_s: float
    ) -> Mapping[int, InputMessage | None]:
        assert (partition, budget_s) == (PARTITION, waiting_module.SLICE_READ_S)
        assert list(offsets) == sorted(offsets)
        if self.is_away:
            raise BrokerUnavailableError("no answer")
        read = list(offsets[:1] if self.is_slow else offsets)
        self.reads.append(read)
        return {o: None if o in self.gone else self.by_offset[o] for o in read}

    def close(self) -> None:
        self.is_closed = True


class World:
    """A worker's waiting frames, with everything around them in the hands of the test."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.frames = Frames()
        self.topic: list[InputMessage] = []
        self.outlooks: dict[Did, float] = {}
        self.unknown: dict[Did, float | None] = {}
        self.waiting = self.make()
        for _ in self.waiting.restore([PARTITION]):
            pass

    def make(self) -> WaitingFrames:
        return WaitingFrames(
            "parked",
            load=self.load,
            reader=self.frames,
            outlook=lambda did: self.outlooks.get(did, 0.0),
            clock_us=self.clock,
            limit_s=LIMIT_S,
        )

    def load(self, partitions: Sequence[int]) -> Iterator[InputMessage]:
        assert partitions == [PARTITION]
        return iter(self.topic)

    def frame(self, offset: int, did: Did, kind: str = "commit") -> InputMessage:
        headers = {"host": "relay.example", "seq": offset + 1, "kind": kind, "received_us": 5}
        frame = InputMessage(
            "frames",
            PARTITION,
            offset,
            0,
            did.encode(),
            b"frame %d" % offset,
            [(name, str(value).encode()) for name, value in headers.items()],
        )
        self.frames.by_offset[offset] = frame
        return frame

    def park(self, offset: int, did: Did, *, first: bool = False, kind: str = "commit") -> None:
        error = IdentityUnavailableError("away", retry_after_s=1.0) if first else None
        self.write(self.waiting.park(self.frame(offset, did, kind), did, error))

    def write(self, message: OutputMessage) -> None:
        """As the transaction does: into the topic that the next owner loads."""
        topic, partition, key, value, headers, timestamp_ms = message
        self.topic.append(
            InputMessage(topic, partition, len(self.topic), timestamp_ms, key, value, headers)
        )

    def revisit(self) -> list[str]:
        """Tries again; returns what came out, of every frame its own and its end of waiting."""
        work = self.waiting.revisit([PARTITION], self.judge, self.give_up)
        if work is None:
            return []
        assert work.partition == PARTITION
        found = []
        for message in work.outputs:
            if message.topic == "parked":
                assert message.value is None
                self.write(message)
            else:
                found.append((message.value or b"").decode())
        return found

    def judge(self, frame: InputMessage) -> list[OutputMessage]:
        did = Did((frame.key or b"").decode())
        if did in self.unknown and dict(frame.headers)["kind"] in {b"commit", b"sync"}:
            raise IdentityUnavailableError("still away", retry_after_s=self.unknown[did])
        return [self.output(f"judged {frame.offset}")]

    def give_up(
        self, pointer: Pointer, frame: InputMessage | None, detail: str
    ) -> list[OutputMessage]:
        kept = "kept" if frame is not None else "gone"
        return [self.output(f"given up {pointer.frame_offset} {kept}: {detail}")]

    def output(self, text: str) -> OutputMessage:
        return OutputMessage("events", PARTITION, b"", text.encode(), [], 0)


@pytest.fixture
def world() -> World:
    return World()


def test_frames_are_tried_in_order_once_their_account_is_known(world: World) -> None:
    world.park(4, ALICE, first=True)
    world.park(5, ALICE)
    world.park(6, BOB, first=True)
    assert world.waiting.holds(ALICE, PARTITION)
    assert not world.waiting.holds(ALICE, PARTITION + 1)
    assert not world.waiting.holds(CAROL, PARTITION)
    assert world.revisit() == []  # not due yet
    world.clock.turn(1)
    world.outlooks[BOB] = 9.0
    assert world.revisit() == ["judged 4", "judged 5"]
    assert not world.waiting.holds(ALICE, PARTITION)
    assert world.waiting.counts == {"frames": 1, "accounts": 1}
    world.outlooks.clear()
    assert world.revisit() == []
    world.clock.turn(9)
    assert world.revisit() == ["judged 6"]
    assert world.waiting.counts == {"frames": 0, "accounts": 0}


def test_a_frame_that_still_cannot_be_judged_keeps_those_behind_it_waiting(world: World) -> None:
    world.park(4, ALICE, first=True)
    world.park(5, BOB, first=True)
    world.park(6, ALICE)
    world.unknown[ALICE] = 7.0
    world.clock.turn(1)
    assert world.revisit() == ["judged 5"]
    assert world.waiting.holds(ALICE, PARTITION)
    world.unknown.clear()
    world.clock.turn(6)
    assert world.revisit() == []
    world.clock.turn(1)
    assert world.revisit() == ["judged 4", "judged 6"]


def test_an_announcement_at_the_front_needs_no_key(world: World) -> None:
    world.park(4, ALICE, first=True)
    world.park(5, ALICE, kind="account")
    world.park(6, ALICE)
    world.outlooks[ALICE] = 50.0
    world.unknown[ALICE] = None
    world.clock.turn(LIMIT_S)
    assert world.revisit() == [
        "given up 4 kept: still away",
        "judged 5",
        "given up 6 kept: still away",
    ]


def test_a_frame_is_given_up_after_its_time_and_tried_once_more_before(world: World) -> None:
    world.park(4, ALICE, first=True)
    world.clock.turn(60)
    world.park(5, ALICE)
    world.outlooks[ALICE] = 5.0
    world.unknown[ALICE] = 5.0
    world.clock.turn(LIMIT_S - 60)
    assert world.revisit() == ["given up 4 kept: still away"]
    world.unknown.clear()
    world.outlooks.clear()
    world.clock.turn(5)
    assert world.revisit() == ["judged 5"]


def test_a_frame_that_was_deleted_meanwhile_is_given_up(world: World) -> None:
    world.park(4, ALICE, first=True)
    world.park(5, ALICE)
    world.frames.gone.add(4)
    for _ in world.waiting.restore([PARTITION]):
        pass
    assert world.revisit() == [
        "given up 4 gone: it was not kept as long as it had to wait",
        "judged 5",
    ]


def test_the_next_owner_goes_on_where_the_last_one_stopped(world: World) -> None:
    for offset, did in ((4, ALICE), (5, BOB), (6, ALICE), (8, BOB)):
        world.park(offset, did, first=offset < 6)
    world.unknown[BOB] = 1.0
    world.clock.turn(1)
    assert world.revisit() == ["judged 4", "judged 6"]
    world.waiting = world.make()
    list(world.waiting.restore([PARTITION]))
    assert world.waiting.counts == {"frames": 2, "accounts": 1}
    world.unknown.clear()
    assert world.revisit() == ["judged 5", "judged 8"]
    assert world.frames.reads == [[5, 8]]


def test_frames_parked_lately_are_not_read_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting_module, "RECENT_BYTES", 2 * len("frame 4"))
    for offset in (4, 5, 6):
        world.park(offset, ALICE, first=offset == 4)
    world.clock.turn(1)
    assert world.revisit() == ["judged 4", "judged 5", "judged 6"]
    assert world.frames.reads == [[4]]
    assert world.waiting._recent_bytes == 0


def test_frames_for_which_there_is_no_time_come_next_and_in_order(world: World) -> None:
    for offset, did in ((4, ALICE), (5, BOB), (6, ALICE)):
        world.park(offset, did, first=offset < 6)
    list(world.waiting.restore([PARTITION]))
    world.frames.is_slow = True
    found = [world.revisit() for _ in range(4)]
    assert found == [["judged 4"], ["judged 5"], ["judged 6"], []]


def test_a_slice_of_work_has_a_size(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting_module, "SLICE_FRAMES", 3)
    for offset in range(8):
        world.park(offset, (ALICE, BOB)[offset % 2], first=offset < 2)
    world.clock.turn(1)
    found = []
    while some := world.revisit():
        assert len(some) <= 3
        found += some
    assert sorted(found) == [f"judged {offset}" for offset in range(8)]
    for first in (0, 1):
        of_account = [f"judged {offset}" for offset in range(first, 8, 2)]
        assert [text for text in found if text in of_account] == of_account


def test_a_slice_ends_when_its_outputs_are_large(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting_module, "SLICE_BYTES", 1)
    world.park(4, ALICE, first=True)
    world.park(5, ALICE)
    world.clock.turn(1)
    assert [world.revisit() for _ in range(3)] == [["judged 4"], ["judged 5"], []]


def test_a_broker_that_is_away_only_delays(world: World) -> None:
    world.park(4, ALICE, first=True)
    list(world.waiting.restore([PARTITION]))
    world.frames.is_away = True
    assert world.revisit() == []
    world.frames.is_away = False
    assert world.revisit() == []
    world.clock.turn(waiting_module.RETRY_S)
    assert world.revisit() == ["judged 4"]


def test_when_there_is_no_room_nothing_more_is_parked(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parking_module, "MAX_PARKED_COUNT", 2)
    world.park(4, ALICE, first=True)
    world.park(5, ALICE)
    with pytest.raises(IdentityUnavailableError, match="2 frames wait"):
        world.park(6, ALICE)
    with pytest.raises(IdentityUnavailableError):
        world.park(6, BOB, first=True)
    world.clock.turn(1)
    assert world.revisit() == ["judged 4", "judged 5"]
    world.park(6, BOB, first=True)
    assert world.waiting.counts == {"frames": 1, "accounts": 1}


def test_one_account_cannot_take_all_the_room(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parking_module, "MAX_OF_ACCOUNT_COUNT", 2)
    world.unknown[ALICE] = world.outlooks[ALICE] = 50.0
    for offset in range(4):
        world.park(offset, ALICE, first=offset == 0)
    assert world.revisit() == ["given up 0 kept: still away", "given up 1 kept: still away"]
    assert world.revisit() == []
    assert world.waiting.counts == {"frames": 2, "accounts": 1}


def test_did_web_accounts_cannot_take_all_the_room(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parking_module, "MAX_OF_WEB_COUNT", 1)
    other = Did("did:web:other.example")
    for did in (ALICE, WEB, other):
        world.unknown[did] = world.outlooks[did] = 50.0
    for offset, did in enumerate((ALICE, WEB, other)):
        world.park(offset, did, first=True)
    assert world.revisit() == ["given up 1 kept: still away"]
    assert world.waiting.holds(ALICE, PARTITION)
    assert world.waiting.holds(other, PARTITION)


def test_closing_ends_reading(world: World) -> None:
    world.waiting.close()
    assert world.frames.is_closed
