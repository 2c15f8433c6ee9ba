"""Kills and full disks, at each call that makes something last."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

Call = Callable[..., Any]
Fault = Callable[[Call, tuple[Any, ...]], Any]


class KilledError(BaseException):
    """Stands for a SIGKILL: nothing behind it is carried out."""


def killed_before(_call: Call, _arguments: tuple[Any, ...]) -> Any:
    """A kill, and the call has not begun."""
    raise KilledError


def killed_after(call: Call, arguments: tuple[Any, ...]) -> Any:
    """A kill, and the call is done."""
    call(*arguments)
    raise KilledError


def full(_call: Call, _arguments: tuple[Any, ...]) -> Any:
    """The disk takes no more."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


FAULTS: tuple[Fault, ...] = (killed_before, killed_after, full)


@contextmanager
def striking(fault: Fault, number: int) -> Iterator[list[int]]:
    """Lets a fault strike one call, and waits for no disk.

    Args:
        fault: what happens.
        number: of the call, counted from 1; 0 for none.

    Yields:
        The number of calls so far, in a list of one.
    """
    calls = [0]

    def struck(call: Call) -> Call:
        def strike_or_call(*arguments: Any) -> Any:
            calls[0] += 1
            return fault(call, arguments) if calls[0] == number else call(*arguments)

        return strike_or_call

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", struck(lambda _: None))
        for name in ("rename", "replace", "unlink"):
            patch.setattr(Path, name, struck(getattr(Path, name)))
        yield calls
