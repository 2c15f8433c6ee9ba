"""Messages in an order that is the same each time, whatever comes first."""

import random
from collections.abc import Iterator, Mapping, Sequence

import orjson
import pytest

from pipelines.kafka.messages import InputMessage, Position
from pipelines.kafka.topics import registry
from pipelines.replay import epochs
from pipelines.replay.epochs import EpochsError, Held, Numbers, epoch_of
from pipelines.replay.selection import Selection
from pipelines.replay.sources import HostOrder, Source, TimeOrder
from pipelines.replay.window import NO_END, Range

FRAMES, EPOCHS = "frames", "epochs"
HOST = "relay.example"


class _Partitions:
    """Partitions that hold what they are given; more of them is written while somebody waits."""

    def __init__(self, *messages: InputMessage, later: Sequence[InputMessage] = ()) -> None:
        self._messages: dict[Position, list[InputMessage]] = {}
        self._later = list(later)
        for message in messages:
            self._add(message)

    def below(self, where: Position, end: int) -> InputMessage | None:
        message = self.next(where)
        return message if message is not None and message.offset < end else None

    def next(self, where: Position) -> InputMessage | None:
        messages = self._messages.get(where)
        return messages[0] if messages else None

    def take(self, where: Position) -> InputMessage:
        return self._messages[where].pop(0)

    def wait(self, timeout_s: float) -> bool:
        assert timeout_s > 0
        if not self._later:
            raise _OverError
        self._add(self._later.pop(0))
        return True

    def _add(self, message: InputMessage) -> None:
        self._messages.setdefault((message.topic, message.partition), []).append(message)


class _OverError(Exception):
    """Nothing is ever written again."""


def _frame(partition: int, offset: int, seq: int, host: str = HOST, ms: int = 0) -> InputMessage:
    headers = [("host", host.encode()), ("seq", b"%d" % seq)]
    return InputMessage(FRAMES, partition, offset, ms, b"did:web:a", b"%d" % seq, headers)


def _epoch(
    offset: int, seqs: tuple[int, int], ends: Sequence[int], host: str = HOST
) -> InputMessage:
    value = {
        "host": host,
        "generation": 1,
        "seq_lo": seqs[0],
        "seq_hi": seqs[1],
        "time": None,
        "received_us": 1,
        "next_offsets": list(ends),
    }
    return InputMessage(EPOCHS, 0, offset, 0, host.encode(), orjson.dumps(value), [])


def _taken(source: Source) -> Iterator[InputMessage]:
    return (message for message in source if message is not None)


def _numbers(source: Source) -> list[int]:
    return [int(message.value or b"") for message in _taken(source)]


def _ranges(**ends: int) -> dict[Position, Range]:
    return {(FRAMES, int(name[1:])): Range(0, end) for name, end in ends.items()}


def test_the_earliest_comes_next_and_each_partition_keeps_its_order() -> None:
    messages = [
        _frame(0, 0, 1, ms=10),
        _frame(0, 2, 4, ms=40),
        _frame(0, 3, 5, ms=20),  # behind an older one in its partition
        _frame(1, 0, 2, ms=10),  # as old as the first of an earlier partition
        _frame(1, 1, 3, ms=30),
        _frame(1, 2, 6, ms=50),
        _frame(1, 3, 7, ms=60),  # behind the end
    ]
    source = TimeOrder(_Partitions(*messages), _ranges(p0=9, p1=3), Selection())
    assert _numbers(source) == [1, 2, 3, 4, 5, 6]
    assert source.next_offsets == {(FRAMES, 0): 9, (FRAMES, 1): 3}


