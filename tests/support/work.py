"""What a call costs, counted and not timed: steps of the interpreter, and bytes of memory."""

import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pipelines

_OURS = str(Path(pipelines.__file__).parent)


def count_steps(call: Callable[[], object]) -> int:
    """Counts the lines of the project that a call runs, and the built-in functions it calls.

    What a built-in function does inside is not seen, but how often one is called is.
    """
    steps = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal steps
        if not frame.f_code.co_filename.startswith(_OURS):
            return None
        steps += event == "line"
        return trace

    def profile(frame: FrameType, event: str, _: Any) -> None:
        nonlocal steps
        steps += event == "c_call" and frame.f_code.co_filename.startswith(_OURS)

    before = sys.gettrace(), sys.getprofile()
    sys.settrace(trace)
    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(before[1])
        sys.settrace(before[0])
    return steps


def peak_bytes(call: Callable[[], object]) -> int:
    """Returns how much memory a call holds at most, in bytes, beyond what was held before."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
