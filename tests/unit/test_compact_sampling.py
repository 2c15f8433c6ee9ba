"""Repositories of a store are audited in turn, in slices, and what does not match is told."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from support.events import source
from support.exports import Export, export
from support.logs import Log, captured_logs
from support.reexport import head_of

from pipelines.atproto import mst
from pipelines.atproto.commit import parse_commit
from pipelines.atproto.mst import building
from pipelines.atproto.syntax import Did
from pipelines.compact import sampling
from pipelines.compact.audit import Finding
from pipelines.compact.held import HeldPartition
from pipelines.compact.sampling import INTERVAL_S, Sampler
from pipelines.compact.state import RepoState, Sync, encode_repo
from pipelines.compact.store import Changes, Meta, Record, Store

DIDS = [Did(f"did:plc:{letter * 24}") for letter in "abc"]


def repo_of(did: Did) -> Export:
    return export({f"a.b.c/{n}": {"n": n} for n in range(7)}, did=did)


def put(store: Store, did: Did, *, is_damaged: bool = False) -> None:
    """Writes a repository, or one that lacks a record."""
    made = repo_of(did)
    head = head_of(parse_commit(made.commit))
    state = RepoState(did, source(), sync=Sync.SYNCHRONIZED, head=head)
    paths = sorted(made.records)[1 if is_damaged else 0 :]
    records: dict[tuple[Did, str], Record | None] = {
        (did, path): Record(made.records[path], head.signed.rev) for path in paths
    }
    changes = Changes(repos={did: encode_repo(state)}, records=records)
    assert store.meta is not None
    store.write(changes, store.meta)


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[list[Store]]:
    opened = [Store(tmp_path / str(number)) for number in range(2)]
    for store in opened:
        store.write(Changes(), Meta({}))
    yield opened
    for store in opened:
        store.close()


@pytest.fixture
def log() -> Iterator[Log]:
    with captured_logs("compact") as log:
        yield log


def held(stores: list[Store]) -> dict[int, HeldPartition]:
    return {number: HeldPartition(store) for number, store in enumerate(stores)}


def found(sampler: Sampler) -> Mapping[str, int]:
    return +Counter(sampler.counts)


def test_all_repositories_of_all_partitions_have_their_turn(stores: list[Store], log: Log) -> None:
    put(stores[0], DIDS[0])
    put(stores[0], DIDS[2])
    put(stores[1], DIDS[1], is_damaged=True)
    partitions, sampler = held(stores), Sampler()
    for turn in range(3):
        sampler.step(partitions, turn * INTERVAL_S)
    assert found(sampler) == {Finding.MATCHES: 2, Finding.MISMATCH: 1}
    told = log.last("audit_mismatch")
    assert (told["did"], told["partition"]) == (DIDS[1], 1)
    assert "the records have the root" in told["detail"]
    for turn in range(3, 6):
        sampler.step(partitions, turn * INTERVAL_S)
    assert found(sampler) == {Finding.MATCHES: 4, Finding.MISMATCH: 2}


def test_there_is_one_repository_in_each_interval(stores: list[Store]) -> None:
    put(stores[0], DIDS[0])
    partitions, sampler = held(stores), Sampler()
    sampler.step(partitions, 100.0)
    sampler.step(partitions, 99.9 + INTERVAL_S)
    assert found(sampler) == {Finding.MATCHES: 1}
    sampler.step(partitions, 100.0 + INTERVAL_S)
    assert found(sampler) == {Finding.MATCHES: 2}


def test_a_large_one_is_looked_at_in_slices_as_it_was_at_the_beginning(
    stores: list[Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "STEP_COUNT", 2)
    monkeypatch.setattr(sampling, "SLICE_STEPS_COUNT", 1)
    put(stores[0], DIDS[0])
    partitions, sampler = held(stores), Sampler()
    sampler.step(partitions, 0.0)
    assert found(sampler) == {}
    # What is written meanwhile belongs to a later state.
    meta = stores[0].meta
    assert meta is not None
    changed = {(DIDS[0], path): None for path in repo_of(DIDS[0]).records}
    stores[0].write(Changes(records=dict(changed)), meta)
    for _ in range(4):
        sampler.step(partitions, 0.0)
    assert found(sampler) == {Finding.MATCHES: 1}
    sampler.step(partitions, INTERVAL_S)
    assert found(sampler) == {Finding.MATCHES: 1, Finding.MISMATCH: 1}


def test_partitions_may_go_and_come_in_the_middle(
    stores: list[Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "STEP_COUNT", 1)
    put(stores[0], DIDS[0])
    put(stores[1], DIDS[1])
    partitions, sampler = held(stores), Sampler()
    sampler.step(partitions, 0.0)
    sampler.forget()
    partitions.pop(0)
    for _ in range(9):
        sampler.step(partitions, INTERVAL_S)
    assert found(sampler) == {Finding.MATCHES: 1}


def test_without_repositories_there_is_nothing_to_do(stores: list[Store]) -> None:
    sampler = Sampler()
    sampler.step({}, 0.0)
    sampler.step(held(stores), 0.0)
    assert found(sampler) == {}


def test_a_root_is_the_same_with_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "STEP_COUNT", 3)
    items = sorted(repo_of(DIDS[0]).records.items())
    assert len(list(mst.root_steps(items))) == 3
    assert mst.root_of(items) == repo_of(DIDS[0]).root
