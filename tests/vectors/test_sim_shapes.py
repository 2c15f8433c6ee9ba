"""Generated frames beside those of the reference server: the same fields, written the same way."""

from io import BytesIO
from pathlib import Path
from typing import Any

import cbor2
import pytest
from support.network import LIVELY, make_events
from support.oracle import dag_cbor

from pipelines.captures import read_frames
from pipelines.sim.mix import Settings
from pipelines.subscriptions import error_frame, info_frame

pytestmark = [pytest.mark.shared]

FRAMES = [event.frame for event in make_events(Settings(accounts_count=20, mix=LIVELY), 2_500)]


def _items(frame: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    stream = cbor2.CBORDecoder(BytesIO(frame))
    return stream.decode(), stream.decode()


def _shape(frame: bytes) -> str:
    """Returns the names in a frame in their order, and the kinds of their values."""
    header, payload = _items(frame)
    ops = sorted({str(_kinds(op)) for op in payload.get("ops", [])})
    return f"{header} {_kinds(payload)} {ops}"


def _kinds(fields: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (name, repr(value) if isinstance(value, bool | None) else type(value).__name__)
        for name, value in fields.items()
    ]


def test_every_shape_is_one_that_the_reference_server_sends(shared_data: Path) -> None:
    recorded = {_shape(f) for f in read_frames(shared_data / "pds-corpus" / "frames.bin")}
    assert {_shape(frame) for frame in FRAMES} <= recorded


@pytest.mark.usefixtures("shared_data")
def test_the_encoding_is_canonical() -> None:
    """spec: J-03: although it is written without sorting."""
    for frame in [*FRAMES, info_frame("Name", "text"), error_frame("Name", "text")]:
        header, payload = _items(frame)
        assert frame == dag_cbor(header) + dag_cbor(payload)
