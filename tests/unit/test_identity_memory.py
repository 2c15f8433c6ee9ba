"""The table of keys: an ordinary mapping, until a row is full."""

import random
from collections import OrderedDict

import pytest

from pipelines.atproto.keys import VerifyingKey, parse_multikey
from pipelines.atproto.syntax import Did
from pipelines.identity import memory
from pipelines.identity.memory import (
    KEY_BYTES,
    ROW_KEYS_COUNT,
    KeyMemory,
    KeyTable,
    Recent,
    RememberedKey,
)

K256 = parse_multikey("zQ3shqwJEJyMBsBXCWyCBpUBMqxcon9oHB7mCvx4sSpMdLJwc")
P256 = parse_multikey("zDnaembgSGUhZULN2Caob4HLJPaxBh92N7rtH21TErzqf8HQo")


def did(number: int) -> Did:
    return Did(f"did:plc:{number:024}")


def remembered(number: int) -> RememberedKey:
    return RememberedKey(P256 if number % 3 == 0 else K256, 10**15 + number, 10**9 + number)


def test_what_was_put_in_comes_out() -> None:
    table = KeyTable(1_000)
    for number in range(200):
        table.put(did(number), remembered(number))
    assert [table.get(did(number)) for number in range(200)] == list(map(remembered, range(200)))
    assert table.get(did(200)) is None
    assert table.count == 200


def test_dids_of_any_form_fit_in() -> None:
    table = KeyTable(100)
    long = Did("did:web:" + "a" * 200 + ".example")
    table.put(long, remembered(1))
    assert table.get(long) == remembered(1)
    assert table.get(Did(long[:-1])) is None


def test_a_key_is_replaced_and_removed() -> None:
    table = KeyTable(100)
    table.put(did(1), remembered(1))
    table.put(did(1), remembered(2))
    assert table.get(did(1)) == remembered(2)
    assert table.count == 1
    table.remove(did(1))
    table.remove(did(1))
    assert table.get(did(1)) is None
    assert table.count == 0
    table.put(did(1), remembered(3))
    assert table.get(did(1)) == remembered(3)


@pytest.mark.parametrize("seed", range(5))
def test_a_row_keeps_the_keys_used_last(seed: int) -> None:
    """A table of one row against an obvious one of the same size."""
    choose = random.Random(seed)
    table = KeyTable(ROW_KEYS_COUNT)
    model: OrderedDict[int, RememberedKey] = OrderedDict()
    for step in range(3_000):
        number = choose.randrange(2 * ROW_KEYS_COUNT)
        match choose.choice(("get", "get", "put", "remove")):
            case "get":
                assert table.get(did(number)) == model.get(number)
                if number in model:
                    model.move_to_end(number)
            case "put":
                model[number] = remembered(step)
                model.move_to_end(number)
                table.put(did(number), remembered(step))
                if len(model) > ROW_KEYS_COUNT:
                    model.popitem(last=False)
            case "remove":
                model.pop(number, None)
                table.remove(did(number))
        assert table.count == len(model)


def test_a_full_table_has_its_size_and_no_more() -> None:
    table = KeyTable(320)
    for number in range(5_000):
        table.put(did(number), remembered(number))
    assert table.count <= 320
    found = [number for number in range(5_000) if table.get(did(number)) is not None]
    assert len(found) == table.count > 300
    assert all(table.get(did(number)) == remembered(number) for number in found)
    assert len(table._tags) + len(table._values) == 320 * KEY_BYTES


def test_keys_of_both_curves_verify_after_their_stay() -> None:
    table = KeyTable(16)
    table.put(did(1), RememberedKey(P256, 1, 1))
    found = table.get(did(1))
    assert found is not None
    assert found.key == P256
    assert isinstance(found.key, VerifyingKey)


def test_keys_that_are_not_parsed_any_more_come_from_the_table(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "PARSED_KEYS_COUNT", 3)
    keys = KeyMemory(1_000)
    for number in range(10):
        keys.put(did(number), remembered(number))
    assert len(keys._parsed) == 3
    assert [keys.get(did(number)) for number in range(10)] == list(map(remembered, range(10)))
    assert list(keys._parsed) == [did(number) for number in (7, 8, 9)]
    assert keys.get(did(7)) is keys.get(did(7))
    assert keys.count == 10


def test_a_key_is_forgotten_in_both_places() -> None:
    keys = KeyMemory(1_000)
    keys.put(did(1), remembered(1))
    keys.remove(did(1))
    assert keys.get(did(1)) is None
    assert keys.count == 0


def test_recent_values_may_count_by_their_size() -> None:
    recent: Recent[str] = Recent(6, len)

    def kept() -> list[str | None]:
        return [recent.get(did(number)) for number in (1, 2, 3)]

    for number, value in ((1, "aaa"), (2, "bb"), (3, "c")):
        recent.put(did(number), value)
    assert kept() == ["aaa", "bb", "c"]
    recent.put(did(2), "b")
    recent.put(did(3), "cc")
    assert kept() == ["aaa", "b", "cc"]
    recent.put(did(3), "ccc")
    assert kept() == [None, "b", "ccc"]
    recent.remove(did(2))
    recent.put(did(1), "x" * 7)
    assert kept() == ["x" * 7, None, None]
    recent.put(did(2), "b")
    assert kept() == [None, "b", None]


def test_of_recent_values_the_first_is_dropped_first() -> None:
    recent: Recent[int] = Recent(2)
    for number in (1, 2, 1, 3):
        recent.put(did(number), number)
    assert [recent.get(did(number)) for number in (1, 2, 3)] == [1, None, 3]
    recent.remove(did(1))
    recent.remove(did(2))
    assert recent.get(did(1)) is None
