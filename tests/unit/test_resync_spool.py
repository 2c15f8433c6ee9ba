"""Repositories that wait on the disk: proven, cut into chunks, bounded, delivered in slices."""

import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import wire
from support.exports import Export, export
from support.repo import DID, OTHER_DID, OTHER_SIGNER, SIGNER, outcome, record

from pipelines.atproto.cid import encode_cid
from pipelines.atproto.errors import Reason
from pipelines.atproto.repo import Limits
from pipelines.kafka.messages import OutputMessage
from pipelines.repair.chunks import Chunk, parse_chunk
from pipelines.repair.requests import Cause, Request
from pipelines.resync import delivery as delivery_module
from pipelines.resync import spool as spool_module
from pipelines.resync.delivery import Delivery, Place
from pipelines.resync.downloads import Fetched
from pipelines.resync.jobs import job_of
from pipelines.resync.schedule import Start
from pipelines.resync.sources import Source
from pipelines.resync.spool import Proof, Spool, Spooled, SpoolError

LIMITS = Limits()
VALUES = {f"com.example.note/{n:04}": record(f"note {n} {'x' * 100}") for n in range(60)}
EXPORT = export(VALUES, rev=wire.rev(5))
EXPORTS = {
    count: export(dict(list(VALUES.items())[:count]), rev=wire.rev(5)) for count in (0, 1, 20, 60)
}
# Where the partition of `chunks` ends at first.
BEGIN = 100


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "CHUNK_BYTES", 2_000)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool", limit_bytes=10_000_000)


def spooled(spool: Spool, car: bytes = EXPORT.car(), piece_bytes: int = 1_000) -> Spooled:
    with Proof(DID, SIGNER.key, spool, LIMITS) as proof:
        for start in range(0, len(car), piece_bytes):
            proof.feed(car[start : start + piece_bytes])
        return proof.finish()


def chunks_of(found: Spooled) -> list[Chunk]:
    return [parse_chunk(value) for value in found.file.read()]


def assert_whole(chunks: Sequence[Chunk], made: Export = EXPORT) -> None:
    records = [record for chunk in chunks for record in chunk.records]
    expected = [(path, encode_cid(cid)) for path, cid, _ in made.contents()]
    assert [(record.path, record.cid) for record in records] == expected
    assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
    assert {(chunk.did, chunk.rev) for chunk in chunks} == {(DID, wire.rev(5))}


@pytest.mark.parametrize("order", ["streamable", "any"])
def test_a_repository_becomes_chunks_in_the_order_of_its_paths(spool: Spool, order: str) -> None:
    blocks = EXPORT.ordered()
    if order == "any":
        random.Random(1).shuffle(blocks)
    found = spooled(spool, EXPORT.car(blocks))
    assert found.file.count > 3
    assert_whole(chunks_of(found))
    assert found.verified.record_count == len(VALUES)
    digest = hashlib.sha256(b"".join(found.file.read())).hexdigest()
    assert found.file.digest == digest
    found.file.close()


def test_an_empty_repository_has_no_chunk(spool: Spool) -> None:
    found = spooled(spool, export({}, rev=wire.rev(5)).car())
    assert (found.file.count, found.file.size_bytes) == (0, 0)
    assert found.file.digest == hashlib.sha256(b"").hexdigest()
    found.file.close()


def test_what_waits_is_counted_until_it_is_let_go(spool: Spool) -> None:
    first, second = spooled(spool), spooled(spool)
    assert spool.used_bytes == first.file.size_bytes + second.file.size_bytes > 0
    second.file.close()
    second.file.close()
    assert spool.used_bytes == first.file.size_bytes
    first.file.close()
    assert spool.used_bytes == 0


def test_a_full_spool_has_no_room(tmp_path: Path) -> None:
    with_room = []
    spool = Spool(tmp_path, limit_bytes=20_000)
    waiting = []
    for _ in range(10):
        with_room.append(spool.has_room)
        waiting.append(spooled(spool))
    size_bytes = waiting[0].file.size_bytes
    assert with_room == [count * size_bytes < 20_000 for count in range(10)]
    assert not with_room[-1]
    for found in waiting:
        found.file.close()
    assert spool.has_room


def test_a_repository_that_would_fill_the_spool_alone_is_refused(tmp_path: Path) -> None:
    spool = Spool(tmp_path, limit_bytes=3_000)
    assert outcome(lambda: spooled(spool)) is Reason.CAR_TOO_LARGE
    assert spool.used_bytes == 0


