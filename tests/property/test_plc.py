"""PLC logs over generated histories: beside an oracle, and against whoever changes anything."""

import copy
import json
from typing import Any, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st
from property import strategies
from support import plc
from support.repo import Signer, outcome

from pipelines.atproto.errors import PlcError, Reason
from pipelines.atproto.syntax import Did
from pipelines.identity.plc import (
    Chain,
    LogEntry,
    Refused,
    Valid,
    follow,
    judge_log,
    parse_entry,
    prune,
    verify_audit_log,
)

_SIGNERS = [Signer("p256" if secret == 3 else "k256", secret) for secret in range(1, 5)]
_WINDOW_HOURS = 72
_rotations = st.lists(st.sampled_from(range(len(_SIGNERS))), max_size=4)


class _Step(NamedTuple):
    """An operation in the abstract: nothing in it is signed.

    Attributes:
        prev: place of the operation that it follows; None for the first.
        signer: place of its signer in `_SIGNERS`.
        rotation: places of those who may sign what follows.
        hour: when it came.
        is_tombstone: whether it gives the DID up.
    """

    prev: int | None
    signer: int
    rotation: tuple[int, ...]
    hour: float
    is_tombstone: bool


@st.composite
def _histories(draw: st.DrawFn) -> list[_Step]:
    """Histories with forks; about half of what comes after the first operation is valid."""
    rotation = draw(st.lists(st.sampled_from(range(len(_SIGNERS))), min_size=1, max_size=4))
    steps = [_Step(None, draw(st.sampled_from(rotation)), tuple(rotation), 0.0, False)]
    for place in range(1, draw(st.integers(2, 9))):
        # The last ones most often: what stands is what is near the end.
        prev = max(0, place - 1 - draw(st.sampled_from([0, 0, 0, 1, 1, 2, 3])))
        allowed = steps[prev].rotation or (0,)
        signer = draw(st.one_of(st.sampled_from(allowed), st.sampled_from(range(4))))
        waited = draw(st.sampled_from([-1.0, -0.5, -0.5, 0.5, 1.0, 24.0, 71.5, 72.0]))
        is_tombstone = draw(st.sampled_from([False] * 6 + [True]))
        new_rotation = () if is_tombstone else tuple(draw(_rotations))
        steps.append(
            _Step(prev, signer, new_rotation, steps[-1].hour + waited + 0.5, is_tombstone)
        )
    return steps


def _expected(steps: list[_Step]) -> list[str | int | None]:
    """Judges a history in the words of the specification, without any cryptography.

    Returns:
        For each operation "refused", the place of the one that makes it void, or None.
    """
    verdicts: list[str | int | None] = [None]
    standing = [0]
    for place, step in enumerate(steps[1:], start=1):
        verdicts.append("refused")
        if step.prev not in standing or steps[step.prev].is_tombstone:
            continue
        later = standing[standing.index(step.prev) + 1 :]
        allowed = steps[step.prev].rotation
        if later:
            disputed, last = steps[later[0]], steps[standing[-1]]
            allowed = allowed[: allowed.index(disputed.signer)]
            if step.hour <= last.hour or step.hour - disputed.hour > _WINDOW_HOURS:
                continue
        if step.signer not in allowed:
            continue
        verdicts[place] = None
        for void in later:
            verdicts[void] = place
        standing = [other for other in standing if other not in later] + [place]
    return verdicts


def _signed_log(steps: list[_Step]) -> list[plc.Json]:
    operations: list[plc.Json] = []
    for place, step in enumerate(steps):
        prev = None if step.prev is None else operations[step.prev]
        signer = _SIGNERS[step.signer]
        if step.is_tombstone and prev is not None:
            operations.append(plc.tombstone(prev, signer))
        else:
            rotation = [_SIGNERS[index] for index in step.rotation]
            # The name tells twins apart.
            name = f"at://n{place}.example.com"
            operations.append(plc.operation(prev, signer, rotation, alsoKnownAs=[name]))
    did = plc.did_of(operations[0])
    return [
        plc.entry(step.hour + 24, operation, did)
        for step, operation in zip(steps, operations, strict=True)
    ]


