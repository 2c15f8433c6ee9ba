"""The import over anything: chains as bytes, and lines of any JSON."""

from contextlib import suppress
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from property import strategies
from support import plc
from support.repo import OTHER_SIGNER, P256_SIGNER, SIGNER

from pipelines.atproto.cid import DAG_CBOR_PREFIX
from pipelines.identity.plc import Chain, Link
from pipelines.mirror.chains import decode_chain, encode_chain
from pipelines.mirror.export import ExportError, is_behind, position_after
from pipelines.mirror.intake import Intake

_keys = st.sampled_from([None, SIGNER.key, P256_SIGNER.key, OTHER_SIGNER.key])
_links = st.builds(
    Link,
    cid=st.binary(min_size=32, max_size=32).map(lambda digest: DAG_CBOR_PREFIX + digest),
    created_us=st.integers(-(2**62), 2**62),
    rotation_keys=st.lists(_keys, max_size=300).map(tuple),
    signer_index=st.integers(0, 7_499),
    is_tombstone=st.booleans(),
)


@given(chain=st.lists(_links, max_size=4).map(tuple))
def test_a_chain_comes_back_from_its_bytes(chain: Chain) -> None:
    assert decode_chain(encode_chain(chain)) == chain


_GENUINE = plc.log_of(plc.operation(), plc.operation())
_lines = st.one_of(
    st.dictionaries(st.text(max_size=4), strategies.json_values, max_size=5),
    st.tuples(st.sampled_from([*_GENUINE[0], "seq", "type"]), strategies.json_values).map(
        lambda change: {**_GENUINE[0], change[0]: change[1]}
    ),
    st.just(_GENUINE[0]),
)


@settings(max_examples=200)
@given(
    lines=st.lists(_lines, max_size=4),
    position=st.sampled_from(["0", "9", "2026-01-01T00:00:00Z"]),
)
def test_any_lines_are_judged_and_counted(lines: list[dict[str, Any]], position: str) -> None:
    """Whatever a directory serves is an operation, refused, or no export."""
    intake = Intake(lambda _did: ())
    refusals = intake.add(lines)
    batch = intake.take()
    tally = batch.tally
    assert tally.refused.total() == len(refusals)
    assert (
        tally.read_count
        == len(lines)
        == sum((tally.accepted_count, tally.repeated_count, tally.skipped_count, len(refusals)))
    )
    assert set(batch.changes) == set(batch.chains) <= {_GENUINE[0]["did"]}
    with suppress(ExportError):
        position_after(position, lines, is_full=False)
        for line in lines:
            is_behind(line, position)
