"""Compact against a history: whatever is lost, repeated or late, it claims only what is so."""

from hypothesis import given
from hypothesis import strategies as st
from support.events import account, commit, create, delete, refused, sync

from pipelines.atproto.frames import Action
from pipelines.compact.accounts import without_repository
from pipelines.compact.events import Event, EventOp
from pipelines.compact.reducer import reduce_event
from pipelines.compact.state import RepoState, Sync

PATHS = [f"a.b.c/{n}" for n in range(4)]
Tree = dict[str, str]


def history(steps: list[list[int]]) -> tuple[list[Event], list[Tree]]:
    """Returns the commits of a repository and its records after each; commit n is at index n."""
    tree: Tree = {}
    events: list[Event] = []
    trees: list[Tree] = []
    for number, step in enumerate(steps):
        ops: list[EventOp] = []
        for index in dict.fromkeys(step):
            path = PATHS[index]
            if path in tree:
                ops.append(delete(path, tree.pop(path)))
            else:
                tree[path] = f"cid-{number}-{index}"
                ops.append(create(path, tree[path]))
        events.append(commit(number, number - 1 if number else None, *ops))
        trees.append(dict(tree))
    return events, trees


def seq_of(event: Event) -> int:
    assert event.source.seq is not None
    return event.source.seq


def apply(tree: Tree, ops: tuple[EventOp, ...]) -> None:
    for op in ops:
        if op.action is Action.DELETE:
            del tree[op.path]  # an operation that does not fit the records is a KeyError here
        else:
            assert op.cid is not None
            tree[op.path] = op.cid


steps = st.lists(st.lists(st.sampled_from(range(len(PATHS))), max_size=3), min_size=1, max_size=8)


@st.composite
def disturbed(draw: st.DrawFn) -> tuple[list[Event], list[Event], list[Tree]]:
    """A history, and how it arrived: with losses, repetitions, delays, syncs and refusals."""
    events, trees = history(draw(steps))
    arrived: list[Event] = []
    for number in draw(st.lists(st.sampled_from(range(len(events))), max_size=16)):
        kind = draw(st.sampled_from(["commit", "commit", "commit", "sync", "refused"]))
        if kind == "commit":
            arrived.append(events[number])
        elif kind == "sync":
            arrived.append(sync(number))
        else:
            arrived.append(refused(number))
    return events, arrived, trees


@given(disturbed())
def test_what_is_held_is_always_the_tree_of_the_head(
    case: tuple[list[Event], list[Event], list[Tree]],
) -> None:
    _, arrived, trees = case
    state: RepoState | None = None
    tree: Tree = {}
    newest = -1
    for event in arrived:
        known = state
        reduction = reduce_event(known, event, 0)
        apply(tree, reduction.ops)
        state = reduction.state or known
        assert state is not None
        newest = max(newest, seq_of(event))
        assert state.seen is not None
        number = int(state.seen.commit.removeprefix("commit-"))
        assert number == newest
        if state.head is None:
            assert (tree, state.sync) == ({}, Sync.DESYNCHRONIZED)
            continue
        held = int(state.head.signed.commit.removeprefix("commit-"))
        assert tree == trees[held]
        # Synchronized exactly if nothing newer is known to exist.
        assert (state.sync is Sync.SYNCHRONIZED) == (held == newest)


@given(disturbed())
def test_the_whole_history_heals_whatever_happened_before(
    case: tuple[list[Event], list[Event], list[Tree]],
) -> None:
    events, arrived, trees = case
    state: RepoState | None = None
    tree: Tree = {}
    for event in [*arrived, *events, *events]:
        reduction = reduce_event(state, event, 0)
        apply(tree, reduction.ops)
        state = reduction.state or state
    assert state is not None
    assert state.sync is Sync.SYNCHRONIZED
    assert tree == trees[-1]


@given(disturbed(), st.integers(0, 16))
def test_after_a_deletion_nothing_of_before_returns(
    case: tuple[list[Event], list[Event], list[Tree]], moment: int
) -> None:
    events, arrived, _ = case
    state: RepoState | None = None
    for event in arrived[:moment]:
        state = reduce_event(state, event, 0).state or state
    gone = reduce_event(state, account(99, active=False, status="deleted"), 0).state
    assert gone is not None
    back = reduce_event(without_repository(gone), account(100), 0).state
    assert back is not None
    seen = {seq_of(event) for event in arrived[:moment]}
    for event in events:
        if seen and seq_of(event) <= max(seen):
            assert reduce_event(back, event, 0).ops == ()
