"""The store of the import: chains of operations, and how far it has come."""

from pathlib import Path

import pytest
from rocksdict import Options, Rdict
from support import plc
from support.repo import OTHER_SIGNER, P256_SIGNER, SIGNER

from pipelines.identity.plc import Chain, Link
from pipelines.mirror.chains import encode_chain
from pipelines.mirror.store import Meta, Store
from pipelines.rocks import StoreError

_DID = plc.did_of(plc.operation())
_CID = bytes.fromhex("01711220") + bytes(range(32))
_LINK = Link(_CID, 1_700_000_000_000_000, (SIGNER.key, None, P256_SIGNER.key), 2, False)
_CHAIN: Chain = (_LINK, _LINK._replace(rotation_keys=(), signer_index=0, is_tombstone=True))
_META = Meta("https://plc.directory", "id", "17", 4)


def test_a_chain_at_rest_is_small() -> None:
    """What the module of the store says about its size."""
    at_rest = _LINK._replace(rotation_keys=(SIGNER.key, OTHER_SIGNER.key))
    assert len(encode_chain((at_rest,))) == 113


def test_what_was_written_is_there_after_opening_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert (store.meta, store.chain(_DID)) == (None, ())
    store.write({_DID: _CHAIN}, _META)
    assert (store.meta, store.chain(_DID)) == (_META, _CHAIN)
    store.close()
    store = Store(tmp_path)
    assert (store.meta, store.chain(_DID)) == (_META, _CHAIN)
    store.write({_DID: _CHAIN[:1]}, _META)
    assert store.chain(_DID) == _CHAIN[:1]
    store.close()


@pytest.mark.parametrize(
    ("stored", "complaint"),
    [
        (b'{"format": 0}', "format 0"),
        (b"{}", "does not say what it is"),
        (b'{"format": 1}', "does not say what it is"),
        (b"[]", "does not say what it is"),
        (b"\xff", "does not say what it is"),
    ],
)
def test_a_store_of_another_kind_is_refused(tmp_path: Path, stored: bytes, complaint: str) -> None:
    rocks = Rdict(str(tmp_path), Options(raw_mode=True))
    rocks[b"m"] = stored
    rocks.close()
    with pytest.raises(StoreError, match=complaint):
        Store(tmp_path)


def test_a_damaged_store_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write({}, _META)
    store.close()
    (tmp_path / "CURRENT").write_text("nothing\n")
    with pytest.raises(StoreError, match="cannot be opened"):
        Store(tmp_path)