@settings(max_examples=150)
@given(steps=_histories())
def test_a_history_is_judged_as_by_the_oracle(steps: list[_Step]) -> None:
    """Spec: L-06 to L-09."""
    log = _signed_log(steps)
    judged = judge_log(log[0]["did"], log)
    assert [
        "refused" if isinstance(entry, Refused) else entry.nullified_by for entry in judged
    ] == _expected(steps)
    for step, entry in zip(steps, judged, strict=True):
        if isinstance(entry, Valid):
            assert entry.signer == _SIGNERS[step.signer].key


def _follow(did: Did, chain: Chain, entry: LogEntry) -> Chain | Reason:
    return outcome(lambda: follow(did, chain, entry.operation, entry.created_us)[0])


@settings(max_examples=100)
@given(steps=_histories())
def test_what_is_left_out_of_a_chain_changes_no_verdict(steps: list[_Step]) -> None:
    log = _signed_log(steps)
    did = Did(log[0]["did"])
    whole: Chain = ()
    pruned: Chain = ()
    for value in log:
        entry = parse_entry(did, value)
        after, after_pruned = _follow(did, whole, entry), _follow(did, pruned, entry)
        assert isinstance(after, Reason) == isinstance(after_pruned, Reason)
        if not isinstance(after, Reason) and not isinstance(after_pruned, Reason):
            whole, pruned = after, prune(after_pruned)
            assert whole[-len(pruned) :] == pruned


_FIRST = plc.operation()
_SECOND = plc.operation(_FIRST, alsoKnownAs=["at://bob.example.com"])
_LOG = plc.log_of(_FIRST, _SECOND, plc.tombstone(_SECOND))


def _paths(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Returns the way to every value inside another one."""
    children: list[tuple[str | int, object]] = []
    if isinstance(value, dict):
        children = list(value.items())
    elif isinstance(value, list):
        children = list(enumerate(value))
    found = [path] if path else []
    for name, child in children:
        found += _paths(child, (*path, name))
    return found


def _replaced(whole: Any, path: tuple[str | int, ...], value: object) -> Any:
    copied = copy.deepcopy(whole)
    place = copied
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    return copied


@given(log=strategies.json_values)
def test_any_json_is_a_log_or_refused(log: object) -> None:
    result = outcome(lambda: verify_audit_log(Did("did:plc:x"), log), PlcError)
    assert isinstance(result, Reason)


@settings(max_examples=300)
@given(path=st.sampled_from(_paths(_LOG)), value=strategies.json_values)
def test_a_log_with_anything_in_it_replaced_is_a_log_or_refused(
    path: tuple[str | int, ...], value: object
) -> None:
    """Only what nobody signs may change: times, and what the directory says is void."""
    log = _replaced(_LOG, path, value)
    result = outcome(lambda: verify_audit_log(plc.did_of(_FIRST), log), PlcError)
    if not isinstance(result, Reason):
        assert json.dumps(log) == json.dumps(_LOG) or path[1] in ("createdAt", "nullified")


@settings(max_examples=300)
@given(
    path=st.sampled_from([path[2:] for path in _paths(_LOG[:2]) if len(path) > 2]),
    place=st.sampled_from([0, 1]),
    value=st.one_of(strategies.json_values, st.integers(0)),
)
def test_nobody_can_change_what_is_signed(
    path: tuple[str | int, ...], place: int, value: object
) -> None:
    """Hash and DID are made to fit again: the signature still does not."""
    operation = _LOG[place]["operation"]
    for name in path[:-1]:
        operation = operation[name]
    old = operation[path[-1]]
    if isinstance(value, int) and isinstance(old, str) and old:
        at = value % len(old)
        value = old[:at] + chr(ord(old[at]) ^ 1) + old[at + 1 :]
    forged = _replaced(_LOG[place]["operation"], path, value)
    if json.dumps(forged) == json.dumps(_LOG[place]["operation"]):
        return
    did = _LOG[0]["did"] if place else _did_of_anything(forged)
    log = [_LOG[0]] * place + [_LOG[place] | {"operation": forged, "did": did}]
    log[-1]["cid"] = _cid_of_anything(forged)
    assert isinstance(outcome(lambda: verify_audit_log(Did(did), log), PlcError), Reason)


def _did_of_anything(operation: plc.Json) -> str:
    try:
        return plc.did_of(operation)
    except ValueError:  # no codec takes it
        return "did:plc:x"


def _cid_of_anything(operation: plc.Json) -> str:
    try:
        return plc.cid_text(operation)
    except ValueError:
        return "bafy"