def test_wherever_it_is_cut_it_goes_on_in_the_same_order() -> None:
    chance = random.Random(8)
    messages = [
        _frame(number % 3, number // 3, number, ms=chance.randrange(20)) for number in range(60)
    ]
    ranges = _ranges(p0=20, p1=20, p2=20)
    whole = _numbers(TimeOrder(_Partitions(*messages), ranges, Selection()))
    for count in range(1, 60, 7):
        source = TimeOrder(_Partitions(*messages), ranges, Selection())
        taken = _taken(source)
        first = [int(next(taken).value or b"") for _ in range(count)]
        rest = {
            where: Range(source.next_offsets[where], end) for where, (_, end) in ranges.items()
        }
        left = [
            message
            for message in messages
            if message.offset >= rest[FRAMES, message.partition].start
        ]
        assert first + _numbers(TimeOrder(_Partitions(*left), rest, Selection())) == whole


def test_who_waits_for_wanted_messages_hears_of_the_others() -> None:
    messages = [_frame(0, offset, offset, host="other") for offset in range(2_500)]
    source = TimeOrder(_Partitions(*messages), _ranges(p0=2_500), Selection(host=HOST.encode()))
    assert list(source) == [None, None]
    assert source.read_count == 2_500


def test_what_follows_comes_as_it_is_written() -> None:
    partitions = _Partitions(_frame(0, 0, 1, ms=9), later=[_frame(1, 0, 2, ms=5), _frame(0, 1, 3)])
    source = TimeOrder(partitions, _ranges(p0=NO_END, p1=NO_END), Selection())
    taken = _taken(source)
    assert [int(next(taken).value or b"") for _ in range(3)] == [1, 2, 3]
    with pytest.raises(_OverError):
        next(taken)


def _host_order(
    partitions: _Partitions, epochs_end: int, selection: Selection | None = None
) -> HostOrder:
    ranges = {(EPOCHS, 0): Range(0, epochs_end), **_ranges(p0=4, p1=5)}
    wanted = selection or Selection(host=HOST.encode())
    return HostOrder(partitions, (EPOCHS, 0), ranges, wanted, HOST)


_TWO_EPOCHS = (
    _frame(0, 0, 101),
    _frame(0, 1, 104),
    _frame(0, 3, 106),
    _frame(1, 0, 102),
    _frame(1, 1, 7, host="other"),
    _frame(1, 2, 103),
    _frame(1, 4, 105),
    _epoch(0, (101, 104), [2, 3]),
    _epoch(1, (7, 7), [2, 3], host="other"),
    _epoch(3, (105, 106), [4, 5]),
)


def test_frames_of_a_host_come_by_number_across_partitions() -> None:
    source = _host_order(_Partitions(*_TWO_EPOCHS), 4)
    assert _numbers(source) == [101, 102, 103, 104, 105, 106]
    assert source.next_offsets == {(EPOCHS, 0): 4, (FRAMES, 0): 4, (FRAMES, 1): 5}
    assert _numbers(_host_order(_Partitions(*_TWO_EPOCHS), 3)) == [101, 102, 103, 104]


def test_it_can_be_cut_between_epochs_alone() -> None:
    source = _host_order(_Partitions(*_TWO_EPOCHS), 4)
    places = [dict(source.next_offsets) for message in source if source.is_whole or message]
    cuts = [message is None for message in _host_order(_Partitions(*_TWO_EPOCHS), 4)]
    assert cuts == [False] * 4 + [True, True, False, False, True]
    assert places[4] == {(EPOCHS, 0): 1, (FRAMES, 0): 2, (FRAMES, 1): 3}


def test_partitions_that_are_not_wanted_are_not_read() -> None:
    ranges = {(EPOCHS, 0): Range(0, 4), (FRAMES, 1): Range(0, 5)}
    partitions = _Partitions(*_TWO_EPOCHS)
    source = HostOrder(partitions, (EPOCHS, 0), ranges, Selection(host=HOST.encode()), HOST)
    assert _numbers(source) == [102, 103, 105]
    assert partitions.next((FRAMES, 0)) is not None


def test_epochs_are_followed() -> None:
    partitions = _Partitions(*_TWO_EPOCHS[:8], later=_TWO_EPOCHS[8:])
    taken = _taken(_host_order(partitions, NO_END))
    assert [int(next(taken).value or b"") for _ in range(6)] == [101, 102, 103, 104, 105, 106]
    with pytest.raises(_OverError):
        next(taken)


def test_frames_that_no_epoch_lets_go_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(epochs, "HELD_BYTES", 10)
    held = Held()
    for seq in (101, 103, 102):
        held.add(seq, _frame(0, 0, seq))
    assert held.size_bytes == 9
    with pytest.raises(EpochsError, match="the lowest of them is number 101"):
        held.add(104, _frame(0, 0, 104))
    assert [frame.value for frame in held.release(102)] == [b"101", b"102"]


def _looked_at(first_seq: int, last_seq: int | None) -> Numbers:
    rows = [(1, 10), (11, 20), (31, 40), (5, 8), (41, 50)]  # it began anew once
    numbers = Numbers(HOST, first_seq, last_seq)
    for index, row in enumerate(rows):
        numbers.add(2 * index, epoch_of(_epoch(2 * index, row, [10 * index + 10])))
        numbers.add(2 * index + 1, epoch_of(_epoch(0, (1, 99), [0], host="other")))
    return numbers


@pytest.mark.parametrize(
    ("row", "found", "starts"),
    [
        ((12, 15), Range(2, 3), (10,)),
        ((1, None), Range(0, 9), ()),
        ((6, 7), Range(0, 7), ()),
        ((35, 45), Range(4, 9), (20,)),
        ((22, 25), None, ()),
        ((51, None), None, ()),
    ],
)
def test_numbers_are_found_in_all_epochs_that_have_them(
    row: tuple[int, int | None], found: Range | None, starts: tuple[int, ...]
) -> None:
    numbers = _looked_at(*row)
    assert (numbers.epochs, numbers.starts) == (found, starts)
    assert (numbers.lowest_seq, numbers.highest_seq) == (1, 50)
    assert numbers.hosts == {HOST, "other"}


@pytest.mark.parametrize("value", [None, b"", b"[]", b'{"host": "a"}'])
def test_what_is_no_epoch_is_refused(value: bytes | None) -> None:
    message = InputMessage(EPOCHS, 0, 7, 0, b"a", value, [])
    with pytest.raises(EpochsError, match=r"epoch 7 is not of version 1"):
        epoch_of(message)


def test_the_published_examples_are_epochs(
    schema_examples: Mapping[str, bytes],
) -> None:
    for value in schema_examples.values():
        epoch = epoch_of(InputMessage(EPOCHS, 0, 0, 0, b"a", value, []))
        assert epoch.seq_lo <= epoch.seq_hi
        assert epoch.next_offsets


@pytest.fixture
def schema_examples() -> Mapping[str, bytes]:
    [version] = registry().specs["epochs"].versions
    return {file.name: file.read_bytes() for file in version.examples.iterdir()}
