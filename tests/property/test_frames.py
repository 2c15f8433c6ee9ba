"""Frames on any input: a message, or a refusal of one family, and the same from the judge."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from property import strategies
from support.oracle import dag_cbor
from support.repo import DID, OTHER_SIGNER, SIGNER, ScriptedKeys, make_step, outcome
from support.wire import START_TIME, START_US, frame

from pipelines.atproto.errors import FrameError, ProtocolError, Reason
from pipelines.atproto.frames import MAX_SEQ, Kind, parse_envelope, parse_frame
from pipelines.atproto.keys import VerifyingKey
from pipelines.atproto.syntax import Did
from pipelines.errors import IdentityUnavailableError
from pipelines.verdict import Arrival, Proven, Refused, Verdict, judge_frame, judge_frames

_STEP = make_step()
_HONEST = (
    _STEP.frame(),
    _STEP.sync_frame(),
    frame("#identity", {"seq": 1, "did": DID, "time": START_TIME, "handle": "alice.test"}),
    frame("#account", {"seq": 1, "did": DID, "time": START_TIME, "active": True}),
    frame("#info", {"name": "OutdatedCursor"}),
)
_FIELDS = sorted(_STEP.payload())
_ANY_FRAME = st.one_of(
    st.binary(max_size=200),
    st.sampled_from(_HONEST).flatmap(strategies.damaged),
    # Well-formed, with any value in any field: what damaged bytes practically never are.
    st.builds(
        lambda field, value: frame("#commit", _STEP.payload(**{field: value})),
        st.sampled_from(_FIELDS),
        strategies.dag_values,
    ),
    st.builds(
        lambda header, payload: dag_cbor(header) + dag_cbor(payload),
        strategies.dag_values,
        strategies.dag_values,
    ),
)


@given(raw=_ANY_FRAME)
def test_any_bytes_are_a_message_or_refused(raw: bytes) -> None:
    message = outcome(lambda: parse_frame(raw), FrameError)
    assert isinstance(message, Reason) or message.kind in Kind


@given(raw=_ANY_FRAME)
def test_an_envelope_names_who_and_when_or_is_refused(raw: bytes) -> None:
    envelope = outcome(lambda: parse_envelope(raw), FrameError)
    if isinstance(envelope, Reason):
        assert envelope.startswith("frame.")
        return
    assert envelope.seq is None or 0 < envelope.seq <= MAX_SEQ
    if envelope.kind in {Kind.COMMIT, Kind.SYNC, Kind.IDENTITY, Kind.ACCOUNT}:
        assert envelope.seq is not None
        assert envelope.did is not None


@given(raw=_ANY_FRAME)
def test_any_bytes_have_a_verdict(raw: bytes) -> None:
    """What is proven from damaged bytes is what the honest frame says."""
    verdict = judge_frame(raw, ScriptedKeys(), START_US)
    if isinstance(verdict, Proven):
        assert verdict.verified.commit.block == _STEP.commit
    if isinstance(verdict, Refused):
        assert isinstance(verdict.error, ProtocolError)
        assert str(verdict.error).startswith(verdict.error.reason)


class _RenewedKeys(ScriptedKeys):
    """Keys of which the current one is wrong, or not known yet, until it is refreshed."""

    def __init__(self, current: VerifyingKey | Exception) -> None:
        super().__init__(current, refreshed=SIGNER.key)

    def refreshed_key(self, did: Did, since_us: int | None) -> VerifyingKey | None:
        self._current = SIGNER.key
        return super().refreshed_key(did, since_us)


def _shown(verdict: Verdict | IdentityUnavailableError) -> Any:
    """Returns what can be compared: errors are different objects each time."""
    if isinstance(verdict, IdentityUnavailableError):
        return str(verdict)
    if isinstance(verdict, Refused):
        return verdict.error.reason, verdict.error.detail, verdict.envelope, verdict.authentic
    return verdict


def _one_by_one(frames: list[bytes], keys: ScriptedKeys) -> list[Any]:
    verdicts: list[Verdict | IdentityUnavailableError] = []
    for raw in frames:
        try:
            verdicts.append(judge_frame(raw, keys, START_US))
        except IdentityUnavailableError as error:
            verdicts.append(error)
    return [_shown(verdict) for verdict in verdicts]


@given(
    frames=st.lists(st.one_of(st.sampled_from(_HONEST), _ANY_FRAME), max_size=8),
    current=st.sampled_from(
        [SIGNER.key, OTHER_SIGNER.key, IdentityUnavailableError("the directory is down")]
    ),
)
def test_a_group_is_judged_like_its_frames_one_by_one(
    frames: list[bytes], current: VerifyingKey | Exception
) -> None:
    """Also the keys are asked for in the same order, which may change what they answer."""
    alone, together = _RenewedKeys(current), _RenewedKeys(current)
    verdicts = judge_frames([Arrival(raw, START_US) for raw in frames], together)
    assert [_shown(verdict) for verdict in verdicts] == _one_by_one(frames, alone)
    assert together.asked == alone.asked
