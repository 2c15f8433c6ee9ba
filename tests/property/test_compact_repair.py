"""Repair against a history: whatever came, in whatever order, the state ends in the truth.

The oracle is a list of trees, made beside the commits and never asked by what is tested.
"""

from dataclasses import replace
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st
from support.answers import chunk_values, record_cid, snapshot_of
from support.events import DID, commit, create, delete, refused, sync, unresolved

from pipelines.atproto.cid import encode_cid, parse_cid
from pipelines.atproto.frames import Action
from pipelines.atproto.syntax import Nsid, RecordKey, Tid
from pipelines.compact.events import CommitEvent, Event, EventOp
from pipelines.compact.merging import merge_slice
from pipelines.compact.reducer import Outcome, reduce_event
from pipelines.compact.repair import after_slice, lost, reduce_answer, replay, request_for
from pipelines.compact.state import RepoState, Sync
from pipelines.compact.store import Record
from pipelines.repair.chunks import Chunk, ChunkRecord, parse_chunk

PATHS = [f"a.b.c/{n}" for n in range(6)]
Texts = dict[str, str]


class History(NamedTuple):
    """The truth: commit n is at index n, and so is what the records say after it."""

    commits: list[CommitEvent]
    trees: list[Texts]


class Arrival(NamedTuple):
    """Something that happens: an event, an answer, or some work on a snapshot."""

    kind: str
    number: int
    size: int


def history(steps: list[list[int]]) -> History:
    tree: Texts = {}
    found = History([], [])
    for number, step in enumerate(steps):
        ops: list[EventOp] = []
        for index in dict.fromkeys(step):
            path = PATHS[index]
            if path in tree and (number + index) % 2:
                ops.append(delete(path, record_cid(tree.pop(path))))
                continue
            before = tree.get(path)
            tree[path] = f"{number} {index}"
            op = create(path, record_cid(tree[path]))
            if before is not None:
                op = op._replace(action=Action.UPDATE, prev=record_cid(before))
            ops.append(op)
        found.commits.append(commit(number, number - 1 if number else None, *ops))
        found.trees.append(dict(tree))
    return found


