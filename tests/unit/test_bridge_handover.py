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
from pipelines.bridge.intake import Quarantine, Skip


def skip(seq: int) -> Skip:
    return Skip(seq, None, 0)


def message(size: int) -> Quarantine:
    return Quarantine(bytes(size), Reason.FRAME_NOT_CBOR, "", 0)


def test_entries_come_out_in_order() -> None:
    handover = Handover()
    for seq in range(5):
        handover.put(skip(seq))
    assert handover.entries_count == 5
    assert handover.take() == [skip(seq) for seq in range(5)]
    assert handover.entries_count == 0


def test_a_batch_ends_at_its_count() -> None:
    handover = Handover()
    for seq in range(BATCH_COUNT + 1):
        handover.put(skip(seq))
    assert len(handover.take()) == BATCH_COUNT
    assert handover.take() == [skip(BATCH_COUNT)]


def test_a_batch_ends_at_its_size_which_one_message_may_pass() -> None:
    handover = Handover()
    sizes = [BATCH_BYTES - 1, BATCH_BYTES, 1]
    for size in sizes:
        handover.put(message(size))
    assert [len(entry.message) for entry in handover.take() if isinstance(entry, Quarantine)] == (
        sizes[:2]
    )
    assert handover.take() == [message(1)]


def test_it_is_full_at_its_size_and_not_before() -> None:
    handover = Handover()
    found = []
    for size in (HANDOVER_BYTES - 1, 1):
        handover.put(message(size))
        found.append(handover.is_full)
    handover.take()
    assert [*found, handover.is_full] == [False, True, False]


def test_it_is_full_at_its_count_and_not_before() -> None:
    handover = Handover()
    found = []
    for seq in range(HANDOVER_COUNT):
        handover.put(skip(seq))
        found.append(handover.is_full)
    assert found == [False] * (HANDOVER_COUNT - 1) + [True]


def test_a_closed_queue_is_emptied_before_it_ends() -> None:
    handover = Handover()
    for seq in range(BATCH_COUNT + 1):
        handover.put(skip(seq))
    handover.close()
    assert [len(handover.take()) for _ in range(3)] == [BATCH_COUNT, 1, 0]


def test_a_reader_that_waits_gets_what_another_thread_puts_and_then_the_end() -> None:
    handover = Handover()
    taken: list[int] = []

    def take() -> None:
        while batch := handover.take():
            taken.extend(entry.seq or 0 for entry in batch if isinstance(entry, Skip))

    reader = threading.Thread(target=take)
    reader.start()
    for seq in range(3 * BATCH_COUNT):
        handover.put(skip(seq))
    handover.close()
    reader.join(10)
    assert not reader.is_alive()
    assert taken == list(range(3 * BATCH_COUNT))
