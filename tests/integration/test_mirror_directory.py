"""Reading a directory's export over HTTP: pages, pauses, ends, and what is no export."""

import asyncio
import gzip
import itertools
import json
import threading
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from aiohttp import web
from support.web import Handler, Server, answer, with_server

from pipelines.errors import ConfigError
from pipelines.identity import fetching, pace
from pipelines.mirror import directory as directory_module
from pipelines.mirror.directory import DirectoryExport
from pipelines.mirror.export import FIRST, PAGE_LINES
from pipelines.mirror.source import Chunk

_COUNT = 2 * PAGE_LINES + 10
_DAY = [
    f"2026-01-01T{hour:02}:{minute:02}:{second:02}.000Z"
    for hour, minute, second in itertools.product(range(2), range(60), range(60))
]


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "RETRY_DELAY_S", 0.01)
    monkeypatch.setattr(pace, "MIN_PAUSE_S", 0.05)
    monkeypatch.setattr(directory_module, "MIN_PAUSE_S", 0.05)
    monkeypatch.setattr(directory_module, "POLL_INTERVAL_S", 0.05)


def _sequenced(count: int) -> list[dict[str, Any]]:
    return [{"seq": seq, "createdAt": _DAY[seq]} for seq in range(1, count + 1)]


def _by_seq(lines: list[dict[str, Any]]) -> Handler:
    """A directory that numbers its operations; new ones may be put into the list."""

    async def handler(request: web.Request) -> web.StreamResponse:
        after, count = int(request.query["after"]), int(request.query["count"])
        return _page(lines[after : after + count])

    return handler


def _by_time(times: list[str]) -> Handler:
    """A directory of old: it takes every position for a time."""

    async def handler(request: web.Request) -> web.StreamResponse:
        after = request.query["after"] if request.query["after"] != FIRST else ""
        later = [{"createdAt": time} for time in times if time > after]
        return _page(later[: int(request.query["count"])])

    return handler


def _page(lines: Iterable[dict[str, Any]]) -> web.Response:
    return web.Response(text="\n".join(map(json.dumps, lines)))


def _in_turn(*handlers: Handler) -> Handler:
    """Answers in one way after the other, and in the last way from then on."""
    left = itertools.chain(handlers, itertools.repeat(handlers[-1]))

    async def handler(request: web.Request) -> web.StreamResponse:
        return await next(left)(request)

    return handler


def _play(handler: Handler, story: Callable[[DirectoryExport, Server], None]) -> None:
    async def in_thread(server: Server) -> None:
        export = DirectoryExport(f"{server.url}/plc/", per_s=1_000, follows=False)
        await asyncio.to_thread(story, export, server)

    with_server(handler, in_thread)


def _read(export: DirectoryExport, position: str = FIRST) -> list[Chunk]:
    return list(export.chunks(position, threading.Event()))


def _lines(chunks: Iterable[Chunk]) -> list[Any]:
    return [line for chunk in chunks for line in chunk.lines]


def test_pages_follow_each_other_to_the_end() -> None:
    """Spec: L-12."""
    lines = _sequenced(_COUNT)

    def story(export: DirectoryExport, server: Server) -> None:
        chunks = _read(export)
        assert _lines(chunks) == lines
        assert [chunk.position for chunk in chunks] == ["1000", "2000", "2010"]
        assert [chunk.is_last for chunk in chunks] == [False, False, True]
        shares = [chunk.share for chunk in chunks if chunk.share is not None]
        assert shares == sorted(shares)
        assert shares[0] == pytest.approx(1000 / _COUNT, abs=0.3)
        assert shares[-1] <= 1
        pages = [path for path in server.paths if "count=1000" in path]
        assert pages == [f"/plc/export?count=1000&after={after}" for after in (0, 1000, 2000)]
        assert len(server.connections) == 1

    _play(_by_seq(lines), story)


def test_it_goes_on_where_it_was() -> None:
    lines = _sequenced(_COUNT)

    def story(export: DirectoryExport, _server: Server) -> None:
        assert _lines(_read(export, "2003")) == lines[2003:]
        (chunk,) = _read(export, "2010")
        assert (chunk.lines, chunk.position, chunk.is_last) == ([], "2010", True)

    _play(_by_seq(lines), story)


def test_a_directory_without_numbers_is_read_by_time() -> None:
    """Spec: L-12: no operation is lost where a page ends between some of one time."""
    times = sorted([*_DAY[:998], *_DAY[998:1100], *[_DAY[999]] * 5])

    def story(export: DirectoryExport, _server: Server) -> None:
        chunks = _read(export)
        # Those of the border come twice.
        seen = [line["createdAt"] for line in _lines(chunks)]
        assert {time: seen.count(time) >= times.count(time) for time in times} == dict.fromkeys(
            times, True
        )
        assert len(seen) < len(times) + 10
        assert chunks[0].position == _DAY[998]
        assert all(chunk.share is None for chunk in chunks)

    _play(_by_time(times), story)


