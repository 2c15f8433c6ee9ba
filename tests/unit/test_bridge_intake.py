"""What the bridge does with each message from the socket."""

from typing import Any

import pytest
from support import wire

from pipelines.atproto.errors import Reason
from pipelines.atproto.frames import MAX_FRAME_BYTES, ErrorMessage, InfoMessage, Kind
from pipelines.bridge.intake import (
    MAX_TIME_LENGTH,
    REMEMBERED_UNDECODABLE_COUNT,
    UNDECODABLE_BYTES_LIMIT,
    UNDECODABLE_IN_ROW_LIMIT,
    Decision,
    Intake,
    Notice,
    Publish,
    Quarantine,
    Resent,
    Skip,
)
from pipelines.subscriptions import error_frame, info_frame

DID = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
NOW_US = 1_790_000_000_000_000


def identity(seq: int, **fields: Any) -> bytes:
    return wire.frame("#identity", {"did": DID, "seq": seq, "time": wire.START_TIME} | fields)


def judge(intake: Intake, message: bytes, *, is_text: bool = False) -> Decision:
    return intake.judge(message, is_text=is_text, received_us=NOW_US)


def garbage(number: int) -> bytes:
    return b"\xff garbage %d" % number


@pytest.mark.parametrize(
    ("type_name", "kind"),
    [
        ("#commit", Kind.COMMIT),
        ("#sync", Kind.SYNC),
        ("#identity", Kind.IDENTITY),
        ("#account", Kind.ACCOUNT),
        ("#tombstone", Kind.UNKNOWN),
    ],
)
def test_a_frame_with_account_and_number_is_published_unchanged(
    type_name: str, kind: Kind
) -> None:
    """spec: F-10, F-45: an unknown type too, as long as it says whose it is."""
    did_field = "repo" if kind is Kind.COMMIT else "did"
    frame = wire.frame(type_name, {did_field: DID, "seq": 7, "time": wire.START_TIME})
    intake = Intake(None)
    assert judge(intake, frame) == Publish(frame, DID, 7, kind, wire.START_TIME, NOW_US)  # type: ignore[arg-type]  # a literal is no Did
    assert intake.cursor == 7


@pytest.mark.parametrize("time", [5, None, "x" * (MAX_TIME_LENGTH + 1)])
def test_a_time_that_cannot_be_one_is_left_out(time: Any) -> None:
    decision = judge(Intake(None), identity(1, time=time))
    assert isinstance(decision, Publish)
    assert decision.time is None


def test_a_time_is_passed_on_as_it_stands_there() -> None:
    decision = judge(Intake(None), identity(1, time="yesterday"))
    assert isinstance(decision, Publish)
    assert decision.time == "yesterday"


@pytest.mark.parametrize("seq", [4, 5])
def test_a_number_up_to_the_cursor_is_a_frame_sent_again(seq: int) -> None:
    """spec: F-21, F-23: both cursor habits, and numbers that go back."""
    intake = Intake(5)
    assert judge(intake, identity(seq)) == Resent(seq)
    assert intake.cursor == 5


def test_numbers_may_have_gaps_of_any_size() -> None:
    """spec: F-20"""
    intake = Intake(5)
    for seq in (6, 1000, 2**53 - 1):
        assert isinstance(judge(intake, identity(seq)), Publish)
    assert intake.cursor == 2**53 - 1


def test_the_oldest_event_there_is_follows_cursor_0() -> None:
    """spec: F-26"""
    assert isinstance(judge(Intake(0), identity(1)), Publish)


def test_an_unknown_type_without_account_is_skipped_and_the_cursor_passes_it() -> None:
    """spec: F-12"""
    intake = Intake(5)
    frame = wire.frame("#labels", {"seq": 9, "labels": []})
    assert judge(intake, frame) == Skip(9, None, NOW_US)
    assert intake.cursor == 9
    assert judge(intake, frame) == Resent(9)


@pytest.mark.parametrize("payload", [{}, {"did": DID}, {"seq": 0}, {"seq": "9"}, {"seq": -1}])
def test_an_unknown_type_without_a_usable_number_is_skipped(payload: dict[str, Any]) -> None:
    intake = Intake(5)
    assert judge(intake, wire.frame("#labels", payload)) == Skip(None, None, NOW_US)
    assert intake.cursor == 5


def test_an_info_frame_is_for_the_reader() -> None:
    """spec: F-44"""
    decision = judge(Intake(5), info_frame("OutdatedCursor", "too old"))
    assert decision == Notice(InfoMessage("OutdatedCursor", "too old"))


def test_an_error_frame_is_for_the_reader() -> None:
    """spec: F-14"""
    decision = judge(Intake(5), error_frame("FutureCursor", "too new"))
    assert decision == Notice(ErrorMessage("FutureCursor", "too new"))


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"", Reason.FRAME_HEADER),
        (b"garbage", Reason.FRAME_NOT_CBOR),
        (identity(6)[:-1], Reason.FRAME_NOT_CBOR),
        (identity(6) + b"\xa0", Reason.FRAME_HEADER),
        (identity(0), Reason.FRAME_FIELD),
        (identity(6, did="me"), Reason.FRAME_FIELD),
        (identity(6, fill=bytes(MAX_FRAME_BYTES)), Reason.FRAME_TOO_LARGE),
    ],
    ids=["empty", "no-cbor", "cut-off", "three-items", "seq-0", "no-did", "too-large"],
)
def test_what_cannot_be_read_goes_to_quarantine_unchanged(message: bytes, reason: Reason) -> None:
    """spec: F-10, F-15, F-16"""
    intake = Intake(5)
    decision = judge(intake, message)
    assert isinstance(decision, Quarantine)
    assert (decision.message, decision.reason) == (message, reason)
    assert decision.received_us == NOW_US
    assert intake.cursor == 5


