"""Local stores: RocksDB with raw bytes and bounded memory, for what can be made again.

A store belongs to one process. What is written is in the operating system's hands at once, so
that it survives the process, but not always the machine: each store says with what it has to agree
and is read again, or made anew, from there.

What a store is and how far it has come stands in an entry of its own, as JSON with the number of
the store's layout.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import orjson
from rocksdict import BlockBasedOptions, Cache, Options, Rdict, WriteBatch

MEMTABLE_BYTES = 16 * 1024 * 1024
BLOCK_CACHE_BYTES = 32 * 1024 * 1024

_META_KEY: Final = b"m"

M = TypeVar("M")


class StoreError(Exception):
    """A store on disk cannot be used; it has to be made anew."""


def open_rocks(
    folder: Path, layout: int, parse_meta: Callable[[Mapping[str, Any]], M]
) -> tuple[Rdict, M | None]:
    """Opens a store, or makes an empty one.

    Args:
        folder: where it is; nobody else may have it open.
        layout: number of the layout that the caller can read.
        parse_meta: makes of the members that `put_meta` wrote what the store says of itself; may
            raise KeyError, TypeError or ValueError.

    Returns:
        The store, and what it says of itself; None if it is empty.

    Raises:
        StoreError: there is one that cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        rocks = Rdict(str(folder), _options())
        stored = rocks.get(_META_KEY)
    except Exception as error:  # noqa: BLE001 - rocksdict raises nothing narrower
        raise StoreError(f"{folder} cannot be opened: {error}") from None
    if stored is None:
        return rocks, None
    try:
        return rocks, parse_meta(_members(stored, layout))
    except (KeyError, TypeError, ValueError) as error:
        rocks.close()
        raise StoreError(f"the store does not say what it is: {error!r}") from None
    except StoreError:
        rocks.close()
        raise


def remove_store(folder: Path) -> None:
    """Removes what is left of a store, whatever state it is in."""
    shutil.rmtree(folder, ignore_errors=True)


def put_meta(batch: WriteBatch, layout: int, members: Mapping[str, object]) -> None:
    """Adds to a batch what the store says of itself once it is written.

    Args:
        batch: the changes that it belongs to.
        layout: number of the layout, raised when it changes.
        members: of which JSON can be made, all but `format`.
    """
    batch.put(_META_KEY, orjson.dumps({"format": layout, **members}))


def put(batch: WriteBatch, key: bytes, value: bytes | None) -> None:
    """Adds a change to a batch; None removes what is there."""
    if value is None:
        batch.delete(key)
    else:
        batch.put(key, value)


def scan(rocks: Rdict, prefix: bytes, start: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
    """Yields keys and values whose key begins so, in the order of the keys' bytes.

    Args:
        rocks: where they are.
        prefix: how the keys begin.
        start: the first key wanted, which begins so too; the first there is by default.
    """
    for key, value in rocks.items(from_key=prefix if start is None else start):
        assert isinstance(key, bytes)  # raw mode
        if not key.startswith(prefix):
            return
        yield key, value


def _members(stored: bytes, layout: int) -> dict[str, Any]:
    members: dict[str, Any] = orjson.loads(stored)
    found = members.pop("format")
    if found != layout:
        raise StoreError(f"the store has format {found}, this version {layout}")
    return members


def _options() -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_write_buffer_size(MEMTABLE_BYTES)
    options.set_max_write_buffer_number(2)
    options.set_keep_log_file_num(2)
    blocks = BlockBasedOptions()
    blocks.set_block_cache(Cache(BLOCK_CACHE_BYTES))
    blocks.set_bloom_filter(10, block_based=False)
    options.set_block_based_table_factory(blocks)
    return options