@pytest.mark.parametrize(
    "fault",
    [
        answer(503),
        answer(500),
        answer(429, Retry_After="0"),
        answer(200, "<html>"),
        answer(200, '{"seq": 1}\n{"se'),
        answer(200, '{"seq": 0}'),
    ],
    ids=["503", "500", "429", "no JSON", "cut off", "not going on"],
)
def test_a_fault_is_waited_out(fault: Handler) -> None:
    """Spec: E-18, L-16: also in the middle; nothing is lost and nothing comes twice."""
    lines = _sequenced(_COUNT)
    directory = _by_seq(lines)

    def story(export: DirectoryExport, _server: Server) -> None:
        assert _lines(_read(export)) == lines

    _play(_in_turn(fault, directory, fault, fault, directory), story)


def test_the_end_need_not_be_known() -> None:
    """The look for it meets a fault: then there is no estimate, and all lines come."""
    lines = _sequenced(_COUNT)
    directory = _by_seq(lines)

    async def handler(request: web.Request) -> web.StreamResponse:
        if request.query["count"] == "1":
            return web.Response(status=503)
        return await directory(request)

    def story(export: DirectoryExport, _server: Server) -> None:
        chunks = _read(export)
        assert _lines(chunks) == lines
        assert {chunk.share for chunk in chunks} == {None}

    _play(handler, story)


def test_an_end_that_is_nowhere_is_not_looked_for_for_ever() -> None:
    """A directory that has more after every number, when it is asked for one line."""
    lines = _sequenced(_COUNT)
    directory = _by_seq(lines)

    async def handler(request: web.Request) -> web.StreamResponse:
        if request.query["count"] == "1":
            return web.json_response(lines[0])
        return await directory(request)

    def story(export: DirectoryExport, server: Server) -> None:
        chunks = _read(export)
        assert _lines(chunks) == lines
        assert {chunk.share for chunk in chunks} == {None}
        asked = [path for path in server.paths if "count=1&" in path]
        assert 10 < len(asked) < 60  # doubled each time

    _play(handler, story)


@pytest.mark.parametrize(
    ("handler", "complaint"),
    [
        (answer(404), "there is no directory with an export"),
        (answer(200, "<html>"), "export is not that of a directory: not JSON"),
    ],
)
def test_what_is_no_directory_is_said_soon(handler: Handler, complaint: str) -> None:
    def story(export: DirectoryExport, _server: Server) -> None:
        with pytest.raises(ConfigError, match=complaint):
            _read(export)

    _play(handler, story)


def test_a_page_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spec: M-21: compressed, too."""
    monkeypatch.setattr(directory_module, "MAX_PAGE_BYTES", 100_000)
    bomb = gzip.compress(bytes(10_000_000))

    def story(export: DirectoryExport, _server: Server) -> None:
        with pytest.raises(ConfigError, match="is larger than 100000 bytes"):
            _read(export)

    _play(answer(200, bomb, Content_Encoding="gzip"), story)
    _play(answer(200, bytes(200_000)), story)


def test_a_compressed_page_is_read() -> None:
    page = gzip.compress(b'{"seq": 1}')

    def story(export: DirectoryExport, _server: Server) -> None:
        assert _lines(_read(export)) == [{"seq": 1}]

    _play(answer(200, page, Content_Encoding="gzip"), story)


def test_following_waits_for_more_until_a_stop() -> None:
    lines = _sequenced(3)
    stop = threading.Event()

    async def run(server: Server) -> None:
        export = DirectoryExport(server.url, per_s=1_000, follows=True)

        def follow() -> list[Chunk]:
            seen = []
            for chunk in export.chunks(FIRST, stop):
                seen.append(chunk)
                if len(lines) == 3:
                    lines.extend(_sequenced(5)[3:])
                elif chunk.position == "5":
                    stop.set()
            return seen

        seen = await asyncio.to_thread(follow)
        assert [line["seq"] for line in _lines(seen)] == [1, 2, 3, 4, 5]
        assert all(chunk.is_last for chunk in seen)

    with_server(_by_seq(lines), run)


def test_a_stop_does_not_wait_for_a_page() -> None:
    stop = threading.Event()
    is_asked = threading.Event()

    async def never(_request: web.Request) -> web.StreamResponse:
        is_asked.set()
        await asyncio.sleep(3_600)
        raise AssertionError("the request was given up long ago")

    async def run(server: Server) -> None:
        export = DirectoryExport(server.url, per_s=1_000, follows=False)
        reading = asyncio.create_task(asyncio.to_thread(lambda: list(export.chunks(FIRST, stop))))
        await asyncio.to_thread(is_asked.wait)
        stop.set()
        assert await reading == []

    with_server(never, run)


def test_an_address_that_is_none_is_wrong_usage() -> None:
    with pytest.raises(ConfigError, match="not of the form"):
        DirectoryExport("plc.directory", per_s=1, follows=False)
