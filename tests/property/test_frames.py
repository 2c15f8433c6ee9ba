"""Frames on any input: a message, or a refusal of one family, and the same from the judge."""

from hypothesis import given
from hypothesis import strategies as st
from property import strategies
from support.oracle import dag_cbor
from support.repo import DID, ScriptedKeys, make_step, outcome
from support.wire import START_TIME, START_US, frame

from pipelines.atproto.errors import FrameError, ProtocolError, Reason
from pipelines.atproto.frames import MAX_SEQ, Kind, parse_envelope, parse_frame
from pipelines.verdict import Proven, Refused, judge_frame

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
