"""How the window of a replay is written on the command line."""

import re
from typing import NamedTuple

import click

from pipelines.cli.options import TIME
from pipelines.replay.window import NO_END, Range

_match_row = re.compile(r"(\d{0,16})\.\.(\d{0,16})").fullmatch
_match_offsets = re.compile(r"(\d{1,6}):(\d{1,18})\.\.(\d{0,18})").fullmatch


class GivenTime(NamedTuple):
    """A moment, as it was written and in milliseconds since 1970."""

    text: str
    ms: int


class _GivenTimeType(click.ParamType):
    """A moment that can be compared with what was written another time."""

    name = "time"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> GivenTime:
        return GivenTime(str(value), TIME.convert(value, param, ctx))


class _RowType(click.ParamType):
    """A row of sequence numbers."""

    name = "A..B"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int | None, int | None]:
        found = _match_row(str(value))
        if found is None or found[0] == "..":
            self.fail(f"{value!r} is not like 1000..2000, 1000.. or ..2000", param, ctx)
        first, last = (int(text) if text else None for text in found.groups())
        return first, last


class _OffsetsType(click.ParamType):
    """A part of a partition."""

    name = "P:A..B"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, Range]:
        found = _match_offsets(str(value))
        if found is None:
            self.fail(f"{value!r} is not like 3:1000..2000 or 3:1000..", param, ctx)
        return int(found[1]), Range(int(found[2]), int(found[3]) + 1 if found[3] else NO_END)


GIVEN_TIME = _GivenTimeType()
ROW = _RowType()
OFFSETS = _OffsetsType()
