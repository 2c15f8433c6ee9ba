"""A CAR kept aside: in memory as long as it is small, then in a file."""

import tempfile
from typing import Any

import pytest

from pipelines.atproto.spill import Spill


@pytest.mark.parametrize(("byte_count", "is_filed"), [(2_097_152, False), (2_097_153, True)])
def test_a_file_is_opened_for_what_is_larger_than_2_mib(
    monkeypatch: pytest.MonkeyPatch, byte_count: int, is_filed: bool
) -> None:
    opened = []
    make = tempfile.TemporaryFile

    def remember(**settings: Any) -> Any:
        opened.append(make(**settings))
        return opened[-1]

    monkeypatch.setattr(tempfile, "TemporaryFile", remember)
    raw = bytes(range(256)) * (byte_count // 256) + b"\x01" * (byte_count % 256)
    spill = Spill()
    for start in range(0, byte_count, 99_999):
        spill.write(raw[start : start + 99_999])
    assert b"".join(spill.pieces()) == raw
    assert spill.byte_count == byte_count
    assert len(opened) == is_filed
    spill.close()
    assert all(file.closed for file in opened)
