"""Judging ahead of the turn: which frames make a group, and that nobody can tell it happened."""

from collections.abc import Sequence

import pytest
from support.repo import DID, OTHER_DID, OTHER_SIGNER, SIGNER, ScriptedKeys, make_step
from support.wire import START_TIME, START_US, frame

from pipelines.atproto.errors import Reason
from pipelines.atproto.keys import VerifyingKey
from pipelines.atproto.syntax import Did
from pipelines.errors import IdentityUnavailableError
from pipelines.explode import judging
from pipelines.explode.judging import GROUP_COUNT, GroupJudge
from pipelines.kafka.messages import InputMessage
from pipelines.verdict import Proven, Refused, Unsigned

_COMMIT = make_step().frame()
_IDENTITY = frame("#identity", {"seq": 1, "did": DID, "time": START_TIME})


class _Keys(ScriptedKeys):
    """One key for everybody, to be exchanged or to be away."""

    def exchange(self, key: VerifyingKey | Exception) -> None:
        self._current = key


def _messages(*frames: bytes, did: str = DID) -> list[InputMessage]:
    return [
        InputMessage(
            topic="frames",
            partition=0,
            offset=offset,
            timestamp_ms=0,
            key=did.encode(),
            value=value,
            headers=[
                ("host", b"relay.example"),
                ("seq", b"1"),
                ("kind", b"identity" if value is _IDENTITY else b"commit"),
                ("received_us", str(START_US).encode()),
            ],
        )
        for offset, value in enumerate(frames)
    ]


def _judge(
    keys: ScriptedKeys, batch: Sequence[InputMessage], held: Sequence[str] = ()
) -> GroupJudge:
    judge = GroupJudge(keys, lambda did, partition: did in held and partition == 0)
    judge.begin(batch)
    return judge


def test_a_group_is_judged_when_its_first_frame_is_asked_for() -> None:
    keys = _Keys(SIGNER.key)
    batch = _messages(*[_COMMIT] * (GROUP_COUNT + 1))
    judge = _judge(keys, batch)
    for number, message in enumerate(batch):
        source, verdict = judge.judge(message)
        assert source.message is message
        assert isinstance(verdict, Proven)
        assert len(keys.asked) == GROUP_COUNT + (number == GROUP_COUNT)


def test_a_group_ends_when_it_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "GROUP_BYTES", len(_COMMIT) + 1)
    keys = _Keys(SIGNER.key)
    batch = _messages(*[_COMMIT] * 4)
    _judge(keys, batch).judge(batch[0])
    assert len(keys.asked) == 2


def test_what_an_announcement_changes_counts_for_the_next_frame() -> None:
    keys = _Keys(SIGNER.key)
    batch = _messages(_COMMIT, _IDENTITY, _COMMIT)
    judge = _judge(keys, batch)
    assert isinstance(judge.judge(batch[0])[1], Proven)
    assert isinstance(judge.judge(batch[1])[1], Unsigned)
    keys.exchange(OTHER_SIGNER.key)
    _, verdict = judge.judge(batch[2])
    assert isinstance(verdict, Refused)
    assert verdict.error.reason is Reason.SIGNATURE_INVALID


def test_an_announcement_at_the_beginning_is_a_group_of_its_own() -> None:
    keys = _Keys(SIGNER.key)
    batch = _messages(_IDENTITY, _COMMIT)
    judge = _judge(keys, batch)
    judge.judge(batch[0])
    assert keys.asked == []


def test_who_is_not_known_now_is_told_at_its_turn_and_alone() -> None:
    keys = _Keys(SIGNER.key)
    batch = _messages(_COMMIT, b"no frame") + _messages(_COMMIT, did=OTHER_DID)
    keys.exchange(IdentityUnavailableError("away"))
    judge = _judge(keys, batch)
    with pytest.raises(IdentityUnavailableError, match="away"):
        judge.judge(batch[0])
    assert isinstance(judge.judge(batch[1])[1], Refused)
    with pytest.raises(IdentityUnavailableError, match="away"):
        judge.judge(batch[2])


def test_frames_that_have_to_wait_are_not_judged_ahead() -> None:
    keys = _Keys(SIGNER.key)
    batch = [*_messages(_COMMIT), *_messages(_COMMIT, did=OTHER_DID), *_messages(_COMMIT)]
    judge = _judge(keys, batch, held=[OTHER_DID])
    judge.judge(batch[0])
    assert len(keys.asked) == 2
    assert isinstance(judge.judge(batch[2])[1], Proven)  # the one between is left out
    assert len(keys.asked) == 2


def test_a_frame_that_was_put_off_is_judged_when_it_no_longer_waits() -> None:
    keys = _Keys(SIGNER.key)
    held: list[Did] = [Did(OTHER_DID)]
    batch = [*_messages(_COMMIT), *_messages(_COMMIT, did=OTHER_DID)]
    judge = _judge(keys, batch, held)
    judge.judge(batch[0])
    held.clear()
    assert isinstance(judge.judge(batch[1])[1], Proven)


def test_a_new_batch_forgets_what_was_judged() -> None:
    keys = _Keys(SIGNER.key)
    batch = _messages(_COMMIT, _COMMIT)
    judge = _judge(keys, batch)
    judge.judge(batch[0])
    keys.exchange(OTHER_SIGNER.key)
    judge.begin(batch[1:])
    assert isinstance(judge.judge(batch[1])[1], Refused)
