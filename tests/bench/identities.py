"""Signing keys by account: how fast each level answers, and how much memory they take.

Every look-up is that of a worker (`KeyRing.current_key`); only where the key lies differs.
"""

import os
import random
import tempfile
import time
from base64 import b32encode
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import NoReturn

import click
from support.repo import Signer

from pipelines.atproto.syntax import Did, Handle
from pipelines.explode.store import IdentityStore
from pipelines.identity.documents import Identity
from pipelines.identity.entries import IdentityEntry, encode_entry, entry_of_document
from pipelines.identity.keyring import KeyRing
from pipelines.identity.memory import (
    DEFAULT_KEYS_COUNT,
    KEY_BYTES,
    PARSED_KEYS_COUNT,
    KeyTable,
    RememberedKey,
)
from pipelines.kafka.copies import BATCH_MESSAGES, CopyMeta
from pipelines.kafka.messages import InputMessage

TABLE_COUNT = 1_000_000
STORE_COUNT = 100_000
LOOKUPS_COUNT = 2 * PARSED_KEYS_COUNT
ROUNDS_COUNT = 3
# Accounts share these: what a key costs does not depend on which it is.
_KEYS = tuple(Signer(secret=number).key for number in range(1, 200))
_MEMORY = Path("/proc/self/statm")


class _NoDirectory:
    """Nobody has to be asked."""

    def source_of(self, did: Did) -> str:
        return f"https://directory.example/{did}"

    async def resolve(self, did: Did, *, past_caches: bool = False) -> NoReturn:
        raise AssertionError(f"{did} is known ({past_caches})")

    async def audit_log(self, did: Did) -> NoReturn:
        raise AssertionError(f"{did} is known")

    async def close(self) -> None:
        """Holds nothing."""


class _StoreShelf:
    """The local store, as a worker has it behind its memory."""

    def __init__(self, store: IdentityStore) -> None:
        self._store = store

    def get(self, did: Did) -> IdentityEntry | None:
        return self._store.get(did)

    def keep(self, entry: IdentityEntry) -> NoReturn:
        raise AssertionError(f"{entry.did} is known")


def run(_rounds: int) -> None:
    """Prints look-ups a second from each level, and the memory of the table."""
    choose = random.Random(1)
    some = [_did(number) for number in choose.sample(range(STORE_COUNT), LOOKUPS_COUNT)]
    click.echo(f"Keys of {STORE_COUNT:,} accounts, each level asked for some at random")
    with tempfile.TemporaryDirectory(prefix="standpipe-bench-") as folder:
        store = _filled_store(Path(folder) / "store")
        shelf = _StoreShelf(store)
        cold_s = []
        for _ in range(ROUNDS_COUNT):
            with closing(KeyRing(_NoDirectory(), shelf)) as ring:
                cold_s.append(_seconds(ring, some))
        _report("local store", len(some), cold_s)
        with closing(KeyRing(_NoDirectory(), shelf)) as ring:
            for number in range(STORE_COUNT):
                ring.current_key(_did(number))
            # More than are kept parsed, in turn: when one comes again it is no longer among them.
            warm_s = [_seconds(ring, some) for _ in range(ROUNDS_COUNT)]
            last = some[-PARSED_KEYS_COUNT // 2 :]
            parsed_s = [_seconds(ring, last) for _ in range(ROUNDS_COUNT)]
        _report("memory: the table", len(some), warm_s)
        _report("memory: parsed keys", len(last), parsed_s)
        store.close()
    _report_memory()


def _seconds(ring: KeyRing, dids: Sequence[Did]) -> float:
    started_s = time.perf_counter()
    for did in dids:
        ring.current_key(did)
    return time.perf_counter() - started_s


def _report(name: str, count: int, seconds: Sequence[float]) -> None:
    one_s = median(seconds) / count
    click.echo(f"  {name:20} {1 / one_s:10,.0f} look-ups/s {one_s * 1e6:7.1f} µs")


def _report_memory() -> None:
    before_bytes = _resident_bytes()
    table = KeyTable(TABLE_COUNT)
    now_us = time.time_ns() // 1_000
    for number in range(TABLE_COUNT):
        key = _KEYS[number % len(_KEYS)]
        table.put(_did(number), RememberedKey(key, now_us, now_us // 1_000_000))
    taken_bytes = _resident_bytes() - before_bytes
    click.echo(
        f"  {TABLE_COUNT:,} accounts in a table of as many places: {table.count:,} stay, "
        f"{taken_bytes / 1e6:.0f} MB resident"
    )
    click.echo(
        f"  {KEY_BYTES} bytes a place; the default of {DEFAULT_KEYS_COUNT:,} takes "
        f"{DEFAULT_KEYS_COUNT * KEY_BYTES / 1e6:.0f} MB"
    )


def _filled_store(folder: Path) -> IdentityStore:
    store = IdentityStore(folder)
    now_us = time.time_ns() // 1_000
    meta = CopyMeta({}, {}, now_us // 1_000)
    for start in range(0, STORE_COUNT, BATCH_MESSAGES):
        store.take((_message(n, now_us) for n in range(start, start + BATCH_MESSAGES)), meta)
    return store


def _message(number: int, now_us: int) -> InputMessage:
    did = _did(number)
    key = _KEYS[number % len(_KEYS)]
    handle = Handle(f"user{number}.example.com")
    entry = entry_of_document(
        Identity(did, key, "https://host.example.com", handle), "https://directory.example", now_us
    )
    return InputMessage("identities", 0, number, 0, did.encode(), encode_entry(entry), [])


def _did(number: int) -> Did:
    return Did(f"did:plc:{b32encode(number.to_bytes(15)).decode().lower()}")


def _resident_bytes() -> int:
    pages = int(_MEMORY.read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
