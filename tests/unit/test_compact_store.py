"""The local store, and the uncommitted changes above it."""

from pathlib import Path

import orjson
import pytest
from rocksdict import Options, Rdict
from support.answers import chunk_values, snapshot_of
from support.events import DID, account, commit, create, delete, rev

from pipelines.atproto.cid import cid_of, encode_cid
from pipelines.atproto.syntax import Did
from pipelines.compact import held as held_module
from pipelines.compact.accounts import without_repository
from pipelines.compact.events import CommitEvent, Event
from pipelines.compact.held import HeldPartition
from pipelines.compact.reducer import reduce_event
from pipelines.compact.repair import after_slice, lost, reduce_answer
from pipelines.compact.state import RepoState, Sync
from pipelines.compact.store import Changes, Meta, Record, Store
from pipelines.rocks import StoreError, remove_store

OTHER_DID = Did(f"{DID}a")
CIDS = [encode_cid(cid_of(b"%d" % n)) for n in range(5)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


def fresh(folder: Path) -> Store:
    store = Store(folder)
    store.write(Changes(), Meta({"t": "id"}))
    return store


def apply(held: HeldPartition, event: Event) -> None:
    reduction = reduce_event(held.repo(event.did), event, 0)
    assert reduction.state is not None
    rev_of = event.signed.rev if isinstance(event, CommitEvent) else None
    held.put(reduction.state, rev_of, reduction.ops)


FIRST = commit(1, None, create("a.b.c/2", CIDS[0]), create("a.b.c/1", CIDS[1]))
SECOND = commit(2, 1, delete("a.b.c/1", CIDS[1]), create("a.b.d/1", CIDS[2]))


# --- store


def test_what_was_written_is_there_after_opening_again(folder: Path) -> None:
    store = fresh(folder)
    record = Record(cid_of(b"0"), rev(1))
    meta = Meta({"t": "id"}, {"t": 7}, written_ms=5)
    meta.repos_count[Sync.SYNCHRONIZED] = 2
    of_record = (DID, "a.b.c/1")
    store.write(
        Changes({DID: b"s"}, {DID: True}, {DID: 7}, {DID: 2**40}, {of_record: record}), meta
    )
    store.close()
    store = Store(folder)
    assert store.meta == meta
    assert store.repo(DID) == b"s"
    assert store.repo(OTHER_DID) is None
    assert list(store.purging()) == [DID]
    assert list(store.records(DID)) == [("a.b.c/1", record)]
    assert list(store.deleted()) == [(DID, 7)]
    assert list(store.applying()) == [(DID, 2**40)]
    store.write(
        Changes({DID: None}, {DID: False}, {DID: None}, {DID: None}, {of_record: None}), meta
    )
    assert store.repo(DID) is None
    left = [*store.purging(), *store.deleted(), *store.applying(), *store.records(DID)]
    assert left == []
    store.close()


def test_a_store_tells_in_which_topics_a_record_lies(folder: Path) -> None:
    store = fresh(folder)
    ours, theirs = cid_of(b"0"), cid_of(b"1")
    wanted = {
        "a.b.c/1": Record(ours, rev(1)),
        "a.b.c/2": Record(ours, rev(1), is_former=True),
        "a.b.c/3": Record(ours, rev(1), former_cid=theirs),
    }
    store.write(
        Changes(records={(DID, path): record for path, record in wanted.items()}),
        Meta({"t": "id"}),
    )
    assert dict(store.records(DID)) == wanted
    assert {path: store.record(DID, path) for path in wanted} == wanted
    store.close()


def test_records_come_in_the_order_of_their_bytes_and_of_one_repository(folder: Path) -> None:
    store = fresh(folder)
    paths = ["a.b.c/10", "a.b.c/1", "a.b.c/9", "a.b.cc/1", "A.b.c/1", "a.b.c/~"]
    record = Record(cid_of(b"0"), rev(1))
    records: dict[tuple[Did, str], Record | None] = {(DID, path): record for path in paths}
    records[OTHER_DID, "a.b.c/5"] = record  # the other DID's name begins like this one's
    store.write(Changes(records=records), Meta({"t": "id"}))
    assert [path for path, _ in store.records(DID)] == sorted(paths)
    for number, path in enumerate(sorted(paths)):
        behind = sorted(paths)[number + 1 :]
        assert [later for later, _ in store.records(DID, path)] == behind
    assert [path for path, _ in store.records(DID, "a.b.c/5")] == [
        "a.b.c/9",
        "a.b.c/~",
        "a.b.cc/1",
    ]
    assert [path for path, _ in store.records(OTHER_DID)] == ["a.b.c/5"]
    store.close()


@pytest.mark.parametrize("damage", ["CURRENT", "MANIFEST-*"])
def test_a_damaged_store_is_named(folder: Path, damage: str) -> None:
    fresh(folder).close()
    for file in folder.glob(damage):
        file.write_bytes(b"junk")
    with pytest.raises(StoreError, match="cannot be opened"):
        Store(folder)
    remove_store(folder)
    assert Store(folder).meta is None


@pytest.mark.parametrize(
    ("meta", "complaint"),
    [
        (b"{}", "does not say what it is"),
        (b"no json", "does not say what it is"),
        (orjson.dumps({"format": 99}), "has format 99"),
    ],
)
def test_a_store_of_another_kind_is_named(folder: Path, meta: bytes, complaint: str) -> None:
    db = Rdict(str(folder), Options(raw_mode=True))
    db[b"m"] = meta
    db.close()
    with pytest.raises(StoreError, match=complaint):
        Store(folder)


# --- what is above it


def test_changes_are_seen_at_once_and_stored_with_the_commit(folder: Path) -> None:
    store = fresh(folder)
    held = HeldPartition(store)
    apply(held, FIRST)
    assert held.repo(DID) is not None
    assert (store.repo(DID), list(store.records(DID))) == (None, [])
    assert held.repos_count == {}
    held.commit({"latest": 3}, now_ms=8)
    assert held.repos_count == {Sync.SYNCHRONIZED: 1}
    assert [path for path, _ in held.records(DID)] == ["a.b.c/1", "a.b.c/2"]
    apply(held, SECOND)
    held.commit({"latest": 5, "repos": 2}, now_ms=9)
    held.close()
    store = Store(folder)
    assert store.meta is not None
    assert (store.meta.next_offsets, store.meta.written_ms) == ({"latest": 5, "repos": 2}, 9)
    assert store.meta.repos_count == {Sync.SYNCHRONIZED: 1}
    again = HeldPartition(store)
    state = again.repo(DID)
    assert state is not None
    assert state.head is not None
    assert state.head.signed.rev == rev(2)
    assert [path for path, _ in again.records(DID)] == ["a.b.c/2", "a.b.d/1"]
    again.close()


def test_what_is_discarded_never_was(folder: Path) -> None:
    held = HeldPartition(fresh(folder))
    apply(held, FIRST)
    held.commit({}, now_ms=1)
    before = held.repo(DID)
    apply(held, SECOND)
    held.remove_record(DID, "a.b.c/2")
    held.discard()
    assert held.repo(DID) == before
    held.commit({}, now_ms=2)
    assert [path for path, _ in held.records(DID)] == ["a.b.c/1", "a.b.c/2"]
    held.close()


def test_purging_and_counts_follow_the_commits(folder: Path) -> None:
    held = HeldPartition(fresh(folder))
    apply(held, FIRST)
    held.commit({}, now_ms=1)
    apply(held, account(3, active=False, status="deleted"))
    assert (held.first_deleted, held.deleted_count) == (None, 0)
    held.commit({}, now_ms=2)
    assert (held.first_deleted, held.deleted_count) == ((DID, 1_000_003), 1)
    held.close()
    held = HeldPartition(Store(folder))
    assert (held.first_deleted, held.purging) == ((DID, 1_000_003), set())
    state = held.repo(DID)
    assert state is not None
    held.put(without_repository(state), None, ())
    assert held.purging == set()
    held.commit({}, now_ms=3)
    assert (held.first_deleted, held.purging) == (None, {DID})
    assert held.repos_count == {Sync.UNKNOWN: 1}
    held.close()
    held = HeldPartition(Store(folder))
    assert (held.first_deleted, held.purging) == (None, {DID})
    held.close()


def test_of_deletions_the_one_that_waits_for_longest_comes_first(folder: Path) -> None:
    held = HeldPartition(fresh(folder))
    dids = [Did(f"did:plc:{n}") for n in (3, 1, 2)]
    for number, did in enumerate(dids, 1):
        apply(held, commit(1, None, create("a.b.c/1", CIDS[0]), did=did))
        apply(held, account(number, active=False, status="deleted", did=did))
        held.commit({}, now_ms=1)
    assert held.first_deleted == (dids[0], 1_000_001)
    apply(held, account(9, did=dids[0]))
    held.commit({}, now_ms=2)
    assert held.first_deleted == (dids[1], 1_000_002)
    held.close()
    held = HeldPartition(Store(folder))
    assert (held.first_deleted, held.deleted_count) == ((dids[1], 1_000_002), 2)
    held.close()


def test_more_repositories_than_the_cache_takes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_module, "CACHED_REPOS_COUNT", 3)
    held = HeldPartition(fresh(folder))
    dids = [Did(f"did:plc:{n}") for n in range(10)]
    states: dict[Did, RepoState] = {}
    for did in dids:
        event = commit(1, None, create("a.b.c/1", CIDS[0]), did=did)
        apply(held, event)
        held.commit({}, now_ms=1)
    for did in dids:
        state = held.repo(did)
        assert state is not None
        states[did] = state
    assert [state.did for state in states.values()] == dids
    assert held.repos_count == {Sync.SYNCHRONIZED: 10}
    held.close()


