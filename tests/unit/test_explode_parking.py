"""The parking of one partition: order, turns, and what happens when something is full."""

import random
from collections import deque

import pytest
from support.identities import ALICE, BOB, CAROL, WEB

from pipelines.atproto.syntax import Did
from pipelines.explode import parking as parking_module
from pipelines.explode.parking import Parking
from pipelines.explode.pointers import Pointer

LIMIT_US = 1_000
FAR_US = 10**9


def pointer(offset: int, did: Did = ALICE, parked_us: int = 0) -> Pointer:
    return Pointer(did, offset + 1, "relay.example", "commit", 0, 3, offset, parked_us, None)


@pytest.fixture
def parking() -> Parking:
    return Parking(LIMIT_US)


def offsets(parking: Parking, did: Did) -> list[int]:
    return [waiting.frame_offset for waiting in parking.first_of(did, 100)]


def test_an_account_waits_until_its_last_frame_is_gone(parking: Parking) -> None:
    for offset in (3, 5, 9):
        parking.add(pointer(offset), 0)
    parking.add(pointer(4, BOB), 0)
    assert ALICE in parking
    assert (parking.frames_count, parking.accounts_count) == (4, 2)
    assert offsets(parking, ALICE) == [3, 5, 9]
    for offset in (3, 5, 9):
        parking.remove(pointer(offset))
    assert ALICE not in parking
    assert (parking.frames_count, parking.accounts_count) == (1, 1)


def test_only_the_first_frame_may_leave(parking: Parking) -> None:
    parking.add(pointer(3), 0)
    parking.add(pointer(5), 0)
    with pytest.raises(AssertionError):
        parking.remove(pointer(5))


def test_what_a_predecessor_parked_comes_back_in_order(parking: Parking) -> None:
    parking.restore([pointer(9), pointer(4, BOB), pointer(3), pointer(5)], 0)
    assert offsets(parking, ALICE) == [3, 5, 9]
    assert offsets(parking, BOB) == [4]


def test_frames_that_are_met_again_wait_once_and_in_order(parking: Parking) -> None:
    for offset in (3, 5, 9):
        parking.add(pointer(offset), 0)
    for offset in (2, 3, 4, 5, 9):  # somebody moved the group back
        parking.add(pointer(offset), 0)
    assert offsets(parking, ALICE) == [2, 3, 4, 5, 9]
    assert (parking.frames_count, parking.accounts_count) == (5, 1)


def test_accounts_are_due_in_the_order_of_their_times(parking: Parking) -> None:
    parking.add(pointer(1, ALICE), 30)
    parking.add(pointer(2, BOB), 10)
    parking.add(pointer(3, CAROL), 20)
    parking.add(pointer(4, BOB), 0)  # behind: does not count
    assert parking.take_due(9, 10) == []
    assert parking.take_due(25, 1) == [BOB]
    assert parking.take_due(25, 10) == [CAROL]
    assert parking.take_due(40, 10) == [ALICE]


def test_an_account_that_was_taken_is_due_again_when_it_is_postponed_to(parking: Parking) -> None:
    parking.add(pointer(1), 0)
    assert parking.take_due(0, 10) == [ALICE]
    assert parking.take_due(FAR_US, 10) == []
    parking.postpone(ALICE, 50)
    parking.postpone(ALICE, 70)
    assert parking.take_due(69, 10) == []
    assert parking.take_due(70, 10) == [ALICE]


def test_a_frame_is_given_up_when_it_waited_for_long_enough(parking: Parking) -> None:
    waiting = pointer(1, parked_us=500)
    parking.add(waiting, FAR_US)
    assert not parking.must_give_up(waiting, 500 + LIMIT_US - 1)
    assert parking.must_give_up(waiting, 500 + LIMIT_US)


def test_an_account_with_too_many_frames_makes_room(
    parking: Parking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parking_module, "MAX_OF_ACCOUNT_COUNT", 2)
    for offset in range(4):
        parking.add(pointer(offset), FAR_US)
    parking.add(pointer(9, BOB), FAR_US)
    given_up = []
    while due := parking.take_due(0, 10):
        assert due == [ALICE]
        [first] = parking.first_of(ALICE, 1)
        assert parking.must_give_up(first, 0)
        parking.remove(first)
        parking.postpone(ALICE, FAR_US)
        given_up.append(first.frame_offset)
    assert given_up == [0, 1]
    assert not parking.must_give_up(pointer(2), 0)


def test_did_web_accounts_make_room_for_each_other_and_for_nobody_else(
    parking: Parking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parking_module, "MAX_OF_WEB_COUNT", 2)
    parking.add(pointer(0, ALICE), FAR_US)
    hosts = [Did(f"did:web:host{number}.example") for number in range(4)]
    for number, host in enumerate(hosts):
        parking.add(pointer(number + 1, host), FAR_US)
    given_up = []
    while due := parking.take_due(0, 10):
        [host] = due
        [first] = parking.first_of(host, 1)
        assert parking.must_give_up(first, 0)
        parking.remove(first)
        given_up.append(host)
    assert given_up == hosts[:2]  # those that waited for longest
    assert not parking.must_give_up(pointer(0, ALICE), 0)
    assert not parking.must_give_up(pointer(3, hosts[2]), 0)


def test_a_full_parking_says_so(parking: Parking, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parking_module, "MAX_PARKED_COUNT", 2)
    parking.add(pointer(0), 0)
    states = [parking.is_full]
    parking.add(pointer(1, BOB), 0)
    states.append(parking.is_full)
    parking.remove(pointer(0))
    states.append(parking.is_full)
    assert states == [False, True, False]


@pytest.mark.parametrize("seed", range(5))
def test_against_an_obvious_model(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parking_module, "MAX_OF_ACCOUNT_COUNT", 5)
    monkeypatch.setattr(parking_module, "MAX_OF_WEB_COUNT", 7)
    choose = random.Random(seed)
    dids = [ALICE, BOB, CAROL, WEB, Did("did:web:other.example")]
    parking = Parking(LIMIT_US)
    queues: dict[Did, deque[Pointer]] = {}
    due_us: dict[Did, int] = {}
    for step in range(2_000):
        did = choose.choice(dids)
        match choose.choice(("add", "add", "remove", "look")):
            case "add":
                waiting = pointer(step, did, step)
                if did not in queues:
                    due_us[did] = step + choose.randrange(20)
                queues.setdefault(did, deque()).append(waiting)
                parking.add(waiting, due_us[did])
            case "remove" if did in queues:
                parking.remove(queues[did].popleft())
                if not queues[did]:
                    del queues[did], due_us[did]
            case "look":
                web_count = sum(len(q) for d, q in queues.items() if d.startswith("did:web:"))
                crowded = {d for d, queue in queues.items() if len(queue) > 5}
                due = {d for d, time_us in due_us.items() if time_us <= step}
                found = set(parking.take_due(step, 100))
                extra = found - crowded - due
                assert found >= crowded | due
                assert len(extra) <= (web_count > 7)
                for d in found:
                    [first] = parking.first_of(d, 1)
                    assert first == queues[d][0]
                    assert parking.must_give_up(first, step) >= (
                        d in crowded or step - first.parked_us >= LIMIT_US
                    )
                    due_us[d] = step + choose.randrange(1, 20)
                    parking.postpone(d, due_us[d])
        assert parking.frames_count == sum(map(len, queues.values()))
        assert parking.accounts_count == len(queues)
        assert [d in parking for d in dids] == [d in queues for d in dids]
