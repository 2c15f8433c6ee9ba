"""The export of the simulated PLC directory: every operation of every log, a page at a time.

`GET /export?count=…&after=…` answers in both forms of plc.directory: by sequence number where
`after` is one, else by time. The numbers are given when an operation is first seen here, in the
order of the times, so that they stay while a generated network goes on.

spec: L-12
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web

from pipelines.atproto.errors import IdentifierError
from pipelines.atproto.syntax import parse_datetime
from pipelines.sim.directory import check_available
from pipelines.sim.state import NETWORK

MAX_COUNT: Final = 1_000

# A line by sequence number has these members and `type` and `seq`; one by time `nullified`, too.
_MEMBERS: Final = ("did", "operation", "cid", "createdAt")


class ExportLog:
    """All operations that were seen, in the order of their sequence numbers."""

    def __init__(self) -> None:
        self._entries: list[Mapping[str, Any]] = []
        self._seen_count: dict[str, int] = {}

    def add(self, logs: Iterable[Sequence[Mapping[str, Any]]]) -> None:
        """Adds what is new in audit logs, each of which only ever grows at its end."""
        new: list[Mapping[str, Any]] = []
        for log in logs:
            if log:
                did = log[0]["did"]
                new += log[self._seen_count.get(did, 0) :]
                self._seen_count[did] = len(log)
        # Stable: operations of one time keep the order of their log.
        self._entries += sorted(new, key=lambda entry: parse_datetime(entry["createdAt"]))

    def by_seq(self, after: int, count: int) -> Iterator[dict[str, Any]]:
        """Yields the lines after a sequence number."""
        for seq, entry in enumerate(self._entries[after : after + count], start=after + 1):
            members = {name: entry[name] for name in _MEMBERS}
            yield {"type": "sequenced_op", **members, "seq": seq}

    def by_time(self, after_us: int | None, count: int) -> Iterator[dict[str, Any]]:
        """Yields the lines after a time, microseconds since the epoch; None for all."""
        for entry in self._entries:
            if count and (after_us is None or parse_datetime(entry["createdAt"]) > after_us):
                count -= 1
                yield {**{name: entry[name] for name in _MEMBERS}, "nullified": entry["nullified"]}


EXPORT = web.AppKey("export", ExportLog)


async def plc_export(request: web.Request) -> web.Response:
    """Answers with a page of the export."""
    check_available(request)
    log = request.app[EXPORT]
    log.add(request.app[NETWORK].list_logs())
    after = request.query.get("after", "")
    try:
        count = min(MAX_COUNT, int(request.query.get("count", MAX_COUNT)))
        if count < 1:
            raise ValueError("Invalid count parameter")
        if after.isascii() and after.isdecimal():
            lines = log.by_seq(int(after), count)
        else:
            lines = log.by_time(parse_datetime(after) if after else None, count)
    except (ValueError, IdentifierError) as error:
        return web.json_response({"message": str(error)}, status=HTTPStatus.BAD_REQUEST)
    # No line feed after the last one, as the directory has it.
    text = "\n".join(json.dumps(line, separators=(",", ":")) for line in lines)
    response = web.Response(text=text, content_type="application/jsonlines")
    response.enable_compression()
    return response
