"""`standpipe capture` against a relay on loopback: what is kept, and what is said on failure."""

import asyncio
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from aiohttp import web

from pipelines.captures import CaptureError, read_frames
from pipelines.relay import SUBSCRIBE_PATH
from pipelines.sim.network import CapturedNetwork, captured_frames, load_network
from pipelines.sim.ports import CursorHabit
from pipelines.sim.service import SimServer
from pipelines.sim.state import Faults

STANDPIPE = Path(sys.executable).with_name("standpipe")
DEADLINE_S = 30.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@pytest.fixture(scope="module")
def network(capture_folder: Path) -> CapturedNetwork:
    return load_network(capture_folder)


@pytest.fixture(scope="module")
def sim(network: CapturedNetwork) -> Iterator[SimServer]:
    with SimServer(network) as server:
        yield server


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out.bin"


def start(relay: str, path: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(STANDPIPE), "capture", "--relay", relay, "--out", str(path), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def capture(relay: str, path: Path, *options: str) -> tuple[int, str, str]:
    with start(relay, path, *options) as process:
        try:
            stdout, stderr = process.communicate(timeout=DEADLINE_S)
        finally:
            process.kill()
        return process.returncode, stdout, stderr


def size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def wait_for_size(path: Path, size: int) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while size_of(path) <= size:
        assert time.monotonic() < deadline, f"{path} does not grow"
        time.sleep(0.005)


@contextmanager
def host(handler: Handler) -> Iterator[str]:
    """A host on loopback that answers every request with a handler; yields `127.0.0.1:port`."""
    loop = asyncio.new_event_loop()
    app = web.Application()
    app.router.add_get("/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)

    async def listen() -> int:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port: int = runner.addresses[0][1]
        return port

    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        port = asyncio.run_coroutine_threadsafe(listen(), loop).result(DEADLINE_S)
        yield f"127.0.0.1:{port}"
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(DEADLINE_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(DEADLINE_S)
        loop.close()


def test_frames_are_kept_byte_for_byte(
    sim: SimServer, network: CapturedNetwork, capture_folder: Path, path: Path
) -> None:
    code, stdout, stderr = capture(sim.addresses.relay, path, "--cursor", "0", "--limit", "501")
    assert (code, stderr) == (0, "")
    assert path.read_bytes() == (capture_folder / "frames.bin").read_bytes()
    size = path.stat().st_size - 4 * 501
    last_seq = network.frames[-1].seq
    assert stdout == f"recorded 501 frames, {size} bytes, last seq {last_seq} → {path}\n"


@pytest.mark.parametrize("habit", CursorHabit)
def test_a_capture_is_continued_after_its_cursor(
    network: CapturedNetwork, capture_folder: Path, path: Path, habit: CursorHabit
) -> None:
    captured = list(read_frames(capture_folder / "frames.bin"))
    seqs = [frame.seq for frame in network.frames]
    with SimServer(network, cursor_habit=habit) as sim:
        capture(sim.addresses.relay, path, "--cursor", "0", "--limit", "100")
        # A relay of the inclusive habit sends the frame again: a capture keeps what came.
        again = 1 if habit is CursorHabit.INCLUSIVE else 0
        options = ("--append", "--cursor", str(seqs[99]), "--limit", "50")
        code, stdout, _ = capture(sim.addresses.relay, path, *options)
    assert code == 0
    assert stdout.startswith("recorded 50 frames")
    assert list(read_frames(path)) == captured[:100] + captured[100 - again : 150 - again]


def test_an_existing_file_is_kept_unless_told_to_append(sim: SimServer, path: Path) -> None:
    path.write_bytes(b"precious")
    code, stdout, stderr = capture(sim.addresses.relay, path, "--cursor", "0", "--limit", "1")
    assert (code, stdout) == (1, "recorded no frames\n")
    assert (
        stderr == f"Error: {path}: exists already: append to it (--append), or name another file\n"
    )
    assert path.read_bytes() == b"precious"


def test_it_stops_when_the_time_is_over(
    sim: SimServer, network: CapturedNetwork, path: Path
) -> None:
    code, stdout, stderr = capture(sim.addresses.relay, path, "--cursor", "0", "--seconds", "1")
    assert (code, stderr) == (0, "")
    # How many there were in a second is the machine's affair.
    kept = list(read_frames(path)) if path.exists() else []
    assert kept == [frame.message for frame in network.frames[: len(kept)]]
    assert stdout.startswith(f"recorded {len(kept) or 'no'} frame")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly(
    network: CapturedNetwork, capture_folder: Path, path: Path, number: signal.Signals
) -> None:
    captured = list(read_frames(capture_folder / "frames.bin"))
    with SimServer(network, rate=200) as sim, start(sim.addresses.relay, path) as process:
        try:
            wait_for_size(path, 10_000)
            process.send_signal(number)
            stdout, stderr = process.communicate(timeout=DEADLINE_S)
        finally:
            process.kill()
    kept = list(read_frames(path))
    assert process.returncode == 0
    assert stderr == ""
    assert kept == captured[: len(kept)]
    assert stdout.startswith(f"recorded {len(kept)} frames, {sum(map(len, kept))} bytes, last seq")


def test_a_killed_capture_is_continued_after_its_last_whole_frame(
    network: CapturedNetwork, capture_folder: Path, path: Path
) -> None:
    captured = list(read_frames(capture_folder / "frames.bin"))
    whole = 0
    for available in (100, 200, 300):
        size = size_of(path)
        part = CapturedNetwork(network.frames[:available])
        with (
            SimServer(part) as sim,
            start(sim.addresses.relay, path, *continue_after(network, whole)) as process,
        ):
            wait_for_size(path, size + 5_000)
            process.kill()
        # What a kill in the middle of a write may leave behind.
        with path.open("ab") as file:
            file.write(b"\x00\x00\x10\x00torn")
        whole = count_whole_frames(path)
    options = (*continue_after(network, whole), "--limit", str(len(captured) - whole))
    with SimServer(network) as sim:
        code, _, stderr = capture(sim.addresses.relay, path, *options)
    assert code == 0
    assert stderr == f"{path} ended inside a frame: cut off 8 bytes after {whole} whole frames\n"
    assert list(read_frames(path)) == captured


def continue_after(network: CapturedNetwork, frame_count: int) -> tuple[str, ...]:
    seq = network.frames[frame_count - 1].seq if frame_count else 0
    return ("--append", "--cursor", str(seq))


def count_whole_frames(path: Path) -> int:
    with pytest.raises(CaptureError, match="truncated") as caught:
        list(read_frames(path))
    assert caught.value.frame_count is not None
    return caught.value.frame_count


def test_the_progress_is_shown_on_a_terminal(sim: SimServer, path: Path) -> None:
    ours, theirs = pty.openpty()
    options = ("--relay", sim.addresses.relay, "--out", str(path), "--cursor", "0")
    with subprocess.Popen(
        [str(STANDPIPE), "capture", *options],
        stdout=subprocess.PIPE,
        stderr=theirs,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "200"},
    ) as process:
        try:
            shown = b""
            deadline = time.monotonic() + DEADLINE_S
            while not re.search(rb"501 frames, \d+ bytes, last seq \d+", shown):
                assert time.monotonic() < deadline, shown
                if select.select([ours], [], [], 0.1)[0]:
                    shown += os.read(ours, 10_000)
            process.send_signal(signal.SIGINT)
            stdout, _ = process.communicate(timeout=DEADLINE_S)
        finally:
            process.kill()
            os.close(theirs)
            os.close(ours)
    assert stdout.startswith(b"recorded 501 frames")


def test_a_relay_that_goes_away_says_how_to_continue(network: CapturedNetwork, path: Path) -> None:
    with SimServer(network, faults=Faults(drop_after_count=7)) as sim:
        code, stdout, stderr = capture(sim.addresses.relay, path)
    assert code == 1
    assert stdout.startswith("recorded 7 frames")
    seq = network.frames[6].seq
    assert stderr == (
        "Error: the relay closed the connection (code 1006): "
        f"continue with --append --cursor {seq}\n"
    )
    assert len(list(read_frames(path))) == 7


def test_an_error_frame_is_kept_and_said(sim: SimServer, path: Path) -> None:
    """spec: F-14, F-25."""
    code, stdout, stderr = capture(sim.addresses.relay, path, "--cursor", "999999999")
    assert code == 1
    assert stdout.startswith("recorded 1 frame, ")
    assert stderr == "Error: the relay ended the stream: FutureCursor (Cursor in the future.)\n"
    assert len(list(read_frames(path))) == 1


def test_garbage_is_kept_and_text_is_not_an_event_stream(path: Path) -> None:
    """spec: F-10."""
    frames = captured_frames([b"\xff\xfe", b"", "text", b"after"])
    with SimServer(CapturedNetwork(frames)) as sim:
        code, stdout, stderr = capture(sim.addresses.relay, path)
    assert code == 1
    assert stdout == f"recorded 2 frames, 2 bytes, no sequence number → {path}\n"
    assert "the host sent text, an event stream is binary" in stderr
    assert list(read_frames(path)) == [b"\xff\xfe", b""]


def test_a_message_over_the_limit_ends_the_capture(path: Path) -> None:
    frames = captured_frames([b"small", bytes(16 * 1024 * 1024 + 1)])
    with SimServer(CapturedNetwork(frames)) as sim:
        code, _, stderr = capture(sim.addresses.relay, path)
    assert code == 1
    assert "the stream broke" in stderr
    assert list(read_frames(path)) == [b"small"]


def test_the_longest_message_is_kept(path: Path) -> None:
    longest = bytes(16 * 1024 * 1024)
    with SimServer(CapturedNetwork(captured_frames([longest]))) as sim:
        code, _, _ = capture(sim.addresses.relay, path, "--limit", "1")
    assert code == 0
    assert list(read_frames(path)) == [longest]


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (200, "answered with a page (HTTP 200) instead of a stream"),
        (400, "refused the request (HTTP 400): check the cursor"),
        (404, "has no event stream there (HTTP 404)"),
        (426, "has no event stream there (HTTP 426)"),
        (429, "(HTTP 429): try again later"),
        (503, "(HTTP 503): try again later"),
    ],
)
def test_a_host_that_is_no_relay_is_told_apart(path: Path, status: int, sentence: str) -> None:
    """spec: F-02."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, text="<html>hello</html>", content_type="text/html")

    with host(answer) as address:
        code, stdout, stderr = capture(address, path)
    assert (code, stdout) == (1, "recorded no frames\n")
    assert stderr.startswith(f"Error: ws://{address}{SUBSCRIBE_PATH}: the host ")
    assert sentence in stderr
    assert not path.exists()


def test_a_redirect_is_followed(sim: SimServer, path: Path) -> None:
    """spec: F-03."""

    async def redirect(request: web.Request) -> web.Response:
        target = sim.addresses.relay.replace("ws:", "http:") + request.raw_path
        raise web.HTTPFound(target)

    with host(redirect) as address:
        code, _, _ = capture(address, path, "--cursor", "0", "--limit", "2")
    assert code == 0
    assert len(list(read_frames(path))) == 2


def test_a_port_that_nothing_listens_on_is_named(path: Path) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        code, stdout, stderr = capture(f"127.0.0.1:{port}", path)
    assert (code, stdout) == (1, "recorded no frames\n")
    assert f"nothing listens on port {port} of 127.0.0.1: check host and port" in stderr
    assert not path.exists()


def test_a_host_that_speaks_no_tls_or_no_http_is_named(sim: SimServer, path: Path) -> None:
    tls = sim.addresses.relay.replace("ws:", "wss:")
    code, _, stderr = capture(tls, path)
    assert code == 1
    assert "the host does not speak TLS on this port" in stderr
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=greet, args=(server,), daemon=True)
        thread.start()
        code, _, stderr = capture(f"127.0.0.1:{server.getsockname()[1]}", path)
        thread.join(DEADLINE_S)
    assert code == 1
    assert "the host does not speak HTTP: check the port" in stderr


def greet(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection:
        connection.recv(10_000)
        connection.sendall(b"220 mail.example ready\r\n")


@pytest.mark.parametrize("address", ["ftp://relay.example", "wss://", "relay.example/feed"])
def test_what_is_no_address_is_wrong_usage(path: Path, address: str) -> None:
    code, stdout, stderr = capture(address, path)
    assert (code, stdout) == (2, "")
    assert stderr.startswith(f"Error: {address!r} is not the address of a relay: ")
    assert not path.exists()


def test_the_capture_is_what_the_simulator_serves(
    sim: SimServer, network: CapturedNetwork, capture_folder: Path, tmp_path: Path
) -> None:
    """A recorded stream, served again, is recorded as the same stream."""
    capture(sim.addresses.relay, tmp_path / "frames.bin", "--cursor", "0", "--limit", "501")
    identities = capture_folder / "identities.jsonl"
    (tmp_path / "identities.jsonl").write_bytes(identities.read_bytes())
    assert load_network(tmp_path) == CapturedNetwork(network.frames, network.identities)
