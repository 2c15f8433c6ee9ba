"""Lines of an export, each judged after those before it (spec: L-07, L-12, L-13, L-15)."""

from typing import Any

import pytest
from support import plc
from support.repo import OTHER_SIGNER, P256_SIGNER

from pipelines.atproto.errors import Reason
from pipelines.atproto.syntax import Did, parse_datetime
from pipelines.identity.plc import Chain
from pipelines.mirror.intake import Change, Intake, Tally

_FIRST = plc.operation()
_DID = plc.did_of(_FIRST)
_SECOND = plc.operation(_FIRST, P256_SIGNER, alsoKnownAs=["at://bob.example.com"])
_RECOVERED = plc.operation(_FIRST)


class _Memory:
    """What stands by everything that was taken out."""

    def __init__(self) -> None:
        self.chains: dict[Did, Chain] = {}
        self.asked: list[Did] = []
        self.intake = Intake(self._chain)

    def _chain(self, did: Did) -> Chain:
        self.asked.append(did)
        return self.chains.get(did, ())

    def take(self) -> tuple[dict[Did, Change], Tally]:
        batch = self.intake.take()
        self.chains |= batch.chains
        return dict(batch.changes), batch.tally


def _line(hour: float, signed: plc.Json, seq: int | None = None, **changes: Any) -> plc.Json:
    line = plc.entry(hour, signed, _DID)
    if seq is not None:
        del line["nullified"]
        line |= {"type": "sequenced_op", "seq": seq}
    return line | changes


@pytest.mark.parametrize("is_taken_between", [False, True])
def test_each_operation_is_judged_after_those_before_it(is_taken_between: bool) -> None:
    memory = _Memory()
    assert memory.intake.add([_line(0, _FIRST, 5)]) == []
    if is_taken_between:
        changes, _ = memory.take()
        assert changes[_DID].seq == 5
    assert memory.intake.add([_line(1, _SECOND, 6), _line(2, _RECOVERED, 9)]) == []
    changes, tally = memory.take()
    assert set(changes) == {_DID}
    change = changes[_DID]
    assert (change.seq, change.operation.handle) == (9, "alice.example.com")
    assert change.created_us == parse_datetime("2026-01-01T02:00:00Z")
    assert (tally.voided_count, tally.accepted_count) == (1, 2 if is_taken_between else 3)
    assert [link.cid for link in memory.chains[_DID]][-1] == change.operation.cid


def test_what_is_in_is_not_looked_up_again() -> None:
    memory = _Memory()
    memory.intake.add([_line(0, _FIRST), _line(1, _SECOND)])
    assert memory.asked == [_DID]


def test_what_is_not_valid_is_told_and_passed_over() -> None:
    memory = _Memory()
    forged = plc.operation(_FIRST, OTHER_SIGNER)
    refusals = memory.intake.add([_line(0, _FIRST), _line(1, forged), _line(2, _SECOND)])
    assert [(refusal.did, refusal.error.reason) for refusal in refusals] == [
        (_DID, Reason.SIGNATURE_INVALID)
    ]
    changes, tally = memory.take()
    assert changes[_DID].operation.handle == "bob.example.com"
    assert tally == Tally(3, 2, refused=tally.refused)
    assert tally.refused == {Reason.SIGNATURE_INVALID: 1}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"did": None}, Reason.PLC_ENTRY),
        ({"did": "did:web:example.com"}, Reason.PLC_ENTRY),
        ({"did": _DID.upper()}, Reason.PLC_ENTRY),
        ({"did": "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"}, Reason.PLC_DID_MISMATCH),
        ({"operation": {}}, Reason.PLC_OPERATION),
        ({"cid": "bafy"}, Reason.PLC_CID_MISMATCH),
        ({"createdAt": "now"}, Reason.PLC_ENTRY),
    ],
)
def test_a_line_that_is_no_operation_is_refused(changes: plc.Json, reason: Reason) -> None:
    memory = _Memory()
    (refusal,) = memory.intake.add([_line(0, _FIRST, **changes)])
    assert refusal.error.reason is reason
    changed, tally = memory.take()
    assert (changed, tally.refused) == ({}, {reason: 1})


def test_lines_of_another_type_are_not_operations() -> None:
    memory = _Memory()
    assert memory.intake.add([_line(0, _FIRST, 1, type="checkpoint"), {"type": None}]) == []
    changes, tally = memory.take()
    assert (changes, tally) == ({}, Tally(read_count=2, skipped_count=2))


def test_what_was_read_before_changes_nothing() -> None:
    """A page by time has the end of the one before, and a dump may be read twice."""
    memory = _Memory()
    log = [
        _line(0, _FIRST),
        _line(1, _SECOND),
        _line(2, _RECOVERED),
        _line(200, plc.operation(_RECOVERED)),
    ]
    memory.intake.add(log)
    memory.take()
    assert memory.intake.add(log) == []
    changes, tally = memory.take()
    assert (changes, tally) == ({}, Tally(read_count=4, repeated_count=4))


def test_a_new_operation_that_is_not_valid_is_no_repetition() -> None:
    memory = _Memory()
    memory.intake.add([_line(1, _FIRST)])
    memory.take()
    stranger = plc.operation(plc.operation(), OTHER_SIGNER)
    (refusal,) = memory.intake.add([_line(2, stranger)])
    assert refusal.error.reason is Reason.PLC_PREV_UNKNOWN


def test_tallies_add_up() -> None:
    memory = _Memory()
    memory.intake.add([_line(0, _FIRST), _line(1, _FIRST), {"did": 1}])
    total = memory.take()[1]
    memory.intake.add([_line(1, _SECOND), _line(2, _RECOVERED), {"type": "x"}, {"did": 1}])
    total += memory.take()[1]
    assert total == Tally(7, 3, 1, 1, 1, total.refused)
    assert total.refused == {Reason.PLC_ENTRY: 2}
