"""The latest frames in memory: what is there, what goes, and where it is gone on from."""

from pipelines.serving.ring import Batch, Ring

EPOCHS = ("epochs", 0)


def _batch(end: int, *seqs: int, size_bytes: int = 1) -> Batch:
    return Batch(end, {EPOCHS: end}, [(seq, bytes(size_bytes)) for seq in seqs])


def test_what_comes_after_a_place_comes_in_order() -> None:
    ring = Ring(10, {EPOCHS: 10})
    first, second = _batch(12, 1, 2), _batch(14, 3)
    for batch in (first, second):
        ring.add(batch)
    assert ring.has(10)
    assert not ring.has(9)
    # An own reader may have come anywhere between: what has no frame for it is passed.
    assert [ring.after(offset) for offset in (10, 11, 12, 13)] == [first, first, second, second]
    assert ring.after(14) is None
    assert ring.after(20) is None


def test_a_batch_without_frames_moves_the_place_alone() -> None:
    ring = Ring(10, {EPOCHS: 10})
    ring.add(_batch(15))
    assert (ring.end, ring.place, ring.size_bytes) == (15, {EPOCHS: 15}, 0)
    assert ring.after(10) is None
    assert ring.has(10)


def test_the_oldest_go_and_the_newest_stays_whatever_its_size() -> None:
    ring = Ring(0, {EPOCHS: 0}, 20_000)
    ring.add(_batch(1, 1, size_bytes=9_000))
    ring.add(_batch(2, 2, size_bytes=5_000))
    assert ring.has(0)
    ring.add(_batch(3, 3, size_bytes=9_000))
    assert (ring.has(0), ring.has(1), ring.first) == (False, True, 1)
    ring.add(_batch(4, 4, size_bytes=50_000))
    assert ring.first == 3
    assert ring.size_bytes == _batch(4, 4, size_bytes=50_000).size_bytes
    found = ring.after(3)
    assert found is not None
    assert found.end == 4
