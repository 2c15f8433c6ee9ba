"""A worker's store of identities: what it keeps of the topic, and what it says of itself."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from support.identities import ALICE, BOB, NEW_KEY, OLD_KEY

from pipelines.atproto.syntax import Did
from pipelines.explode import store as store_module
from pipelines.explode.store import IdentityStore
from pipelines.identity.documents import Identity
from pipelines.identity.entries import IdentityEntry, encode_entry, entry_of_document, stale
from pipelines.kafka.copies import CopyMeta
from pipelines.kafka.messages import InputMessage
from pipelines.rocks import StoreError


def entry(did: Did, as_of_us: int) -> IdentityEntry:
    return entry_of_document(Identity(did, OLD_KEY, None, None), "https://plc.example", as_of_us)


def message(offset: int, did: Did, value: IdentityEntry | None) -> InputMessage:
    encoded = None if value is None else encode_entry(value)
    return InputMessage("identities", 0, offset, 0, did.encode(), encoded, [])


def meta(next_offset: int) -> CopyMeta:
    return CopyMeta({"identities": "id"}, {"identities": next_offset}, 1_000)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[IdentityStore]:
    store = IdentityStore(tmp_path / "store")
    yield store
    store.close()


def test_the_newest_entry_stays_whoever_wrote_it_and_in_which_order(store: IdentityStore) -> None:
    old, new = entry(ALICE, 1), replace(entry(ALICE, 2), signing_key=NEW_KEY)
    assert store.take([message(0, ALICE, new), message(1, ALICE, old)], meta(2)) == [new]
    assert store.get(ALICE) == new
    assert store.take([message(2, ALICE, old)], meta(3)) == []
    assert store.get(ALICE) == new


def test_of_two_as_old_the_later_counts(store: IdentityStore) -> None:
    known = entry(ALICE, 1)
    store.take([message(0, ALICE, known), message(1, ALICE, stale(known))], meta(2))
    assert store.get(ALICE) == stale(known)


def test_a_null_forgets_an_account(store: IdentityStore) -> None:
    store.take([message(0, ALICE, entry(ALICE, 5)), message(1, BOB, entry(BOB, 5))], meta(2))
    assert store.take([message(2, ALICE, None)], meta(3)) == []
    assert store.get(ALICE) is None
    older = entry(BOB, 1)
    assert store.take([message(3, BOB, None), message(4, BOB, older)], meta(5)) == [older]
    assert store.get(BOB) == older


def test_a_store_says_how_far_it_has_come(tmp_path: Path) -> None:
    for next_offset in (0, 7):
        store = IdentityStore(tmp_path)
        store.take([message(next_offset, ALICE, entry(ALICE, 1))], meta(next_offset))
        store.close()
        store = IdentityStore(tmp_path)
        assert store.meta == meta(next_offset)
        assert store.get(ALICE) == entry(ALICE, 1)
        store.close()


def test_an_empty_store_says_nothing(store: IdentityStore) -> None:
    assert store.meta is None


@pytest.mark.parametrize("stored", [b"[]", b"{}", b"not JSON", orjson.dumps({"format": 0})])
def test_a_store_that_is_something_else_is_not_used(tmp_path: Path, stored: bytes) -> None:
    store = IdentityStore(tmp_path)
    store._rocks[b"m"] = stored
    store.close()
    with pytest.raises(StoreError):
        IdentityStore(tmp_path)


def test_a_store_of_another_format_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = IdentityStore(tmp_path)
    store.take((), meta(0))
    store.close()
    monkeypatch.setattr(store_module, "FORMAT", 2)
    with pytest.raises(StoreError, match="format 1"):
        IdentityStore(tmp_path)