def test_the_largest_legal_frame_is_published() -> None:
    """spec: F-16"""
    empty = len(identity(6, fill=bytes(70_000))) - 70_000  # the length takes five bytes
    frame = identity(6, fill=bytes(MAX_FRAME_BYTES - empty))
    assert len(frame) == MAX_FRAME_BYTES
    assert isinstance(judge(Intake(5), frame), Publish)


def test_text_goes_to_quarantine_even_if_it_would_be_a_frame() -> None:
    """spec: F-10"""
    decision = judge(Intake(5), identity(6), is_text=True)
    assert isinstance(decision, Quarantine)
    assert decision.reason is Reason.FRAME_NOT_CBOR
    assert "text" in decision.detail


def test_only_garbage_in_a_row_makes_a_connection_garbled() -> None:
    """spec: F-13"""
    intake = Intake(None)
    row = [garbage(number) for number in range(UNDECODABLE_IN_ROW_LIMIT - 1)]
    found = []
    for message in (*row, identity(1), *row, garbage(99)):
        judge(intake, message)
        found.append(intake.garbage)
    assert found == [None] * (len(found) - 1) + ["10 messages in a row could not be read"]


def test_much_garbage_within_a_minute_makes_a_connection_garbled_whatever_is_between() -> None:
    intake = Intake(None)
    junk = bytes(UNDECODABLE_BYTES_LIMIT // 4)

    def bring(number: int, received_us: int) -> str | None:
        intake.judge(junk + b"%d" % number, is_text=True, received_us=received_us)
        intake.judge(identity(number), is_text=False, received_us=received_us)
        return intake.garbage

    for number in range(1, 9):  # three a minute, the fourth one begins the next
        assert bring(number, NOW_US + (number - 1) * 20_000_000) is None
    assert [bring(number, NOW_US + 140_000_001) for number in (9, 10)] == [
        None,
        f"{UNDECODABLE_BYTES_LIMIT + 5} bytes within a minute could not be read",
    ]
    intake.begin_connection()
    assert intake.garbage is None


def test_a_new_connection_is_not_garbled() -> None:
    intake = Intake(None)
    for number in range(UNDECODABLE_IN_ROW_LIMIT):
        judge(intake, garbage(number))
    intake.begin_connection()
    assert intake.garbage is None


def test_garbage_that_a_reconnect_brings_again_is_dropped_and_new_garbage_is_not() -> None:
    intake = Intake(3)
    for number in (1, 2):
        assert isinstance(judge(intake, garbage(number)), Quarantine)
    intake.begin_connection()
    assert judge(intake, identity(3)) == Resent(3)
    assert judge(intake, garbage(1)) == Resent(None)
    assert judge(intake, garbage(2)) == Resent(None)
    assert isinstance(judge(intake, garbage(2)), Quarantine)


def test_garbage_in_another_order_than_before_is_new() -> None:
    intake = Intake(3)
    for number in (1, 2):
        judge(intake, garbage(number))
    intake.begin_connection()
    assert isinstance(judge(intake, garbage(2)), Quarantine)
    # From here on the stream is another one; what was known about it is forgotten.
    assert isinstance(judge(intake, garbage(2)), Quarantine)


def test_garbage_is_new_after_the_cursor_has_moved() -> None:
    intake = Intake(3)
    judge(intake, garbage(1))
    judge(intake, identity(4))
    assert isinstance(judge(intake, garbage(1)), Quarantine)
    intake.begin_connection()
    assert judge(intake, garbage(1)) == Resent(None)


def test_any_run_of_garbage_is_passed_in_the_end() -> None:
    """Each connection gets ten messages further than the one before."""
    stream = [garbage(number) for number in range(35)] + [identity(4)]
    intake = Intake(3)
    quarantined: list[bytes] = []
    connections_count = 0
    while intake.cursor == 3:
        connections_count += 1
        intake.begin_connection()
        for message in stream:
            decision = judge(intake, message)
            if isinstance(decision, Quarantine):
                quarantined.append(decision.message)
            if intake.garbage is not None:
                break
    assert connections_count == 4
    assert quarantined == stream[:-1]


def test_garbage_beyond_what_is_remembered_goes_to_quarantine_again() -> None:
    intake = Intake(3)
    for number in range(REMEMBERED_UNDECODABLE_COUNT + 1):
        judge(intake, garbage(number))
    intake.begin_connection()
    for number in range(REMEMBERED_UNDECODABLE_COUNT):
        assert judge(intake, garbage(number)) == Resent(None)
    assert isinstance(judge(intake, garbage(REMEMBERED_UNDECODABLE_COUNT)), Quarantine)
