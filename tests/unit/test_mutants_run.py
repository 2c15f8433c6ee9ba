"""The choice of mutants: one of each kind at each place, none where nothing runs."""

from typing import Any

import pytest

pytest.importorskip("cosmic_ray", reason="the extra `mutants` is not installed: make mutants does")

from cosmic_ray.work_item import MutationSpec, WorkItem
from mutants.run import left_out

_SOURCE = """\
Child: TypeAlias = bytes | None

def add(left: int | None, right: int = 1) -> int | str:
    total: int | None = left + right
    return total
"""


_OPERATORS = {
    "|": ("ReplaceBinaryOperator_BitOr_Add", "ReplaceBinaryOperator_BitOr_Sub"),
    "+": ("ReplaceBinaryOperator_Add_Sub", "ReplaceBinaryOperator_Add_Mul"),
    "1": ("NumberReplacer", "NumberReplacer"),
}


def _items() -> list[WorkItem]:
    found: list[tuple[str, int, int]] = []
    for number, line in enumerate(_SOURCE.splitlines(), 1):
        for column, character in enumerate(line):
            names = _OPERATORS.get("1" if character.isdigit() else character, ())
            found += [(f"core/{name}", number, column) for name in names]
    return [
        WorkItem.single(
            f"job {n}", MutationSpec("a.py", name, n, (line, start), (line, start + 1))
        )
        for n, (name, line, start) in enumerate(found)
    ]


def _tried(**settings: Any) -> list[tuple[str, tuple[int, int]]]:
    items = _items()
    gone = set(left_out(items, _SOURCE, **{"seed": 1, "count": None} | settings))
    assert gone < {item.job_id for item in items}
    return [
        (item.mutations[0].operator_name, item.mutations[0].start_pos)
        for item in items
        if item.job_id not in gone
    ]


def test_one_of_each_kind_is_tried_at_each_place_that_runs() -> None:
    tried = _tried()
    assert [place for _, place in tried] == [(3, 39), (4, 29)]
    assert tried[0][0] == "core/NumberReplacer"
    assert tried[1][0].startswith("core/ReplaceBinaryOperator_Add_")


def test_the_seed_chooses() -> None:
    assert _tried() == _tried()
    assert len({tuple(_tried(seed=seed)) for seed in range(20)}) == 2


def test_so_many_at_most() -> None:
    assert len(_tried(count=1)) == 1
    assert _tried(count=9) == _tried()
