"""Whatever is given to an inspection, a report comes back: a bad thing is a failed check."""

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from property import strategies
from support.exports import export
from support.oracle import dag_cbor
from support.repo import DID, SIGNER, make_step, record

from pipelines.cli import inspect_view
from pipelines.inspection.cars import inspect_car
from pipelines.inspection.frames import inspect_frame
from pipelines.inspection.report import Report
from pipelines.inspection.values import inspect_cid, inspect_key, inspect_record, inspect_tid

_BLOCK = dag_cbor(record("hello"))
_BESIDE = {
    "uri": f"at://{DID}/com.example.note/1",
    "cid": "bafyreie5737gdxlw5i64vzichcalba3z2v5n6icifvx5xytvske7mr3hpm",
    "record": record("hello"),
    "record_cbor": None,
}
_STEP = make_step()
_EXPORT = export({f"com.example.note/{n:04}": record(f"note {n}") for n in range(12)})
_ANY_TEXT = st.one_of(
    st.text(),
    st.text(st.characters(categories=["Cs", "Cc", "Lo"])),  # as arguments that are no UTF-8 come
    st.sampled_from(["3lmxjza3nva27", str(_BESIDE["cid"]), SIGNER.key.did_key()]),
)


def _check(report: Report) -> None:
    """A report says something, and can be shown in both ways."""
    assert report.checks or report.title.endswith("a delete")
    shown = inspect_view.report_as_json(report)
    assert [check["name"] for check in orjson.loads(shown)["checks"]] == [
        check.name for check in report.checks
    ]
    for line in inspect_view.report_as_text(report):
        assert line.isprintable()
        line.encode()


@given(raw=strategies.damaged(_STEP.frame()))
def test_frames(raw: bytes) -> None:
    _check(
        inspect_frame(
            raw, signing_key=SIGNER.key, received_us=None, has_records=True, max_tree_lines=9
        )
    )


@given(raw=strategies.damaged(_EXPORT.car()), is_partial=st.booleans())
def test_cars(raw: bytes, is_partial: bool) -> None:
    _check(
        inspect_car(
            raw, signing_key=SIGNER.key, is_partial=is_partial, has_records=True, max_tree_lines=9
        )
    )


@given(
    raw=st.one_of(
        strategies.damaged(_BLOCK),
        strategies.damaged(json.dumps(_BESIDE).encode()),
        st.binary(max_size=100),
        strategies.dag_values.map(dag_cbor),
    )
)
def test_records(raw: bytes) -> None:
    _check(inspect_record(raw))


@pytest.mark.parametrize("opening", ["[", '{"a":', '{"record":'])
@pytest.mark.parametrize("count", [200, 100_000])
def test_deep_records(opening: str, count: int) -> None:
    """Spec: M-01."""
    inside = opening * count + "1" + "}" * count
    beside = json.dumps(_BESIDE)[:-1] + f', "value": {inside}' + "}"
    for text in (inside, beside.replace('"record":', '"other":', 1)):
        _check(inspect_record(text.encode()))


@given(text=_ANY_TEXT, block=st.none() | st.binary())
def test_small_things(text: str, block: bytes | None) -> None:
    _check(inspect_tid(text, 0))
    _check(inspect_cid(text, block))
    _check(inspect_key(text, None))
    _check(inspect_key(text, "p256"))
