"""Local stores: RocksDB with raw bytes and bounded memory, for what can be made again.

A store belongs to one process. What is written is in the operating system's hands at once, so
that it survives the process, but not always the machine: each store says with what it has to agree
and is read again, or made anew, from there.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

from rocksdict import BlockBasedOptions, Cache, Options, Rdict, WriteBatch

MEMTABLE_BYTES = 16 * 1024 * 1024
BLOCK_CACHE_BYTES = 32 * 1024 * 1024


class StoreError(Exception):
    """A store on disk cannot be used; it has to be made anew."""


def open_rocks(folder: Path, meta_key: bytes) -> tuple[Rdict, bytes | None]:
    """Opens a store, or makes an empty one.

    Args:
        folder: where it is; nobody else may have it open.
        meta_key: key of the entry that says what the store is.

    Returns:
        The store, and that entry; None if there is none, as in an empty store.

    Raises:
        StoreError: there is one that cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        rocks = Rdict(str(folder), _options())
        return rocks, rocks.get(meta_key)
    except Exception as error:  # noqa: BLE001 - rocksdict raises nothing narrower
        raise StoreError(f"{folder} cannot be opened: {error}") from None


def remove_store(folder: Path) -> None:
    """Removes what is left of a store, whatever state it is in."""
    shutil.rmtree(folder, ignore_errors=True)


def put(batch: WriteBatch, key: bytes, value: bytes | None) -> None:
    """Adds a change to a batch; None removes what is there."""
    if value is None:
        batch.delete(key)
    else:
        batch.put(key, value)


def scan(rocks: Rdict, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yields keys and values whose key begins so, in the order of the keys' bytes."""
    for key, value in rocks.items(from_key=prefix):
        assert isinstance(key, bytes)  # raw mode
        if not key.startswith(prefix):
            return
        yield key, value


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