@pytest.mark.parametrize(
    ("car", "reason"),
    [
        (EXPORT.car()[:-1], Reason.CAR_TRUNCATED),
        (EXPORT.car(EXPORT.ordered()[:-1]), Reason.COMMIT_RECORD_MISSING),
        (export(VALUES, OTHER_SIGNER).car(), Reason.SIGNATURE_INVALID),
        (export(VALUES, did=OTHER_DID).car(), Reason.COMMIT_DID_MISMATCH),
        (b"\x00" + b"<html>", Reason.CAR_HEADER),
    ],
    ids=["truncated", "incomplete", "signature", "other account", "no CAR"],
)
def test_nothing_is_left_of_what_is_not_proven(spool: Spool, car: bytes, reason: Reason) -> None:
    assert outcome(lambda: spooled(spool, car)) is reason
    assert spool.used_bytes == 0


def test_what_nobody_wants_any_more_ends(spool: Spool) -> None:
    proof = Proof(DID, SIGNER.key, spool, LIMITS)
    proof.is_given_up = True
    with pytest.raises(SpoolError), proof:
        proof.feed(EXPORT.car())
    assert spool.used_bytes == 0


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here")
    with pytest.raises(SpoolError, match="cannot make"):
        Spool(tmp_path / "file" / "below", limit_bytes=1)


# --- delivery


class Written:
    """What transactions wrote to one partition of `chunks`, and what ended jobs.

    Attributes:
        chunks: by offset.
        places: of the repositories whose jobs have ended.
        slices: what each transaction wrote: the chunks' values, and `manifest`.
        aborted: by the number of a transaction, how many messages of somebody else came into it.
    """

    def __init__(self, delivery: Delivery, aborted: Mapping[int, int] | None = None) -> None:
        self._delivery = delivery
        self._next_offset = BEGIN
        self.aborted = aborted or {}
        self.chunks: dict[int, Chunk] = {}
        self.places: list[Place] = []
        self.slices: list[list[bytes | None]] = []

    def answer(self, _fetched: Fetched, place: Place) -> list[OutputMessage]:
        self.places.append(place)
        return [OutputMessage("manifest", 0, None, b"manifest", [], 0)]

    def run(self) -> None:
        while not self._delivery.is_empty:
            outputs = self._delivery.next_slice(self.answer)
            others_count = self.aborted.get(len(self.slices), 0)
            self.slices.append([output.value for output in outputs])
            chunks = [parse_chunk(o.value or b"") for o in outputs if o.topic == "chunks"]
            if not chunks:
                continue
            for number, chunk in enumerate(chunks):
                if number == 1:
                    self._next_offset += others_count
                self.chunks[self._next_offset] = chunk
                self._next_offset += 1
            self._delivery.committed(self._next_offset)
            self._next_offset += 1  # the mark at the end of the transaction

    def assert_whole(self, count: int) -> None:
        """Checks that so many repositories were written, each where its manifest says."""
        assert len(self.places) == count
        for first, end in self.places:
            assert_whole([chunk for at, chunk in self.chunks.items() if first <= at < end])


@pytest.fixture
def delivery() -> Iterator[Delivery]:
    made = Delivery(0, "chunks", end_offset=BEGIN)
    yield made
    made.close()


def fetched(spool: Spool, car: bytes = EXPORT.car()) -> Fetched:
    request = Request(DID, Cause.BACKFILL, None, None, None, 1_790_000_000_000_000)
    start = Start(job_of(request, 0, None, 0), 0, "pds.example.com")
    source = Source("https://pds.example.com", is_last=True)
    return Fetched(start, source, "pds.example.com", spooled(spool, car), 1_790_000_000_000_001)


def spooled_size(spool: Spool) -> int:
    """Returns the size of the chunks of one repository."""
    found = spooled(spool)
    size_bytes = found.file.size_bytes
    found.file.close()
    return size_bytes


def test_a_manifest_comes_after_its_chunks_are_committed_and_names_their_place(
    spool: Spool, delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery_module, "SLICE_BYTES", 5_000)
    for _ in range(3):
        delivery.add(fetched(spool))
    written = Written(delivery)
    written.run()
    written.assert_whole(3)
    assert all(b"manifest" not in values[1:] for values in written.slices)
    assert spool.used_bytes == 0


