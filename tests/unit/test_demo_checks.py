"""What the demo checks: a run as it should be holds, and each thing that is off is told."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest

from pipelines.atproto.syntax import Did, Tid
from pipelines.compact.audit import Audit, Finding
from pipelines.compact.events import Signed, Source
from pipelines.compact.state import Head, RepoState, Sync
from pipelines.demo.checks import SHOWN_COUNT, check_all
from pipelines.demo.outcome import HeldRepo, Outcome
from pipelines.demo.truth import TrueAccount, Truth

ALICE, BOB, GONE = Did("did:plc:alice"), Did("did:plc:bob"), Did("did:plc:gone")
SOURCE = Source("127.0.0.1:2583", 5, "2026-09-21T14:13:20Z", 1_790_000_000_000_000, 0, 4)
REV = Tid("3kabcdefghij2")
POST = "app.bsky.feed.post"
FRAMES_COUNT = 4


def held(did: Did, records: dict[str, str]) -> HeldRepo:
    state = RepoState(
        did, SOURCE, sync=Sync.SYNCHRONIZED, head=Head(Signed(REV, "commit", "root"), "block")
    )
    audit = Audit(did, Finding.MATCHES, Sync.SYNCHRONIZED, REV, len(records), "root", "root")
    return HeldRepo(state, records, audit)


def gone(did: Did) -> HeldRepo:
    state = RepoState(
        did, SOURCE, upstream_active=False, upstream_status="deleted", deleted_rev=REV
    )
    audit = Audit(did, Finding.EMPTY, Sync.UNKNOWN, None, 0, "empty", None)
    return HeldRepo(state, {}, audit)


def outcome() -> Outcome:
    frames = {(0, 0), (0, 1), (1, 0), (1, 1)}
    return Outcome(
        frames=frames,
        last_seq=9,
        judged=sorted(frames),
        events=Counter(commit=3, account=1),
        records=Counter({POST: 2, "com.example.note": 1, "com.example.other": 1}),
        minutes=Counter({("t0", POST): 1, ("t1", POST): 1, ("t1", "other"): 2}),
        admitted=(POST,),
        repos={
            ALICE: held(ALICE, {"a/1": "x", "a/2": "y"}),
            BOB: held(BOB, {"a/1": "z"}),
            GONE: gone(GONE),
        },
    )


def truth() -> Truth:
    head = (REV, "commit", "root")
    return Truth(
        9,
        {
            ALICE: TrueAccount(None, head, {"a/1": "x", "a/2": "y"}),
            BOB: TrueAccount(None, head, {"a/1": "z"}),
            GONE: TrueAccount("deleted", (None, None, None), {}),
        },
    )


def problems(found: Outcome, true: Truth | None = None) -> list[tuple[str, ...]]:
    """The problems of those checks that do not hold."""
    checks = check_all(found, true or truth(), FRAMES_COUNT)
    return [check.problems for check in checks if check.problems]


def test_a_run_as_it_should_be_holds() -> None:
    checks = check_all(outcome(), truth(), FRAMES_COUNT)
    assert [check.problems for check in checks] == [()] * 6
    claims = " ".join(check.claim for check in checks)
    assert "4 frames" in claims
    assert "3 latest records" in claims
    assert "4 record messages" in claims


def lose_a_frame(found: Outcome) -> None:
    found.frames.remove((0, 0))
    found.judged.remove((0, 0))


def judge_twice(found: Outcome) -> None:
    found.judged.append((0, 0))


def judge_none(found: Outcome) -> None:
    found.judged.pop()


def refuse(found: Outcome) -> None:
    found.quarantined["frame.op"] += 1


def take_down(found: Outcome) -> None:
    repo = found.repos[BOB]
    state = replace(repo.state, upstream_active=False, upstream_status="takendown")
    found.repos[BOB] = replace(repo, state=state)


def fall_behind(found: Outcome) -> None:
    repo = found.repos[BOB]
    head = Head(Signed(REV, "commit", "older"), "block")
    found.repos[BOB] = replace(repo, state=replace(repo.state, head=head))


def desynchronize(found: Outcome) -> None:
    repo = found.repos[BOB]
    state = replace(repo.state, sync=Sync.DESYNCHRONIZED, reason="chain.since")
    found.repos[BOB] = replace(repo, state=state)


def change_a_record(found: Outcome) -> None:
    found.repos[ALICE] = replace(found.repos[ALICE], records={"a/1": "x", "a/2": "other"})


def miss_a_root(found: Outcome) -> None:
    repo = found.repos[ALICE]
    audit = replace(repo.audit, finding=Finding.MISMATCH, problem="the root is another one")
    found.repos[ALICE] = replace(repo, audit=audit)


def count_twice(found: Outcome) -> None:
    found.minutes["t1", POST] += 1


def miscount(found: Outcome) -> None:
    found.minutes["t1", POST] += 1
    found.minutes["t1", "other"] -= 1


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lose_a_frame, ["there are 3 frames"]),
        (judge_twice, ["1 frames have two events"]),
        (judge_none, ["1 frames have no event, or events no frame"]),
        (refuse, ["1 frames were refused: frame.op"]),
        (take_down, [f"{BOB}: the account is held as takendown"]),
        (fall_behind, [f"{BOB}: the head is held as"]),
        (desynchronize, [f"{BOB}: it is desynchronized: chain.since"]),
        (change_a_record, [f"{ALICE}: 1 records differ, among them a/2"]),
        (miss_a_root, [f"{ALICE} is mismatch: the root is another one"]),
        (count_twice, [f"{POST}: 2 messages, counted 3"]),
        (miscount, [f"{POST}: 2 messages, counted 3", "other: 2 messages, counted 1"]),
    ],
)
def test_one_thing_that_is_off_makes_one_check_fail(
    spoil: Callable[[Outcome], None], told: list[str]
) -> None:
    found = outcome()
    spoil(found)
    (failed,) = problems(found)
    assert len(failed) == len(told)
    assert all(problem.startswith(start) for problem, start in zip(failed, told, strict=True))


def test_a_repository_too_many_or_too_few_is_told() -> None:
    found = outcome()
    del found.repos[BOB]
    states, records = problems(found)
    assert states == (f"{BOB} is not held",)
    assert records == (f"{BOB}: 1 records differ, among them a/1",)
    fewer = truth()
    accounts = {did: account for did, account in fewer.accounts.items() if did != BOB}
    (states,) = problems(outcome(), replace(fewer, accounts=accounts))
    assert states == (f"{BOB} is not real",)


def test_a_last_frame_that_did_not_arrive_is_told() -> None:
    (failed,) = problems(outcome(), replace(truth(), seq=10))
    assert failed == ("the last one has the sequence number 9, sent was 10",)


def test_an_empty_outcome_passes_nothing() -> None:
    failed = problems(Outcome(), Truth(0, {}))
    # Nothing was judged, and no state and no record was expected; all else is missing.
    assert failed == [
        ("there are 0 frames",),
        ("there is none that has a root",),
        ("there is none",),
    ]


def test_of_many_differences_some_are_shown_and_all_are_counted() -> None:
    found = outcome()
    found.quarantined.update({f"reason.{n}": 1 for n in range(SHOWN_COUNT + 7)})
    (failed,) = problems(found)
    assert len(failed) == SHOWN_COUNT + 1
    assert failed[-1] == "and 7 more"