class World:
    """One repository and everything around it, in memory."""

    def __init__(self, truth: History) -> None:
        self.truth = truth
        self.state: RepoState | None = None
        self.records: dict[str, Record] = {}
        self.events: list[Event] = []
        self.chunks: dict[int, list[Chunk]] = {}
        self.requests_count = 0
        self.slices_count = 0

    def happen(self, arrival: Arrival) -> None:
        kind, number, size = arrival
        if kind == "answer":
            self.answer(number, size)
        elif kind == "work":
            self.work(size)
        elif kind == "lose":
            self.lose()
        else:
            self.receive(self.event(kind, number))
        self.check()

    def event(self, kind: str, number: int) -> Event:
        match kind:
            case "sync":
                return sync(number)
            case "refused":
                return refused(number)
            case "unresolved":
                return unresolved(number)
            case _:
                return self.truth.commits[number]

    def receive(self, event: Event) -> None:
        self.events.append(event)
        reduction = reduce_event(self.state, event, len(self.events) - 1)
        self.change(reduction.state, reduction.ops, event)

    def answer(self, number: int, chunk_count: int) -> None:
        tree = self.truth.trees[number]
        values = chunk_values(number, tree, chunk_count=chunk_count)
        offset = len(self.chunks)
        self.chunks[offset] = [parse_chunk(value) for value in values]
        reduction = reduce_answer(self.state, snapshot_of(number, len(tree), values), offset)
        self.change(reduction.state, ())

    def work(self, limit: int) -> bool:
        """Does one slice of what there is to do; returns whether there was anything."""
        state = self.state
        if state is None or state.pending_snapshot is None:
            return False
        self.slices_count += 1
        applying = state.applying
        assert applying is not None
        if applying.is_merged:
            event = self.events[state.waiting[0].events_offset]
            reduction = replay(state, event)
            self.change(reduction.state, reduction.ops, event)
            return True
        chunks, index = self.chunks[applying.snapshot_offset], applying.next_chunk_index
        after = applying.after_path or ""
        records: tuple[ChunkRecord, ...] = chunks[index].records if chunks else ()
        part = merge_slice(
            [record for record in records if record.path > after],
            ((path, self.records[path]) for path in sorted(self.records) if path > after),
            limit,
            is_last=index + 1 >= len(chunks),
        )
        assert len(part.ops) <= limit
        self.apply(part.ops, applying.snapshot.rev)
        index += part.is_whole
        self.change(after_slice(state, index, index, part.after_path or after or None), ())
        return True

    def lose(self) -> None:
        state = self.state
        if state is None or state.pending_snapshot is None:
            return
        assert state.applying is not None
        if not state.applying.is_merged:
            self.change(lost(state), ())

    def change(
        self, state: RepoState | None, ops: tuple[EventOp, ...], event: Event | None = None
    ) -> None:
        if ops:
            assert isinstance(event, CommitEvent)
            self.apply(ops, event.signed.rev)
        if state is None:
            return
        if request_for(self.state, state, 5) is not None:
            self.requests_count += 1
            state = replace(state, requested_us=5)
        self.state = state

    def apply(self, ops: tuple[EventOp, ...], rev: Tid) -> None:
        """Carries operations out; one that does not fit the records fails."""
        for op in ops:
            before = self.records.pop(op.path, None)
            assert (None if before is None else encode_cid(before.cid)) == op.prev
            assert (op.action is Action.CREATE) == (before is None)
            assert before is None or before.rev <= rev
            if op.cid is not None:
                assert op.cid != op.prev
                self.records[op.path] = Record(parse_cid(op.cid), rev)
            else:
                assert op.action is Action.DELETE

    def paths(self) -> dict[str, str]:
        return {path: encode_cid(record.cid) for path, record in self.records.items()}

    def tree_of(self, number: int) -> dict[str, str]:
        return {path: record_cid(text) for path, text in self.truth.trees[number].items()}

    def is_synchronized_at(self, number: int) -> bool:
        state = self.state
        if state is None or state.head is None or state.sync is not Sync.SYNCHRONIZED:
            return False
        return number_of(state.head.signed.commit) == number

    def check(self) -> None:
        """Checks what the state claims of the records."""
        state = self.state
        if state is None:
            assert self.records == {}
            return
        head = None if state.head is None else number_of(state.head.signed.commit)
        is_between = (
            state.applying is not None
            and state.applying.is_partial
            and not state.applying.is_merged
        )
        if not is_between:
            assert self.paths() == ({} if head is None else self.tree_of(head))
        assert (state.sync is Sync.APPLYING) == (state.applying is not None)
        if state.sync is Sync.SYNCHRONIZED:
            assert state.head is not None
            assert state.head.signed == state.seen
            assert (state.waiting, state.reason, state.requested_us) == ((), None, None)
        else:
            # Whatever is broken was asked for, or is being repaired.
            assert state.pending_snapshot is not None or state.requested_us is not None


def number_of(commit_cid: str) -> int:
    return int(commit_cid.removeprefix("commit-"))


_STEPS = st.lists(st.lists(st.sampled_from(range(len(PATHS))), max_size=4), min_size=1, max_size=8)
_EVENTS = ["commit", "commit", "commit", "sync", "refused", "unresolved"]
_KINDS = [*_EVENTS, "answer", "answer", "lose", *["work"] * 6]


@st.composite
def courses(draw: st.DrawFn) -> tuple[History, list[Arrival]]:
    """A history, and in which order what of it arrives, with losses and repetitions."""
    truth = history(draw(_STEPS))
    number = st.sampled_from(range(len(truth.commits)))
    arrival = st.builds(Arrival, st.sampled_from(_KINDS), number, st.integers(1, 3))
    return truth, draw(st.lists(arrival, max_size=40))