def test_small_repositories_go_together(spool: Spool, delivery: Delivery) -> None:
    for _ in range(10):
        delivery.add(fetched(spool))
    written = Written(delivery)
    written.run()
    written.assert_whole(10)
    assert len(written.slices) == 2
    assert written.slices[1] == [b"manifest"] * 10


def test_who_comes_meanwhile_goes_with_the_manifests(spool: Spool, delivery: Delivery) -> None:
    written = Written(delivery)
    delivery.add(fetched(spool))
    first = delivery.next_slice(written.answer)
    delivery.committed(BEGIN + len(first))
    delivery.add(fetched(spool))
    second = delivery.next_slice(written.answer)
    assert [output.topic for output in second] == ["manifest"] + ["chunks"] * len(first)
    delivery.committed(BEGIN + 2 * len(first) + 1)
    delivery.next_slice(written.answer)
    begin = BEGIN + len(first) + 1
    assert written.places == [(BEGIN, BEGIN + len(first)), (begin, begin + len(first))]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_where_somebody_else_wrote_in_between_each_is_written_again_alone(
    spool: Spool, delivery: Delivery, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    size_bytes = spooled_size(spool)
    monkeypatch.setattr(delivery_module, "SLICE_BYTES", 3 * size_bytes)
    for _ in range(9):
        delivery.add(fetched(spool))
    written = Written(delivery, aborted={number: 2})
    written.run()
    written.assert_whole(9)
    assert len(written.slices) == 3 + 3 + 1
    assert spool.used_bytes == 0


@settings(deadline=None, max_examples=50)
@given(
    sizes=st.lists(st.sampled_from(sorted(EXPORTS)), max_size=8),
    aborted=st.dictionaries(st.integers(0, 9), st.integers(1, 3)),
    slice_bytes=st.integers(1, 30_000),
)
def test_whatever_comes_in_between_each_manifest_names_its_own_chunks(
    tmp_path_factory: pytest.TempPathFactory,
    sizes: list[int],
    aborted: dict[int, int],
    slice_bytes: int,
) -> None:
    spool = Spool(tmp_path_factory.mktemp("spool"), limit_bytes=10_000_000)
    with closing(Delivery(0, "chunks", BEGIN)) as made, pytest.MonkeyPatch.context() as patch:
        patch.setattr(delivery_module, "SLICE_BYTES", slice_bytes)
        for size in sizes:
            made.add(fetched(spool, EXPORTS[size].car()))
        written = Written(made, aborted)
        written.run()
    assert len(written.places) == len(sizes)
    for size, (first, end) in zip(sizes, written.places, strict=True):
        found = [chunk for at, chunk in written.chunks.items() if first <= at < end]
        if size:
            assert_whole(found, EXPORTS[size])
        else:
            assert found == []
    assert spool.used_bytes == 0


def test_empty_repositories_need_no_chunks(spool: Spool, delivery: Delivery) -> None:
    empty = export({}, rev=wire.rev(5)).car()
    for _ in range(3):
        delivery.add(fetched(spool, empty))
    written = Written(delivery)
    written.run()
    assert written.places == [Place(BEGIN, BEGIN)] * 3
    assert len(written.slices) == 1


def test_a_large_repository_is_written_in_bounded_slices(
    spool: Spool, delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery_module, "SLICE_BYTES", 4_000)
    delivery.add(fetched(spool))
    written = Written(delivery)
    written.run()
    sizes = [sum(len(value or b"") for value in values) for values in written.slices]
    largest_chunk = 2_000 + 500
    assert len(sizes) > 2
    assert max(sizes) < 4_000 + largest_chunk


def test_small_messages_are_made_when_they_are_written(delivery: Delivery) -> None:
    made: list[str] = []

    def make() -> list[OutputMessage]:
        made.append("made")
        return [OutputMessage("repairs", 0, b"key", None, [], 0)]

    delivery.add_small(make)
    assert not made
    assert not delivery.is_empty
    written = Written(delivery)
    written.run()
    assert (made, written.slices) == (["made"], [[None]])


def test_what_waits_is_let_go_when_the_partition_is(spool: Spool, delivery: Delivery) -> None:
    delivery.add(fetched(spool))
    delivery.add(fetched(spool))
    delivery.next_slice(lambda _fetched, _place: [])
    assert delivery.waiting_count == 2
    delivery.close()
    assert (delivery.waiting_count, spool.used_bytes) == (0, 0)
