"""Applying a snapshot in slices: a real store, and topics that are lists."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from support.answers import chunk_values, record_cid, snapshot_of
from support.events import DID, commit, create, encode_event, rev

from pipelines.atproto.cid import encode_cid
from pipelines.compact import applying as applying_module
from pipelines.compact.accounts import Policy
from pipelines.compact.applying import CHECK_SLICE_BYTES, PATIENCE_MS, RETRY_MS, Applier
from pipelines.compact.events import CommitEvent
from pipelines.compact.held import HeldPartition
from pipelines.compact.outputs import OutputTopics
from pipelines.compact.reducer import reduce_event
from pipelines.compact.repair import reduce_answer
from pipelines.compact.state import RepoState, Sync
from pipelines.compact.store import Changes, Meta, Store
from pipelines.compact.writer import Writer, change_of
from pipelines.errors import BrokerUnavailableError, TopicShortError
from pipelines.kafka.counts import Tally
from pipelines.kafka.messages import InputMessage, OutputMessage
from pipelines.repair.manifests import Snapshot

TOPICS = OutputTopics("p.repos", "p.resyncs", "p.latest.other", {})
PARTITION = 2
SNAPSHOT_OFFSET = 40
FIRST_OFFSET = 1_000
HELD = {"a.b.c/1": "old 1", "a.b.c/2": "same", "a.b.c/7": "gone", "z.z.z/1": "gone too"}
WANTED = {"a.b.c/0": "new 0", "a.b.c/1": "new 1", "a.b.c/2": "same", "a.b.c/5": "new 5"}


class Rows:
    """The topics `chunks` and `events` as lists; offsets have gaps, as markers make them."""

    def __init__(self) -> None:
        self.chunks: dict[int, bytes] = {}
        self.events: dict[int, bytes] = {}
        self.reads_count = 0
        self.is_away = self.is_short = False

    def next(self, partition: int, offset: int, end: int) -> InputMessage | None:
        assert partition == PARTITION
        if self.is_away:
            raise BrokerUnavailableError("away")
        if self.is_short:
            raise TopicShortError("short")
        self.reads_count += 1
        found = min((at for at in self.chunks if offset <= at < end), default=None)
        return None if found is None else self._message(found, self.chunks[found])

    def read(
        self, partition: int, offsets: Sequence[int], budget_s: float
    ) -> Mapping[int, InputMessage | None]:
        assert (partition, list(offsets)) == (PARTITION, sorted(offsets))
        assert budget_s > 0
        if self.is_short:
            raise TopicShortError("short")
        values = {offset: self.events.get(offset) for offset in offsets}
        return {
            offset: None if value is None else self._message(offset, value)
            for offset, value in values.items()
        }

    def rest(self) -> None:
        """Keeps nothing ready."""

    def close(self) -> None:
        """Holds nothing."""

    def _message(self, offset: int, value: bytes) -> InputMessage:
        return InputMessage("p.any", PARTITION, offset, 0, DID.encode(), value, [])


class Bench:
    """A partition with one repository that has `HELD`, and what applies a snapshot to it."""

    def __init__(self, folder: Path) -> None:
        self.rows = Rows()
        self.now_ms = 0
        store = Store(folder)
        if store.meta is None:
            store.write(Changes(), Meta({"t": "id"}))
        self.held = HeldPartition(store)
        self.tally = Tally()
        self.writer = Writer(TOPICS, self.tally, Policy())
        self.applier = self.create_applier()
        self.outputs: list[OutputMessage] = []

    def create_applier(self) -> Applier:
        return Applier(self.writer, self.tally, self.rows, self.rows, lambda: self.now_ms)

    @property
    def state(self) -> RepoState:
        state = self.held.repo(DID)
        assert state is not None
        return state

    @property
    def paths(self) -> dict[str, str]:
        return {path: encode_cid(record.cid) for path, record in self.held.records(DID)}

    def commit(self, outputs: Sequence[OutputMessage]) -> None:
        self.outputs += outputs
        self.held.commit({}, 0)
        self.tally.commit()

    def receive(self, event: CommitEvent) -> None:
        offset = 50 + 2 * len(self.rows.events)
        self.rows.events[offset] = encode_event(event)
        reduction = reduce_event(self.held.repo(DID), event, offset)
        assert reduction.state is not None
        change = change_of(event, reduction.ops)
        self.commit(self.writer.write(self.held, PARTITION, reduction.state, change))

    def answer(self, texts: Mapping[str, str], chunk_count: int = 2, number: int = 5) -> None:
        values = chunk_values(number, texts, chunk_count=chunk_count)
        self.rows.chunks = {FIRST_OFFSET + 3 * n: value for n, value in enumerate(values)}
        snapshot = snapshot_of(
            number,
            len(texts),
            values,
            first_chunk_offset=FIRST_OFFSET,
            end_chunk_offset=max(self.rows.chunks, default=FIRST_OFFSET - 1) + 1,
        )
        self.take(snapshot)

    def take(self, snapshot: Snapshot) -> None:
        reduction = reduce_answer(self.held.repo(DID), snapshot, SNAPSHOT_OFFSET)
        assert reduction.state is not None
        self.commit(self.writer.write(self.held, PARTITION, reduction.state))

    def slice(self) -> bool:
        work = self.applier.slice(PARTITION, self.held)
        if work is None:
            return False
        assert work.partition == PARTITION
        self.commit(work.outputs)
        return True

    def finish(self) -> int:
        """Works until nothing is left; returns the number of slices."""
        for count in itertools.count():
            if not self.slice():
                return count
        raise AssertionError


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path / "store")
    bench.receive(
        commit(1, None, *(create(path, record_cid(text)) for path, text in HELD.items()))
    )
    assert bench.paths == cids(HELD)
    bench.outputs.clear()
    yield bench
    bench.held.close()


def cids(texts: Mapping[str, str]) -> dict[str, str]:
    return {path: record_cid(text) for path, text in texts.items()}


def changes(outputs: Sequence[OutputMessage]) -> list[tuple[str, str]]:
    """Returns operation and path of the messages of records."""
    return [
        (dict(output.headers)["operation"].decode(), output.key.decode().split("/", 3)[3])
        for output in outputs
        if output.topic == TOPICS.latest_other and output.key is not None
    ]


def requests(outputs: Sequence[OutputMessage]) -> list[dict[str, object]]:
    return [
        orjson.loads(output.value or b"") for output in outputs if output.topic == TOPICS.resyncs
    ]


def test_the_difference_is_written_and_nothing_else(bench: Bench) -> None:
    bench.answer(WANTED)
    bench.finish()
    assert bench.paths == cids(WANTED)
    assert changes(bench.outputs) == [
        ("create", "a.b.c/0"),
        ("update", "a.b.c/1"),
        ("create", "a.b.c/5"),
        ("delete", "a.b.c/7"),
        ("delete", "z.z.z/1"),
    ]
    assert bench.state.sync is Sync.SYNCHRONIZED
    for output in bench.outputs:
        headers = dict(output.headers)
        if output.topic == TOPICS.latest_other:
            assert headers["live"] == b"false"
            assert headers["rev"] == rev(5).encode()
            if output.value is not None:
                value = orjson.loads(output.value)
                assert (value["snapshot_offset"], value["frame_offset"]) == (SNAPSHOT_OFFSET, None)
                assert value["host"] == "pds.example"
    assert requests(bench.outputs) == []
    # Whoever judges next finds the commit of the snapshot.
    bench.receive(commit(6, 5, create("a.b.c/9", record_cid("live"))))
    assert bench.state.sync is Sync.SYNCHRONIZED
    assert dict(bench.outputs[-1].headers)["live"] == b"true"


@pytest.mark.parametrize("wanted", [{}, HELD], ids=["empty", "the same"])
def test_a_snapshot_may_hold_nothing_or_the_same(bench: Bench, wanted: dict[str, str]) -> None:
    bench.answer(wanted)
    bench.finish()
    assert bench.paths == cids(wanted)
    assert len(changes(bench.outputs)) == len(HELD) - len(wanted)
    assert bench.state.sync is Sync.SYNCHRONIZED


@pytest.mark.parametrize("restarts", [False, True])
def test_slices_are_small_and_a_new_member_goes_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, restarts: bool
) -> None:
    monkeypatch.setattr(applying_module, "SLICE_OPS_COUNT", 1)
    bench.answer(WANTED)
    sizes = []
    while bench.state.sync is Sync.APPLYING:
        bench.outputs.clear()
        assert bench.slice()
        sizes.append(len(changes(bench.outputs)))
        if restarts and len(sizes) > 1:
            bench.applier = bench.create_applier()
    assert max(sizes) == 1
    assert sum(sizes) == 5
    assert sizes[0] == 0  # the check
    assert bench.paths == cids(WANTED)


def test_checking_is_cut_into_slices_too(bench: Bench) -> None:
    texts = {f"a.b.c/{n:03}": "x" * 9_000 for n in range(500)}
    bench.answer(texts, chunk_count=60)
    slices = 0
    while not changes(bench.outputs):
        before = bench.rows.reads_count
        assert bench.slice()
        slices += 1
        assert (bench.rows.reads_count - before) * 60 * 9_000 < CHECK_SLICE_BYTES + 2 * 540_000
    assert slices > 2
    bench.finish()
    assert bench.paths == cids(texts)


# --- chunks that are not what the manifest says


def drop_first(snapshot: Snapshot, chunks: dict[int, bytes]) -> Snapshot:
    del chunks[min(chunks)]
    return snapshot


def drop_last(snapshot: Snapshot, chunks: dict[int, bytes]) -> Snapshot:
    del chunks[max(chunks)]
    return snapshot


def drop_all(snapshot: Snapshot, chunks: dict[int, bytes]) -> Snapshot:
    chunks.clear()
    return snapshot


def change_text(snapshot: Snapshot, chunks: dict[int, bytes]) -> Snapshot:
    chunks[min(chunks)] = chunks[min(chunks)].replace(b"new 0", b"odd 0")
    return snapshot


def swap(snapshot: Snapshot, chunks: dict[int, bytes]) -> Snapshot:
    first, last = min(chunks), max(chunks)
    chunks[first], chunks[last] = chunks[last], chunks[first]
    return snapshot


def other_account(snapshot: Snapshot, chunks: dict[int, bytes]) -> Snapshot:
    chunks[min(chunks)] = chunks[min(chunks)].replace(DID.encode(), DID.encode()[:-1] + b"a")
    return snapshot


def no_json(snapshot: Snapshot, chunks: dict[int, bytes]) -> Snapshot:
    chunks[max(chunks)] = b"{"
    return snapshot


def wrong_hash(snapshot: Snapshot, _chunks: dict[int, bytes]) -> Snapshot:
    return replace(snapshot, chunks_sha256="0" * 64)


def wrong_count(snapshot: Snapshot, _chunks: dict[int, bytes]) -> Snapshot:
    return replace(snapshot, records_count=5)


DAMAGES = [
    drop_first,
    drop_last,
    drop_all,
    change_text,
    swap,
    other_account,
    no_json,
    wrong_hash,
    wrong_count,
]
Damage = Callable[[Snapshot, dict[int, bytes]], Snapshot]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damaged_chunks_change_nothing_and_are_asked_for_again(
    bench: Bench, damage: Damage
) -> None:
    values = chunk_values(5, WANTED)
    chunks = {FIRST_OFFSET + n: value for n, value in enumerate(values)}
    snapshot = snapshot_of(
        5, 4, values, first_chunk_offset=FIRST_OFFSET, end_chunk_offset=FIRST_OFFSET + 2
    )
    bench.rows.chunks = chunks
    bench.take(damage(snapshot, chunks))
    bench.finish()
    assert bench.paths == cids(HELD)
    assert changes(bench.outputs) == []
    assert (bench.state.sync, bench.state.reason) == (Sync.DESYNCHRONIZED, "sync.data")
    (request,) = requests(bench.outputs)
    assert (request["did"], request["min_rev"]) == (DID, rev(5))
    # The next answer is whole.
    bench.answer(WANTED)
    bench.finish()
    assert (bench.paths, bench.state.sync) == (cids(WANTED), Sync.SYNCHRONIZED)


def test_chunks_that_go_half_way_wait_for_the_next_answer(bench: Bench) -> None:
    bench.answer(WANTED)
    assert bench.slice()  # the check
    assert bench.slice()  # the first chunk
    assert bench.state.applying is not None
    bench.applier = bench.create_applier()
    bench.rows.chunks.clear()
    bench.finish()
    assert (bench.state.sync, bench.held.first_applying) == (Sync.APPLYING, None)
    assert len(requests(bench.outputs)) == 1
    bench.answer(WANTED | {"a.b.c/8": "newer"}, number=6)
    bench.finish()
    assert bench.paths == cids(WANTED | {"a.b.c/8": "newer"})
    assert bench.state.sync is Sync.SYNCHRONIZED


# --- what waited


def test_what_waited_is_judged_behind_the_snapshot_as_live(bench: Bench) -> None:
    count = 2 * applying_module.REPLAY_SLICE_COUNT + 1
    bench.answer(WANTED)
    bench.slice()
    later = [
        commit(number, number - 1, create(f"a.b.d/{number:03}", record_cid(f"{number}")))
        for number in range(6, 6 + count)
    ]
    for event in later:
        bench.receive(event)
    bench.outputs.clear()
    slices = bench.finish()
    assert slices >= 2 + 3
    assert bench.state.sync is Sync.SYNCHRONIZED
    live = [output for output in bench.outputs if dict(output.headers).get("live") == b"true"]
    assert [path for _, path in changes(live)] == [f"a.b.d/{n:03}" for n in range(6, 6 + count)]
    assert bench.paths == cids(WANTED) | {
        op.path: op.cid for event in later for op in event.ops if op.cid is not None
    }


def test_what_no_longer_chains_is_asked_for_again(bench: Bench) -> None:
    bench.answer(WANTED)
    bench.receive(commit(6, 5))
    bench.receive(commit(7, 6))
    bench.receive(commit(8, 7))
    del bench.rows.events[sorted(bench.rows.events)[1]]  # the first that waits
    bench.outputs.clear()
    bench.finish()
    assert (bench.state.sync, bench.state.reason) == (Sync.DESYNCHRONIZED, "chain.since")
    assert [waiting.rev for waiting in bench.state.waiting] == [rev(7), rev(8)]
    (request,) = requests(bench.outputs)
    assert request["min_rev"] == rev(8)
    assert bench.paths == cids(WANTED)


# --- a broker that is away


def test_a_broker_that_is_away_is_asked_again_later(bench: Bench) -> None:
    bench.answer(WANTED)
    bench.rows.is_away = True
    assert not bench.slice()
    bench.rows.is_away = False
    assert not bench.slice()
    bench.now_ms += RETRY_MS
    bench.finish()
    assert bench.paths == cids(WANTED)


# --- a topic that has lost its end, or that was made anew


def wait_in_vain(bench: Bench) -> None:
    """Has a topic be too short for just not long enough, and then a little longer."""
    since_ms = bench.now_ms
    while bench.now_ms - since_ms < PATIENCE_MS:
        assert not bench.slice()
        bench.now_ms += RETRY_MS


def test_a_topic_that_is_short_for_a_while_is_waited_for(bench: Bench) -> None:
    bench.answer(WANTED)
    for _ in range(2):
        bench.rows.is_short = True
        wait_in_vain(bench)
        bench.rows.is_short = False
        assert bench.slice()  # in time: it waits as long the next time
    bench.finish()
    assert bench.paths == cids(WANTED)
    assert requests(bench.outputs) == []


def test_chunks_of_a_topic_that_stays_short_are_asked_for_again(bench: Bench) -> None:
    bench.answer(WANTED)
    assert bench.slice()  # the check
    assert bench.slice()  # the first chunk
    bench.rows.is_short = True
    bench.applier = bench.create_applier()
    wait_in_vain(bench)
    assert requests(bench.outputs) == []
    bench.finish()
    assert len(requests(bench.outputs)) == 1
    # Who is next in line has no longer to wait.
    bench.answer(WANTED | {"a.b.c/8": "newer"}, number=6)
    bench.finish()
    assert [request["min_rev"] for request in requests(bench.outputs)] == [rev(5), rev(6)]
    bench.rows.is_short = False
    bench.answer(WANTED | {"a.b.c/9": "newest"}, number=7)
    bench.finish()
    assert bench.paths == cids(WANTED | {"a.b.c/9": "newest"})
    assert bench.state.sync is Sync.SYNCHRONIZED


def test_what_waited_in_a_topic_that_stays_short_is_gone(bench: Bench) -> None:
    bench.answer(WANTED)
    bench.receive(commit(6, 5, create("a.b.d/6", record_cid("six"))))
    while bench.paths != cids(WANTED):
        assert bench.slice()
    bench.rows.is_short = True
    wait_in_vain(bench)
    bench.finish()
    assert (bench.state.sync, bench.state.reason) == (Sync.DESYNCHRONIZED, "chain.since")
    assert [request["min_rev"] for request in requests(bench.outputs)] == [rev(6)]
