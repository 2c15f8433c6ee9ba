"""The bounded queue between the socket and the transactions."""

import threading

from pipelines.atproto.errors import Reason
from pipelines.bridge.handover import (
    BATCH_BYTES,
    BATCH_COUNT,
    HANDOVER_BYTES,
    HANDOVER_COUNT,
    Handover,
)
from pipelines.bridge.intake import Entry, Quarantine, Skip
from pipelines.bridge.upstream import Origin

ORIGIN = Origin("relay.example", 1)


def skip(seq: int) -> Skip:
    return Skip(seq, None, 0)


def message(size: int) -> Quarantine:
    return Quarantine(bytes(size), Reason.FRAME_NOT_CBOR, "", 0)


def take(handover: Handover) -> list[Entry]:
    handed = handover.take()
    assert all(one.origin == ORIGIN for one in handed)
    return [one.entry for one in handed]


def test_entries_come_out_in_order() -> None:
    handover = Handover()
    for seq in range(5):
        handover.put(ORIGIN, skip(seq))
    assert handover.entries_count == 5
    assert take(handover) == [skip(seq) for seq in range(5)]
    assert handover.entries_count == 0


def test_a_batch_ends_at_its_count() -> None:
    handover = Handover()
    for seq in range(BATCH_COUNT + 1):
        handover.put(ORIGIN, skip(seq))
    assert len(take(handover)) == BATCH_COUNT
    assert take(handover) == [skip(BATCH_COUNT)]


def test_a_batch_ends_at_its_size_which_one_message_may_pass() -> None:
    handover = Handover()
    sizes = [BATCH_BYTES - 1, BATCH_BYTES, 1]
    for size in sizes:
        handover.put(ORIGIN, message(size))
    assert handover.size_bytes == sum(sizes)
    assert [len(entry.message) for entry in take(handover) if isinstance(entry, Quarantine)] == (
        sizes[:2]
    )
    assert handover.size_bytes == 1
    assert take(handover) == [message(1)]


def test_it_is_full_at_its_size_and_not_before() -> None:
    handover = Handover()
    found = []
    for size in (HANDOVER_BYTES - 1, 1):
        handover.put(ORIGIN, message(size))
        found.append(handover.is_full)
    handover.take()
    assert [*found, handover.is_full] == [False, True, False]


def test_it_is_full_at_its_count_and_not_before() -> None:
    handover = Handover()
    found = []
    for seq in range(HANDOVER_COUNT):
        handover.put(ORIGIN, skip(seq))
        found.append(handover.is_full)
    assert found == [False] * (HANDOVER_COUNT - 1) + [True]


def test_a_closed_queue_is_emptied_before_it_ends() -> None:
    handover = Handover()
    for seq in range(BATCH_COUNT + 1):
        handover.put(ORIGIN, skip(seq))
    handover.close()
    assert [len(take(handover)) for _ in range(3)] == [BATCH_COUNT, 1, 0]


def test_a_reader_that_waits_gets_what_another_thread_puts_and_then_the_end() -> None:
    handover = Handover()
    taken: list[int] = []

    def take_all() -> None:
        while batch := take(handover):
            taken.extend(entry.seq or 0 for entry in batch if isinstance(entry, Skip))

    reader = threading.Thread(target=take_all)
    reader.start()
    for seq in range(3 * BATCH_COUNT):
        handover.put(ORIGIN, skip(seq))
    handover.close()
    reader.join(10)
    assert not reader.is_alive()
    assert taken == list(range(3 * BATCH_COUNT))
