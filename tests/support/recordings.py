"""Recorded networks: frames and the keys of their signers."""

from functools import cache
from pathlib import Path
from typing import NamedTuple

from pipelines.captures import read_frames
from pipelines.identity.offline import OfflineKeys


class Recording(NamedTuple):
    """The frames of a capture in order, and the identities that came with them."""

    frames: tuple[bytes, ...]
    keys: OfflineKeys


@cache
def load_recording(folder: Path) -> Recording:
    """Reads a capture; once, since many tests look at the same."""
    return Recording(
        tuple(read_frames(folder / "frames.bin")), OfflineKeys.load(folder / "identities.jsonl")
    )