@settings(max_examples=300)
@given(courses())
def test_whatever_happened_the_server_s_answer_makes_it_the_truth(
    case: tuple[History, list[Arrival]],
) -> None:
    truth, course = case
    world = World(truth)
    for arrival in course:
        world.happen(arrival)
    last = len(truth.trees) - 1
    rounds = 0
    while True:
        while world.work(2):
            world.check()
        if world.is_synchronized_at(last):
            break
        # Each request is answered with what the server has: two rounds at most, of which the
        # first may be an answer that came while another one was being applied.
        rounds += 1
        assert rounds <= 2
        world.happen(Arrival("answer", last, 2))
    assert world.paths() == world.tree_of(last)


@given(courses())
def test_a_snapshot_and_what_came_meanwhile_need_no_second_one(
    case: tuple[History, list[Arrival]],
) -> None:
    """The commits behind a snapshot chain to it, wherever they came while it was applied."""
    truth, course = case
    world = World(truth)
    last = len(truth.trees) - 1
    # Something is missing, a snapshot of before comes, and then everything behind it in order.
    number = course[0].number if course else 0
    world.happen(Arrival("unresolved", 0, 1))
    world.happen(Arrival("answer", number, 1 + len(course) % 3))
    live = [Arrival("commit", later, 1) for later in range(number + 1, last + 1)]
    for place, arrival in enumerate(live):
        for slice_number in range(place % 3):
            world.happen(Arrival("work", 0, 1 + slice_number))
        world.happen(arrival)
    while world.work(1):
        world.check()
    assert world.is_synchronized_at(last)
    assert world.requests_count == 0
    assert world.paths() == world.tree_of(last)


# --- the merge alone, against dictionaries


@given(
    st.dictionaries(st.sampled_from(PATHS), st.sampled_from("xyz")),
    st.dictionaries(st.sampled_from(PATHS), st.sampled_from("xyz"), min_size=1),
    st.integers(1, 3),
    st.booleans(),
)
def test_a_slice_brings_what_is_held_to_what_is_wanted_up_to_its_end(
    held: Texts, wanted: Texts, limit: int, is_last: bool
) -> None:
    rev = Tid("3mvzvhgmyc22b")
    records = {path: Record(parse_cid(record_cid(text)), rev) for path, text in held.items()}
    targets = [
        ChunkRecord(Nsid("a.b.c"), RecordKey(path[6:]), record_cid(text), {}, None, None)
        for path, text in sorted(wanted.items())
    ]
    part = merge_slice(targets, sorted(records.items()), limit, is_last=is_last)
    end = part.after_path if not part.is_whole or not is_last else max({*held, *wanted})
    result = dict(held)
    for op in part.ops:
        if op.cid is None:
            del result[op.path]
        else:
            (result[op.path],) = (text for text in "xyz" if record_cid(text) == op.cid)
    assert end is not None
    expected = {path: text for path, text in wanted.items() if path <= end}
    expected |= {path: text for path, text in held.items() if path > end}
    assert result == expected
    assert len(part.ops) <= limit
    changed = sum(held.get(path) != wanted.get(path) for path in {*held, *wanted} if path <= end)
    assert len(part.ops) == changed
    assert part.is_whole or len(part.ops) == limit


def test_an_answer_for_nobody_known_is_applied() -> None:
    world = World(history([[0, 1, 2]]))
    world.happen(Arrival("answer", 0, 2))
    assert world.state is not None
    assert (world.state.did, world.state.sync) == (DID, Sync.APPLYING)
    while world.work(1):
        world.check()
    assert world.slices_count == 3
    assert world.paths() == world.tree_of(0)
    assert reduce_event(world.state, world.truth.commits[0], 0).outcome is Outcome.STALE