# --- snapshots that are applied


def answered(held: HeldPartition, did: Did, offset: int) -> RepoState:
    snapshot = snapshot_of(5, 1, chunk_values(5, {"a.b.c/1": "x"}, did), did=did)
    state = reduce_answer(held.repo(did), snapshot, offset).state
    assert state is not None
    return state


def first_of(held: HeldPartition) -> Did | None:
    return held.first_applying


def test_snapshots_are_applied_in_the_order_in_which_they_came(folder: Path) -> None:
    before = HeldPartition(fresh(folder))
    for did, offset in ((OTHER_DID, 3), (DID, 9)):
        before.put(answered(before, did, offset), None, ())
    assert first_of(before) is None  # not committed yet
    before.commit({}, now_ms=8)
    assert first_of(before) == OTHER_DID
    before.close()
    # The store has them by name, in which the other one's comes last.
    held = HeldPartition(Store(folder))
    assert first_of(held) == OTHER_DID
    first = held.repo(OTHER_DID)
    assert first is not None
    held.put(after_slice(first, 1, 1, None), None, ())
    held.discard()
    assert first_of(held) == OTHER_DID
    held.put(after_slice(first, 1, 1, None), None, ())
    held.commit({}, now_ms=9)
    assert first_of(held) == DID
    half = held.repo(DID)
    assert half is not None
    held.put(lost(after_slice(half, 0, 0, "a.b.c/0")), None, ())
    held.commit({}, now_ms=10)
    assert first_of(held) is None
    assert held.repos_count == {Sync.SYNCHRONIZED: 1, Sync.APPLYING: 1}
    held.close()
