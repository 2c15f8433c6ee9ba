"""The keys of millions of accounts in little memory.

In front are some thousands of parsed keys, by DID, the last used ones (`PARSED_KEYS_COUNT`).
Behind them lies a table of fixed size (`DEFAULT_KEYS_COUNT`) with LRU rows. An account's hash
chooses one of the rows; a row holds `ROW_KEYS_COUNT` keys, the one used last at its front. A key
that comes into a full row drives out the one at its end. Nothing is ever moved between rows, so
that every call takes the same short time, and no object is kept for a key that lies here:

    tags     16 bytes a key    keyed hash of the DID; zeros where there is none
    values   46 bytes a key    curve, compressed point, `as_of_us`, when it was learned (seconds)

`KEY_BYTES` is both together. The memory is taken by the operating system as it is used.

The hash has a secret key: nobody can choose DIDs that meet in one row, or that are taken for each
other. Not kept: anything but the key and its times; the topic `identities` has the rest.
"""

import hashlib
import os
from collections import OrderedDict
from collections.abc import Callable
from struct import Struct
from typing import Final, Generic, NamedTuple, TypeVar

from pipelines.atproto.keys import COMPRESSED_KEY_BYTES, Curve, VerifyingKey
from pipelines.atproto.syntax import Did

# Accounts that are active at a time come again and again; about 0.6 kB each. Parsing a key takes
# a fifth of the time of verifying a signature with it.
PARSED_KEYS_COUNT: Final = 20_000
# One worker sees its share of the accounts that are active within some days: 124 MB when full.
DEFAULT_KEYS_COUNT: Final = 2_000_000
ROW_KEYS_COUNT: Final = 16

_TAG_BYTES: Final = 16
_VALUE: Final = Struct(f"<B{COMPRESSED_KEY_BYTES}sQI")
_NO_TAG: Final = bytes(_TAG_BYTES)
_CURVES: Final[tuple[Curve, ...]] = ("k256", "p256")

# What one key takes, whether its place is used or not.
KEY_BYTES: Final = _TAG_BYTES + _VALUE.size


T = TypeVar("T")


class RememberedKey(NamedTuple):
    """A signing key, and how new that is.

    Attributes:
        key: the key.
        as_of_us: the moment whose state it is, microseconds since the epoch.
        learned_s: when it was learned, whole seconds since the epoch.
    """

    key: VerifyingKey
    as_of_us: int
    learned_s: int


class KeyTable:
    """Signing keys by DID.

    Attributes:
        count: keys in the table.
    """

    def __init__(self, max_count: int) -> None:
        """Makes an empty table.

        Args:
            max_count: keys that fit in; rounded up to whole rows.
        """
        self.count = 0
        self._rows_count = -(-max_count // ROW_KEYS_COUNT)
        self._tags = bytearray(self._rows_count * ROW_KEYS_COUNT * _TAG_BYTES)
        self._values = bytearray(self._rows_count * ROW_KEYS_COUNT * _VALUE.size)
        self._secret = os.urandom(16)

    def get(self, did: Did) -> RememberedKey | None:
        """Returns a DID's key, which so becomes the last used of its row."""
        tag, first = self._place(did)
        index = self._find(tag, first)
        if index is None:
            return None
        if index:
            self._to_front(first, index)
        curve, compressed, as_of_us, learned_s = _VALUE.unpack_from(
            self._values, first * _VALUE.size
        )
        return RememberedKey(VerifyingKey(_CURVES[curve], compressed), as_of_us, learned_s)

    def put(self, did: Did, remembered: RememberedKey) -> None:
        """Puts a key in, over the DID's former one, at the front of its row."""
        tag, first = self._place(did)
        index = self._find(tag, first)
        if index is None:
            index = self._find(_NO_TAG, first)
            if index is None:
                index = ROW_KEYS_COUNT - 1
            else:
                self.count += 1
        self._to_front(first, index)
        self._tags[first * _TAG_BYTES : (first + 1) * _TAG_BYTES] = tag
        key = remembered.key
        _VALUE.pack_into(
            self._values,
            first * _VALUE.size,
            _CURVES.index(key.curve),
            key.compressed,
            remembered.as_of_us,
            remembered.learned_s,
        )

    def remove(self, did: Did) -> None:
        """Takes a DID's key out, if it is there."""
        tag, first = self._place(did)
        index = self._find(tag, first)
        if index is not None:
            start = (first + index) * _TAG_BYTES
            self._tags[start : start + _TAG_BYTES] = _NO_TAG
            self.count -= 1

    def _place(self, did: Did) -> tuple[bytes, int]:
        """Returns a DID's tag, and the place of the first key of its row."""
        tag = hashlib.blake2b(did.encode(), digest_size=_TAG_BYTES, key=self._secret).digest()
        return tag, int.from_bytes(tag[:8]) % self._rows_count * ROW_KEYS_COUNT

    def _find(self, tag: bytes, first: int) -> int | None:
        """Returns the place of a tag in its row."""
        start = first * _TAG_BYTES
        end = start + ROW_KEYS_COUNT * _TAG_BYTES
        at = self._tags.find(tag, start, end)
        while at >= 0:
            if not (at - start) % _TAG_BYTES:
                return (at - start) // _TAG_BYTES
            at = self._tags.find(tag, at + 1, end)
        return None

    def _to_front(self, first: int, index: int) -> None:
        """Moves a key to the front of its row; those before it move back by one."""
        for column, width in ((self._tags, _TAG_BYTES), (self._values, _VALUE.size)):
            start, at = first * width, (first + index) * width
            column[start : at + width] = column[at : at + width] + column[start:at]


class KeyMemory:
    """Both levels together: parsed keys in front of the table."""

    def __init__(self, max_count: int = DEFAULT_KEYS_COUNT) -> None:
        """Starts empty.

        Args:
            max_count: keys that the table holds.
        """
        self._parsed: OrderedDict[Did, RememberedKey] = OrderedDict()
        self._table = KeyTable(max_count)

    @property
    def count(self) -> int:
        """How many keys there are."""
        return self._table.count

    def get(self, did: Did) -> RememberedKey | None:
        """Returns a DID's key, if it is here."""
        remembered = self._parsed.get(did)
        if remembered is not None:
            self._parsed.move_to_end(did)
            return remembered
        remembered = self._table.get(did)
        if remembered is not None:
            self._keep_parsed(did, remembered)
        return remembered

    def put(self, did: Did, remembered: RememberedKey) -> None:
        """Puts a key in, over the DID's former one."""
        self._table.put(did, remembered)
        self._keep_parsed(did, remembered)

    def remove(self, did: Did) -> None:
        """Forgets a DID's key."""
        self._parsed.pop(did, None)
        self._table.remove(did)

    def _keep_parsed(self, did: Did, remembered: RememberedKey) -> None:
        self._parsed[did] = remembered
        self._parsed.move_to_end(did)
        if len(self._parsed) > PARSED_KEYS_COUNT:
            self._parsed.popitem(last=False)


def _one(_value: object) -> int:
    return 1


class Recent(Generic[T]):
    """Values by DID, of a bounded size together: the one put in first is dropped first."""

    def __init__(self, max_size: int, size_of: Callable[[T], int] = _one) -> None:
        """Starts empty.

        Args:
            max_size: of all values together; one that is larger by itself is kept alone.
            size_of: tells the size of a value; by default each counts 1.
        """
        self._max_size = max_size
        self._size_of = size_of
        self._size = 0
        self._values: OrderedDict[Did, T] = OrderedDict()

    def get(self, did: Did) -> T | None:
        """Returns a DID's value, if it is here."""
        return self._values.get(did)

    def put(self, did: Did, value: T) -> None:
        """Puts a value in, over the DID's former one."""
        self.remove(did)
        self._values[did] = value
        self._size += self._size_of(value)
        while self._size > self._max_size and len(self._values) > 1:
            _, dropped = self._values.popitem(last=False)
            self._size -= self._size_of(dropped)

    def remove(self, did: Did) -> None:
        """Forgets a DID's value."""
        value = self._values.pop(did, None)
        if value is not None:
            self._size -= self._size_of(value)
